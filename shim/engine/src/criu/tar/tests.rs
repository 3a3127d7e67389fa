//! What is made here is what the node's `tar` makes and takes, and the other way round; what is not
//! simple changes nothing.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::mkfifo;
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;

fn set_time(path: &Path, seconds: i64) {
    let time = TimeSpec::new(seconds, 0);
    let flags = UtimensatFlags::NoFollowSymlink;
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, flags).unwrap();
}

/// Something like a container's `/dev`, without devices, which only root can make.
fn tree(at: &Path) {
    for directory in ["pts", "deep/er", "empty"] {
        fs::create_dir_all(at.join(directory)).unwrap();
    }
    symlink("/proc/self/fd", at.join("fd")).unwrap();
    fs::write(at.join("deep/file"), b"some\0bytes").unwrap();
    fs::write(at.join("deep/er/nothing"), b"").unwrap();
    fs::set_permissions(at.join("deep/file"), Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(at.join("empty"), Permissions::from_mode(0o1777)).unwrap();
    let all = [
        "deep/er/nothing",
        "deep/er",
        "deep/file",
        "deep",
        "empty",
        "fd",
        "pts",
        "",
    ];
    for (seconds, path) in (1_000_000_001..).zip(all) {
        set_time(&at.join(path), seconds);
    }
}

/// Path, mode, owner, group, time, and content or target.
type Listed = (String, u32, u32, u32, i64, Vec<u8>);

fn list(at: &Path) -> Vec<Listed> {
    fn walk(at: &Path, root: &Path, into: &mut Vec<Listed>) {
        let found = at.symlink_metadata().unwrap();
        let content = if found.is_symlink() {
            fs::read_link(at)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else if found.is_file() {
            fs::read(at).unwrap()
        } else {
            Vec::new()
        };
        let path = at.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let owners = (found.uid(), found.gid());
        into.push((
            path,
            found.mode(),
            owners.0,
            owners.1,
            found.mtime(),
            content,
        ));
        if found.is_dir() {
            for entry in fs::read_dir(at).unwrap() {
                walk(&entry.unwrap().path(), root, into);
            }
        }
    }
    let mut all = Vec::new();
    walk(at, at, &mut all);
    all.sort();
    all
}

fn archive(from: &Path) -> (Result<(), Failed>, Vec<u8>) {
    let to = tempfile::NamedTempFile::new().unwrap();
    let made = create::archive(&File::open(from).unwrap(), to.as_file());
    (made, fs::read(to.path()).unwrap())
}

fn unpack(archive: &[u8], to: &Path) -> Result<(), Failed> {
    extract::unpack(archive, &File::open(to).unwrap())
}

/// The node's own.
fn other(arguments: &[&str], directory: &Path, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("tar")
        .args(arguments)
        .arg(directory)
        .args(arguments.contains(&"--create").then_some("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn assert_other(result: Result<(), Failed>, wanted: &str) {
    match result {
        Err(Failed::Other(why)) => assert_eq!(why, wanted),
        result => panic!("{result:?} and not {wanted}"),
    }
}

#[test]
fn it_agrees_with_the_nodes_tar() {
    let from = tempfile::tempdir().unwrap();
    tree(from.path());
    let wanted = list(from.path());
    let (made, ours) = archive(from.path());
    made.unwrap();
    let theirs = other(&CREATE[..10], from.path(), b"");
    for (name, archive) in [("ours", &ours), ("theirs", &theirs)] {
        let to = tempfile::tempdir().unwrap();
        unpack(archive, to.path()).unwrap();
        assert_eq!(list(to.path()), wanted, "{name}, unpacked here");
        let to = tempfile::tempdir().unwrap();
        // As root it keeps modes as they are; others ask for that.
        let arguments: Vec<&str> = ["--preserve-permissions"]
            .into_iter()
            .chain(EXTRACT)
            .collect();
        other(&arguments, to.path(), archive);
        assert_eq!(list(to.path()), wanted, "{name}, unpacked there");
    }
}

#[test]
fn what_is_not_simple_is_left_to_the_nodes_tar() {
    type Make = fn(&Path);
    let cases: [(&str, Make); 5] = [
        ("a file has several names", |at| {
            fs::write(at.join("a"), b"").unwrap();
            fs::hard_link(at.join("a"), at.join("b")).unwrap();
        }),
        ("it has fifos or sockets", |at| {
            mkfifo(&at.join("fifo"), Mode::S_IRWXU).unwrap();
        }),
        ("a path is long", |at| {
            fs::create_dir(at.join("x".repeat(100))).unwrap();
        }),
        ("its files are large", |at| {
            let file = File::create(at.join("large")).unwrap();
            file.set_len(MOST_BYTES + 1).unwrap();
        }),
        ("it has many entries", |at| {
            for number in 0..MOST_ENTRIES {
                fs::write(at.join(number.to_string()), b"").unwrap();
            }
        }),
    ];
    for (wanted, make) in cases {
        let from = tempfile::tempdir().unwrap();
        make(from.path());
        let (made, written) = archive(from.path());
        assert_other(made, wanted);
        assert!(written.is_empty(), "{wanted}");
    }
}

#[test]
fn criu_finds_this_program() {
    let bundle = tempfile::tempdir().unwrap();
    for _again in 0..2 {
        let (ours, path) = directory(bundle.path()).unwrap();
        assert_eq!(env::split_paths(&path).next().as_ref(), Some(&ours));
        let here = env::current_exe().unwrap();
        assert_eq!(fs::canonicalize(ours.join(NAME)).unwrap(), here);
    }
    // What another process left there.
    let link = bundle.path().join("criu-tools/tar");
    fs::remove_file(&link).unwrap();
    symlink("/proc/1/exe", &link).unwrap();
    let (ours, _) = directory(bundle.path()).unwrap();
    let target = format!("/proc/{}/exe", std::process::id());
    assert_eq!(fs::read_link(ours.join(NAME)).unwrap(), Path::new(&target));
    // This program is none that does it.
    let mut command = Command::new("runc");
    offer(&mut command, bundle.path());
    assert_eq!(command.get_envs().count(), 0);
}

/// An archive with entries of these kinds and names, and targets of links.
fn handmade(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (kind, name, target) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o700);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(0);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        builder.append(&header, &[][..]).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

#[test]
fn hostile_archives_make_nothing() {
    use EntryType::{Directory, Link, Regular, Symlink};
    let dot = (Directory, "./", "");
    let cases = [
        ("a path leads out of it", vec![(Regular, "../out", "")]),
        ("a path leads out of it", vec![(Regular, "/out", "")]),
        (
            "a path leads out of it",
            vec![dot, (Regular, "./a/../../out", "")],
        ),
        (
            "a path is in no directory of it",
            vec![dot, (Symlink, "./a", "/"), (Regular, "./a/out", "")],
        ),
        (
            "a path is in no directory of it",
            vec![dot, (Regular, "./a/b", "")],
        ),
        (
            "a path comes twice",
            vec![
                dot,
                (Directory, "./a", ""),
                (Symlink, "./a", "/"),
                (Regular, "./a/out", ""),
            ],
        ),
        (
            "it has entries of other kinds",
            vec![dot, (Link, "./a", "/etc/passwd")],
        ),
        ("a link leads nowhere", vec![dot, (Symlink, "./a", "")]),
    ];
    for (wanted, entries) in cases {
        let to = tempfile::tempdir().unwrap();
        assert_other(unpack(&handmade(&entries), to.path()), wanted);
        assert_eq!(list(to.path()).len(), 1, "{entries:?}");
    }
}

#[test]
fn what_is_cut_off_or_too_large_makes_nothing() {
    let from = tempfile::tempdir().unwrap();
    tree(from.path());
    let (_, whole) = archive(from.path());
    for length in 0..whole.len() {
        let to = tempfile::tempdir().unwrap();
        let cut = &whole[..length];
        assert!(
            matches!(unpack(cut, to.path()), Err(Failed::Other(_))),
            "{length}"
        );
        assert_eq!(list(to.path()).len(), 1, "{length}");
    }
    // Gigabytes in some bytes.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        bomb.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let to = tempfile::tempdir().unwrap();
    assert_other(unpack(&bomb.finish().unwrap(), to.path()), "it is large");
}

proptest! {
    #[test]
    fn damaged_archives_do_no_harm(at in 0_usize..400, value: u8) {
        let outer = tempfile::tempdir().unwrap();
        let (from, to) = (outer.path().join("from"), outer.path().join("to"));
        for directory in [&from, &to] {
            fs::create_dir(directory).unwrap();
        }
        tree(&from);
        let (_, mut archive) = archive(&from);
        let length = archive.len();
        archive[at % length] = value;
        let before = list(&from);
        // The checksum shows it, if anything is other than it was.
        if unpack(&archive, &to).is_ok() {
            prop_assert_eq!(list(&to), before);
        } else {
            prop_assert_eq!(list(&to).len(), 1);
        }
        prop_assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2);
    }
}
