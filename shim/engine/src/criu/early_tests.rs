use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::{Runtime, StandardRunner};

fn target() -> Target {
    Target {
        id: "one".to_owned(),
        name: "one".to_owned(),
        bundle: PathBuf::from("/nowhere"),
        runtime: Runtime {
            // What is asked to delete the container.
            binary: PathBuf::from("true"),
            root: PathBuf::from("/nowhere"),
            systemd_cgroup: false,
            no_pivot: false,
        },
        terminal: false,
    }
}

/// A folder with a pod's images, of one container.
fn image(streams: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("pod/one");
    fs::create_dir_all(&image).unwrap();
    fs::write(image.join(INVENTORY), "the inventory").unwrap();
    fs::write(image.join("pages-1.img"), "pages").unwrap();
    symlink("../../pod.memory/1/one", image.join("parent")).unwrap();
    let list = serde_json::to_vec(streams).unwrap();
    fs::write(image.join(descriptors::FILE), list).unwrap();
    (folder, image)
}

/// Reads the inventory, then does `then` in the directory that it was told of.
fn start(image: &Path, streams: &[&str], then: &str) -> Early {
    let gate = Gate::of(image).unwrap();
    let mut command = Command::new("sh");
    let script = format!("text=$(cat inventory.img || :); {then}");
    command.args(["-c", &script]);
    command.current_dir(gate.path());
    let streams: Vec<_> = streams.iter().map(|one| (*one).to_owned()).collect();
    let target = target();
    Early::start(&StandardRunner, command, gate, (&target, image), &streams).unwrap()
}

#[tokio::test]
async fn it_goes_on_with_all_of_the_image() {
    let (folder, image) = image(&["pipe:[1]"]);
    let then =
        "[ \"$text\" = 'the inventory' ] && cat pages-1.img descriptors.json && readlink parent";
    let early = start(&image, &["pipe:[1]"], then);
    let code = early.go(&StandardRunner, &image).await.unwrap().unwrap();
    assert_eq!(code, 0);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(fs::metadata(image.join("pages-1.img")).unwrap().nlink(), 1);
}

#[tokio::test]
async fn what_was_told_wrong_is_not_used() {
    let (folder, image) = image(&["pipe:[2]"]);
    let early = start(&image, &["pipe:[1]"], "exit 3");
    assert!(early.go(&StandardRunner, &image).await.is_none());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn one_that_is_not_needed_sees_an_empty_inventory() {
    let (_folder, image) = image(&[]);
    let seen = image.join("seen");
    let then = format!("[ -z \"$text\" ] && touch {}", seen.display());
    let early = start(&image, &[], &then);
    early.give_up(&StandardRunner).await;
    assert!(seen.exists());
}

#[tokio::test]
async fn an_inventory_that_is_no_inventory_is_not_used() {
    let (_folder, image) = image(&[]);
    for content in [vec![], vec![0; LARGEST as usize + 1]] {
        fs::write(image.join(INVENTORY), content).unwrap();
        let early = start(&image, &[], "true");
        assert!(early.go(&StandardRunner, &image).await.is_none());
    }
}

#[test]
fn an_image_without_a_place_has_no_gate() {
    assert!(Gate::of(Path::new("/")).is_err());
    assert!(Gate::of(Path::new("one")).is_err());
}
