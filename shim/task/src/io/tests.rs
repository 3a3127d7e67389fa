use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::{Owner, Stdio, Target, prepare};

const OWNER: Owner<'static> = Owner {
    id: "c",
    namespace: "n",
    uid: 0,
    gid: 0,
};

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("mycedrive-io-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn schemes() {
    assert_eq!(Target::parse("").unwrap(), Target::None);
    assert_eq!(
        Target::parse("/run/f").unwrap(),
        Target::Fifo(Path::new("/run/f"))
    );
    assert_eq!(
        Target::parse("file:///var/l").unwrap(),
        Target::File(Path::new("/var/l"))
    );
    assert!(matches!(
        Target::parse("binary:///l?a=b").unwrap(),
        Target::Binary(_)
    ));
    assert!(Target::parse("http://x").is_err());
}

#[tokio::test]
async fn output_goes_to_a_file_and_input_ends_at_close() {
    let dir = directory("file");
    let fifo = dir.join("in");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let out = dir.join("sub/out");
    let uri = format!("file://{}", out.display());
    let stdio = Stdio {
        stdin: fifo.display().to_string(),
        stdout: uri.clone(),
        stderr: uri,
        terminal: false,
    };
    let mut prepared = prepare(&stdio, OWNER).await.unwrap();
    let streams = prepared.take_streams();
    let mut attached = prepared.attach().await.unwrap();

    let mut writer = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    writer.write_all(b"hello").unwrap();
    drop(writer);
    attached.close_stdin();
    let mut input = fs::File::from(streams.stdin.unwrap());
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        input.read_to_string(&mut text).unwrap();
        text
    });
    assert_eq!(read.await.unwrap(), "hello");

    fs::File::from(streams.stdout.unwrap())
        .write_all(b"one ")
        .unwrap();
    fs::File::from(streams.stderr.unwrap())
        .write_all(b"two")
        .unwrap();
    attached.drain().await;
    let text = fs::read_to_string(&out).unwrap();
    assert!(text.contains("one ") && text.contains("two"), "{text}");
    fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_fifo_without_a_reader_does_not_block() {
    let dir = directory("fifo");
    let fifo = dir.join("out");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let stdio = Stdio {
        stdout: fifo.display().to_string(),
        ..Stdio::default()
    };
    let mut prepared = prepare(&stdio, OWNER).await.unwrap();
    let streams = prepared.take_streams();
    assert!(streams.stdin.is_none() && streams.stderr.is_none());
    let attached = prepared.attach().await.unwrap();
    drop(streams);
    attached.drain().await;
    fs::remove_dir_all(&dir).unwrap();
}
