use super::*;

#[test]
fn reads_what_people_write() {
    assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
    assert_eq!(duration("1.5 s"), Ok(Duration::from_millis(1500)));
    assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
    assert_eq!(size("16MiB"), Ok(16 << 20));
    assert_eq!(size("4096"), Ok(4096));
    assert_eq!(rate("8mbit"), Ok(1_000_000));
    assert_eq!(rate("10MiB/s"), Ok(10 << 20));
    assert_eq!(rate("unlimited"), Ok(0));
    assert_eq!(rate("0"), Ok(0));
}

#[test]
fn refuses_the_rest_and_says_what_is_wanted() {
    for text in ["", "ms", "-1s", "10", "1 fortnight", "1e400s", "1.2.3s"] {
        assert!(duration(text).unwrap_err().contains("300ms"), "{text}");
    }
    for text in ["", "MiB", "-3", "99999999999GiB", "12 parsecs"] {
        assert!(size(text).is_err(), "{text}");
        assert!(rate(text).is_err(), "{text}");
    }
}

#[test]
fn shows_for_people() {
    assert_eq!(show_bytes(512), "512 B");
    assert_eq!(show_bytes(92 << 20), "92.0 MiB");
    assert_eq!(show_millis(41), "41 ms");
    assert_eq!(show_millis(3210), "3.2 s");
    assert_eq!(show_millis(250_000), "4 m 10 s");
}
