//! Lines of /proc/PID/maps (proc_pid_maps(5)).

/// The addresses of a line whose memory is private. The kernel's own pages are no part of it.
pub(super) fn private(line: &[u8]) -> Option<(u64, u64)> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (addresses, rest) = line.split_at(space);
    let rest = rest.trim_ascii();
    if rest.get(3) != Some(&b'p') {
        return None;
    }
    let kernel: [&[u8]; 3] = [b"[vvar", b"[vdso", b"[vsyscall"];
    let name = rest.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    if kernel.iter().any(|kernel| name.starts_with(kernel)) {
        return None;
    }
    let (start, end) = std::str::from_utf8(addresses).ok()?.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some((address(start)?, address(end)?))
}

/// The path in such a line, if it is that of a file that can be read, and where in the file the
/// mapping begins, in bytes. A path with spaces is cut, and is then that of no file.
pub(super) fn file(line: &[u8]) -> Option<(&[u8], u64)> {
    let mut words = line
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty());
    words.nth(1).filter(|access| access.starts_with(b"r"))?;
    let offset = std::str::from_utf8(words.next()?).ok()?;
    let offset = u64::from_str_radix(offset, 16).ok()?;
    let path = words.nth(2).filter(|name| name.starts_with(b"/"))?;
    Some((path, offset))
}

#[cfg(test)]
#[path = "maps_tests.rs"]
mod tests;
