use super::*;

#[test]
fn memory_is_resident_and_swapped() {
    assert_eq!(
        in_use("VmPeak:\t 9 kB\nVmRSS:\t  120 kB\nVmSwap:\t 30 kB\n"),
        150
    );
    assert_eq!(in_use(""), 0);
    assert!(memory(std::process::id() as i32) > 100);
}

#[test]
fn what_does_not_fit_is_refused() {
    let place = Path::new("/run/images");
    enough("c", 1024, 1024, place).unwrap();
    let error = enough("c", 4096, 1024, place).unwrap_err();
    assert!(error.to_string().contains("needs about 4 MiB"), "{error}");
    check([], &std::env::temp_dir()).unwrap();
}
