//! Dumps that go on, whoever started them.

use std::fs;

/// Whether the runtime is dumping this container. It does so to the end when who started it has died.
/// CRIU lets the container's control group run meanwhile and holds the processes itself, until it
/// freezes the group again.
pub fn dump_runs(container: &str) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    processes.flatten().any(|process| {
        let numeric = process.file_name().to_string_lossy().parse::<u32>().is_ok();
        numeric
            && fs::read(process.path().join("cmdline")).is_ok_and(|line| {
                let mut words = line.split(|byte| *byte == 0);
                words.any(|word| word == b"checkpoint")
                    && words.any(|word| word == container.as_bytes())
            })
    })
}
