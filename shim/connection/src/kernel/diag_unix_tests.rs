use super::*;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};

fn inode(fd: &impl AsRawFd) -> u32 {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::metadata(path).unwrap().ino() as u32
}

#[test]
fn own_sockets_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    let waiting = UnixStream::connect(&path).unwrap();
    let all = list().unwrap();

    let found = &all[&inode(&client)];
    assert_eq!(
        (found.kind, found.peer),
        (Kind::Stream, Some(inode(&server)))
    );
    assert!(found.name.is_empty());
    let found = &all[&inode(&server)];
    assert_eq!(found.peer, Some(inode(&client)));
    assert_eq!(found.name, path.as_os_str().as_encoded_bytes());
    let found = &all[&inode(&listener)];
    assert!(found.listening);
    assert_eq!(found.waiting, [inode(&waiting)]);
    assert_eq!(all[&inode(&waiting)].peer, None);
}

#[test]
fn an_answer_that_is_cut_short_is_no_socket() {
    assert!(socket(&[1, 1]).is_none());
    assert!(socket(&[]).is_none());
}
