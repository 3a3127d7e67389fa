use super::*;

#[test]
fn versions_in_words() {
    let containerd = "containerd github.com/containerd/containerd/v2 2.1.9+unknown\n";
    assert_eq!(first_version(containerd).as_deref(), Some("2.1.9+unknown"));
    assert_eq!(first_version("Version: 4.2.1\n").as_deref(), Some("4.2.1"));
    assert_eq!(numbers("1.6.20~ds1-1+deb12u3"), [1, 6, 20]);
    assert_eq!(numbers("1:4.2-1"), [4, 2]);
    assert_eq!(numbers("v2.1.9"), [2, 1, 9]);
    assert!(numbers("unknown").is_empty());
}
