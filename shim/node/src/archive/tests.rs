use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read as _};
use std::os::unix::fs::symlink;
use std::path::Path;

use mycedrive_transfer::{
    FinalRound, FrameWriter, Known, Options, Round, TreeId, TreeSender, send_images,
};

use super::store::Store;
use super::*;
use crate::config::Config;
use crate::error::Error;

pub(super) fn header() -> Header {
    Header {
        created: 1_795_000_000,
        node: "node-a".to_owned(),
        namespace: "shop".to_owned(),
        pod: "redis-0".to_owned(),
        criu_version: "4.2".to_owned(),
        dmtcp_version: String::new(),
        architecture: "x86_64".to_owned(),
        kernel: "6.18".to_owned(),
        cpu_features: vec!["avx2".to_owned()],
        containers: vec![ContainerHeader {
            name: "redis".to_owned(),
            image: "redis:8".to_owned(),
            image_digest: "sha256:00".to_owned(),
            exit_code: None,
            engine: "criu".to_owned(),
            confinement: "{}".to_owned(),
            trees: vec!["rootfs".to_owned(), "/data".to_owned()],
            tree_bytes: vec![2048, 2048],
            layers: BTreeMap::new(),
        }],
        memory_bytes: 4096,
        tree_bytes: 4096,
    }
}

/// An archive with a root layer, a volume and an image.
pub(super) fn archive(header: &Header) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    for tree in ["rootfs", "data", "images/redis"] {
        fs::create_dir_all(folder.path().join(tree)).unwrap();
        fs::write(folder.path().join(tree).join("file"), "content").unwrap();
    }
    let mut out = FrameWriter::new(header.encode().unwrap(), &Options::default()).unwrap();
    for (name, tree) in [("rootfs/redis", "rootfs"), ("mount/redis/data", "data")] {
        let mut sender = TreeSender::new(&folder.path().join(tree)).unwrap();
        let id = TreeId::new(name).unwrap();
        for _ in 0..2 {
            let kind = FinalRound::default();
            sender
                .send_round(&mut out, &id, Round::Final(&kind))
                .unwrap();
        }
    }
    send_images(
        &mut out,
        &folder.path().join("images"),
        &Known::default(),
        || true,
    )
    .unwrap();
    out.finish().unwrap().0
}

fn survey(bytes: &[u8]) -> Result<Contents, ArchiveError> {
    Archive::new(bytes)?.survey()
}

/// The head of a file with another header text.
fn with_json(json: &serde_json::Value) -> Vec<u8> {
    let json = json.to_string();
    let mut bytes = header().encode().unwrap()[..10].to_vec();
    bytes.extend((json.len() as u32).to_le_bytes());
    bytes.extend(json.as_bytes());
    bytes.extend(blake3::hash(&bytes).as_bytes());
    bytes
}

#[test]
fn what_was_written_is_read() {
    let contents = survey(&archive(&header())).unwrap();
    assert_eq!(contents.header, header());
    let images = contents.sections["images"];
    assert_eq!((images.files, images.bytes), (1, 7));
    assert_eq!(contents.sections["rootfs/redis"].files, 1);
    let manifest = header().manifest();
    assert_eq!(manifest.containers[0].trees, ["rootfs", "/data"]);
    assert!(manifest.addresses.is_empty());
}

#[test]
fn no_cut_and_no_changed_byte_passes() {
    let whole = archive(&header());
    for cut in 0..whole.len() {
        assert!(survey(&whole[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..whole.len() {
        for bit in [1, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= bit;
            assert!(survey(&changed).is_err(), "byte {at}");
        }
    }
    let mut longer = whole;
    longer.push(0);
    assert!(matches!(survey(&longer), Err(ArchiveError::Trailing)));
}

#[test]
fn noise_is_refused() {
    let mut state = 1_u64;
    for length in 0..2000 {
        let noise: Vec<u8> = (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert!(survey(&noise).is_err());
        // With a right beginning.
        let mut begun = header().encode().unwrap();
        begun.extend(&noise);
        assert!(survey(&begun).is_err());
    }
}

#[test]
fn a_header_cannot_ask_for_much() {
    let mut huge = header().encode().unwrap();
    huge[10..14].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(
        survey(&huge),
        Err(ArchiveError::HeaderSize { .. })
    ));
    let mut other = header().encode().unwrap();
    other[8] = 9;
    assert!(matches!(
        survey(&other),
        Err(ArchiveError::Format { found: 9, known: 2 })
    ));
    let mut large = header();
    large.kernel = "x".repeat(2 << 20);
    assert!(matches!(
        large.encode(),
        Err(ArchiveError::HeaderSize { .. })
    ));
}

#[test]
fn names_and_paths_stay_where_they_belong() {
    type Change = fn(&mut Header);
    let changes: [Change; 19] = [
        |h| h.containers[0].name = "../etc".to_owned(),
        |h| h.containers[0].name = String::new(),
        |h| h.containers[0].name = ".hidden".to_owned(),
        |h| h.containers[0].name = "a/b".to_owned(),
        |h| h.containers[0].trees = vec!["/data/../../etc".to_owned()],
        |h| h.containers[0].trees = vec!["data".to_owned()],
        |h| h.containers[0].trees = vec!["/".to_owned()],
        |h| h.containers[0].trees = vec!["/a".to_owned(), "/a".to_owned()],
        |h| h.containers[0].trees = vec!["/a".to_owned(); 1000],
        |h| h.containers.push(h.containers[0].clone()),
        |h| h.containers.clear(),
        |h| h.containers[0].tree_bytes = vec![0],
        |h| h.containers[0].tree_bytes = vec![0, u64::MAX],
        |h| h.containers[0].layers = [("/data".to_owned(), u32::MAX)].into(),
        |h| h.containers[0].layers = [("rootfs".to_owned(), 2)].into(),
        |h| h.containers[0].layers = [("/other".to_owned(), 2)].into(),
        |h| h.namespace = "../other".to_owned(),
        |h| h.memory_bytes = u64::MAX,
        |h| h.node = "\u{1b}[2J".to_owned(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut hostile = header();
        change(&mut hostile);
        let error = Header::decode(&mut Cursor::new(hostile.encode().unwrap())).unwrap_err();
        assert!(
            matches!(error, ArchiveError::Header(_)),
            "{number}: {error}"
        );
    }
}

/// Nothing but what a header has is taken from it: no privileges, annotations, log paths.
#[test]
fn fields_that_do_not_exist_are_refused() {
    for (field, value) in [
        ("annotations", r#"{"org.criu.config":"/tmp/x"}"#),
        ("log_path", r#""/etc/cron.d/x""#),
        ("capabilities", r#"["CAP_SYS_ADMIN"]"#),
    ] {
        let mut json = serde_json::to_value(header()).unwrap();
        json[field] = serde_json::from_str(value).unwrap();
        let error = survey(&with_json(&json)).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
        let mut json = serde_json::to_value(header()).unwrap();
        json["containers"][0][field] = serde_json::from_str(value).unwrap();
        let error = survey(&with_json(&json)).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn header_and_content_must_agree() {
    let mut more = header();
    more.containers[0].trees.push("/more".to_owned());
    more.containers[0].tree_bytes.push(0);
    let error = survey(&archive(&more)).unwrap_err();
    assert!(error.to_string().contains("mount/redis/more"), "{error}");
    let mut less = header();
    less.containers[0].trees.pop();
    less.containers[0].tree_bytes.pop();
    let error = survey(&archive(&less)).unwrap_err();
    assert!(error.to_string().contains("mount/redis/data"), "{error}");
    let mut stack = header();
    stack.containers[0].layers = [("/data".to_owned(), 2)].into();
    let error = survey(&archive(&stack)).unwrap_err();
    assert!(error.to_string().contains("layer/redis/0/data"), "{error}");
}

#[test]
fn only_regular_files_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, archive(&header())).unwrap();
    let link = folder.path().join("link");
    symlink(&file, &link).unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(Archive::open(&file, None).is_ok());
    for path in [&link, &fifo, Path::new("/dev/zero"), folder.path()] {
        assert!(
            matches!(Archive::open(path, None), Err(ArchiveError::NotAFile)),
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_namespace_reaches_its_own_archives_only() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        state_dir: folder.path().join("state"),
        ..Config::default()
    };
    let file = folder.path().join("file");
    fs::write(&file, archive(&header())).unwrap();
    let shop = Store::of(&config, "shop").unwrap();
    assert!(shop.open("a.myce").unwrap().is_none());
    let path = shop
        .take(&mut File::open(&file).unwrap(), "a.myce")
        .unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut opened = shop.open("a.myce").unwrap().unwrap();
    assert_eq!(opened.header().pod, "redis-0");
    let mut rest = Vec::new();
    opened.stream().read_to_end(&mut rest).unwrap();
    assert!(!rest.is_empty());

    let other = Store::of(&config, "other").unwrap();
    assert!(other.open("a.myce").unwrap().is_none());
    for name in ["../shop/a.myce", "/etc/shadow", "..", "", ".x"] {
        assert!(matches!(other.open(name), Err(Error::Refused(_))), "{name}");
        assert!(Store::of(&config, name).is_err() || name.is_empty());
    }
    // An operator's slip: not followed.
    fs::create_dir_all(config.state_dir.join("archives/other")).unwrap();
    symlink(&path, config.state_dir.join("archives/other/link")).unwrap();
    assert!(other.open("link").is_err());
}
