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

#[test]
fn lower_layers_come_topmost_first() {
    let of = |options: &[&str]| {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mount = Mount {
            options,
            ..Mount::default()
        };
        mount.lowers()
    };
    assert_eq!(of(&["upperdir=/u", "lowerdir=/2:/1"]), ["/2", "/1"]);
    assert!(of(&["rbind", "ro"]).is_empty());
    assert!(of(&["lowerdir=/a\\:b:/c"]).is_empty());
}
