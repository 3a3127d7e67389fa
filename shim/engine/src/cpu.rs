//! What of this machine decides whether a process can go on on it.

use std::collections::BTreeSet;
use std::fs;

/// Kernel release as `uname -r` shows it.
pub fn kernel() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Flags of the first CPU in /proc/cpuinfo that change which instructions a program may have
/// chosen at its start. Who restores it needs all of them.
pub fn features() -> Vec<String> {
    chosen(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

/// Beginnings of the flags' names (arch/x86/include/asm/cpufeatures.h; HWCAPs on arm64).
const RELEVANT: &[&str] = &[
    "sse", "ssse", "avx", "amx", "bmi", "fma", "adx", "aes", "sha", "vaes", "vpclmul", "gfni",
    "xsave", "popcnt", "movbe", "f16c", "lzcnt", "abm", "rdrand", "rdseed", "rdpid", "fsgsbase",
    "pku", "ospke", "erms", "fsrm", "cx16", "clwb", "asimd", "sve", "sme", "atomics", "crc32",
];

fn chosen(cpuinfo: &str) -> Vec<String> {
    let flags = cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        matches!(key.trim(), "flags" | "Features").then_some(value)
    });
    let chosen: BTreeSet<String> = flags
        .unwrap_or_default()
        .split_whitespace()
        .filter(|flag| RELEVANT.iter().any(|start| flag.starts_with(start)))
        .map(str::to_owned)
        .collect();
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests;
