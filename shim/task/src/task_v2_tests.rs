use super::*;

#[test]
fn both_sockets_go() {
    let directory = std::env::temp_dir().join(format!("mycedrive-v2-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let version_3 = format!("unix://{}", directory.join("socket").display());
    let version_2 = address(&version_3);
    for address in [&version_3, &version_2] {
        fs::write(path(address), "").unwrap();
    }
    remove_sockets(&version_2);
    assert!(!path(&version_3).exists() && !path(&version_2).exists());
    fs::remove_dir(&directory).unwrap();
}
