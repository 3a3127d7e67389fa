use super::mirror_in;

#[test]
fn finds_the_archive_in_both_formats() {
    let list = "# deb http://old.example/debian x\ndeb [arch=amd64] http://mirror.example/debian forky main\n";
    assert_eq!(mirror_in(list).unwrap(), "http://mirror.example/debian");
    let deb822 = "Types: deb\nURIs: http://mirror.example/debian/\nSuites: forky\n";
    assert_eq!(mirror_in(deb822).unwrap(), "http://mirror.example/debian/");
    assert_eq!(mirror_in("deb http://mirror.example/other x main"), None);
}
