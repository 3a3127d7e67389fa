use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn the_topmost_regular_file_is_taken() {
    let scratch = tempfile::tempdir().unwrap();
    let (top, low) = (scratch.path().join("top"), scratch.path().join("low"));
    for (layer, path, content) in [
        (&low, "usr/lib/libc.so.6", "old"),
        (&top, "usr/lib/libc.so.6", "new"),
        (&low, "bin/sh", "sh"),
        (&low, "secret", "s"),
    ] {
        let file = layer.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    symlink("/etc/passwd", top.join("secret")).unwrap();
    nix::unistd::mkfifo(&top.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut files = ImageFiles::default();
    assert!(files.is_empty());
    files.add("redis", &[top, low]).unwrap();
    let read = |path: &str| {
        files.open(path.as_bytes()).unwrap().map(|mut file| {
            let mut content = String::new();
            file.read_to_string(&mut content).unwrap();
            content
        })
    };
    assert_eq!(read("redis/usr/lib/libc.so.6").unwrap(), "new");
    assert_eq!(read("redis/bin/sh").unwrap(), "sh");
    for none in [
        "redis/secret",
        "redis/pipe",
        "redis/usr",
        "redis/a/b",
        "web/bin/sh",
        "redis",
    ] {
        assert_eq!(read(none), None, "{none}");
    }
    for bad in ["redis/../../etc/passwd", "redis//etc/passwd", "redis/a\0"] {
        assert!(files.open(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(files.add("web", &[scratch.path().join("none")]).is_err());
}
