use super::*;

#[test]
fn only_private_mappings_are_taken() {
    let taken = |line: &str| private(line.as_bytes());
    let both = Some((0x1000, 0x3000));
    assert_eq!(taken("1000-3000 rw-p 00000000 00:00 0 "), both);
    assert_eq!(taken("1000-3000 r-xp 00000000 fe:00 12 /usr/bin/a b"), both);
    assert_eq!(taken("1000-3000 ---p 00000000 00:00 0 [heap]"), both);
    assert_eq!(
        taken("1000-3000 rw-s 00000000 00:01 9 /dev/zero (deleted)"),
        None
    );
    for kernel in ["[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]"] {
        assert_eq!(
            taken(&format!("1000-3000 r-xp 00000000 00:00 0 {kernel}")),
            None
        );
    }
    for damaged in [
        "",
        " ",
        "1000",
        "x-3000 rw-p",
        "1000-3000 rw",
        "1000_3000 rw-p 0 0 0",
    ] {
        assert_eq!(taken(damaged), None, "{damaged:?}");
    }
}

#[test]
fn files_that_can_be_read() {
    let of = |line: &'static str| file(line.as_bytes());
    assert_eq!(
        of("1000-3000 r-xp 0001a000 fe:00 12      /usr/bin/a b"),
        Some((&b"/usr/bin/a"[..], 0x1a000))
    );
    assert_eq!(
        of("1000-3000 rw-p 00000000 00:01 9 /x (deleted)"),
        Some((&b"/x"[..], 0))
    );
    for none in [
        "1000-3000 ---p 00000000 fe:00 12 /usr/lib/c",
        "1000-3000 rw-p 00000000 00:00 0 [heap]",
        "1000-3000 rw-p 00000000 00:00 0 ",
        "1000-3000 rw-p x fe:00 12 /usr/lib/c",
        "1000-3000",
    ] {
        assert_eq!(of(none), None, "{none:?}");
    }
}
