use super::*;

#[test]
fn a_path_that_was_named_leads_to_the_logs_before_and_after() {
    let scratch = tempfile::tempdir().unwrap();
    let (memory, disk) = (scratch.path().join("run"), scratch.path().join("lib"));
    let of = |side| Logs::within(&memory, &disk, "m-1", side);

    let dump = of(Side::Source).of_container("redis");
    fs::create_dir_all(&dump).unwrap();
    fs::write(dump.join("dump.log"), "dumped").unwrap();
    let restore = of(Side::Destination).of_container("redis");
    fs::create_dir_all(&restore).unwrap();
    fs::write(restore.join("restore.log"), "half").unwrap();

    of(Side::Source).move_to_disk().unwrap();
    of(Side::Source).move_to_disk().unwrap();
    assert_eq!(
        fs::read(disk.join("m-1/redis/dump.log")).unwrap(),
        b"dumped"
    );
    assert_eq!(fs::read(dump.join("dump.log")).unwrap(), b"dumped");
    // The other side's are its own matter.
    assert!(!disk.join("m-1/redis/restore.log").exists());
    fs::write(restore.join("restore.log"), "whole").unwrap();
    of(Side::Destination).move_to_disk().unwrap();
    assert_eq!(fs::read(restore.join("restore.log")).unwrap(), b"whole");
    assert_eq!(
        fs::read(disk.join("m-1/redis/dump.log")).unwrap(),
        b"dumped"
    );
}

#[test]
fn without_logs_nothing_is_made() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = scratch.path().join("lib");
    let logs = Logs::within(&scratch.path().join("run"), &disk, "m-1", Side::Source);
    logs.move_to_disk().unwrap();
    assert!(!disk.exists());
}
