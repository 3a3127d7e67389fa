use std::path::Path;

use nix::mount::MsFlags;

use super::{Mount, common_directory, parse, unmount_all};

fn words(options: &[&str]) -> Vec<String> {
    options.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn flags_and_data_are_told_apart() {
    let parsed = parse(&words(&["rbind", "ro", "rprivate", "index=off"]));
    assert_eq!(
        parsed.flags,
        MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY
    );
    assert_eq!(parsed.propagation, [MsFlags::MS_PRIVATE | MsFlags::MS_REC]);
    assert_eq!(parsed.data, ["index=off"]);
}

#[test]
fn the_upper_directory_is_found() {
    let mount = Mount {
        options: words(&["workdir=/w", "upperdir=/u"]),
        ..Mount::default()
    };
    assert_eq!(mount.option("upperdir"), Some("/u"));
    assert_eq!(mount.option("lowerdir"), None);
}

#[test]
fn layers_have_a_common_directory() {
    let data = words(&["lowerdir=/s/snapshots/1/fs:/s/snapshots/22/fs"]);
    assert_eq!(common_directory(&data), Path::new("/s/snapshots"));
    assert_eq!(common_directory(&[]), Path::new("/"));
}

#[test]
fn unmounting_what_is_not_mounted_is_fine() {
    unmount_all(Path::new("/nonexistent/rootfs")).unwrap();
}
