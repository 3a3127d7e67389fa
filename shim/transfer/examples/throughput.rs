//! How fast an image is sent and received: `cargo run --release -p mycedrive-transfer --example
//! throughput`. The data looks like Redis with 100 MB of values: small keys, values of which half
//! compress well and half do not, pointers, and every eighth page zero.
#![allow(clippy::print_stdout)]

use std::fs;
use std::path::Path;
use std::time::Instant;

use mycedrive_transfer::{
    Budget, Error, FrameReader, FrameWriter, Known, Level, Options, Round, Section, TreeId,
    TreeReceiver, TreeSender, receive_images, send_images,
};

const SIZE: usize = 100 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = tempfile::tempdir_in("/dev/shm")?;
    let (images, arrived) = (place.path().join("images"), place.path().join("arrived"));
    fs::create_dir_all(&images)?;
    fs::write(images.join("pages-1.img"), redis_like(SIZE))?;
    println!(
        "{:<24}{:>9}{:>9}{:>9}{:>9}",
        "", "send ms", "MB/s", "recv ms", "wire MB"
    );
    // The first row pays for the buffer's pages; a socket would not.
    let mut buffer = Vec::with_capacity(SIZE);
    for level in [
        Level::Stored,
        Level::Stored,
        Level::Fast,
        Level::Light,
        Level::Dense,
    ] {
        buffer.clear();
        let start = Instant::now();
        let mut out = FrameWriter::new(
            &mut buffer,
            &Options {
                level,
                ..Options::default()
            },
        )?;
        send_images(&mut out, &images, &Known::default(), || true)?;
        let stream = out.finish()?.0;
        let sent = start.elapsed().as_secs_f64();
        let start = Instant::now();
        receive(stream, &arrived)?;
        row(
            &format!("image {level:?}"),
            sent,
            start.elapsed().as_secs_f64(),
            stream.len(),
        );
    }
    let mut sender = TreeSender::new(&images)?;
    let start = Instant::now();
    buffer.clear();
    let mut out = FrameWriter::new(&mut buffer, &Options::default())?;
    sender.send_round(&mut out, &TreeId::new("tree")?, Round::Live)?;
    let stream = out.finish()?.0;
    let sent = start.elapsed().as_secs_f64();
    let start = Instant::now();
    receive(stream, &arrived)?;
    row(
        "tree, full round",
        sent,
        start.elapsed().as_secs_f64(),
        stream.len(),
    );
    Ok(())
}

fn row(name: &str, sent: f64, received: f64, wire: usize) {
    let rate = SIZE as f64 / 1e6 / sent;
    let (sent, received) = (sent * 1e3, received * 1e3);
    println!(
        "{name:<24}{sent:>9.0}{rate:>9.0}{received:>9.0}{:>9.1}",
        wire as f64 / 1e6
    );
}

fn receive(stream: &[u8], dir: &Path) -> Result<(), Error> {
    let budget = Budget::default();
    let mut reader = FrameReader::new(stream, &budget)?;
    while let Some(section) = reader.next_section()? {
        match section {
            Section::Tree(begin) => {
                TreeReceiver::new(dir, &budget)?.receive_round(&mut reader, &begin)?;
            }
            Section::Images(begin) => {
                receive_images(&mut reader, &begin, dir)?;
            }
        }
    }
    Ok(())
}

fn redis_like(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    let mut noise = blake3::Hasher::new().update(b"values").finalize_xof();
    let mut number = 0_u64;
    while bytes.len() < size {
        let page_start = bytes.len();
        if number % 8 == 7 {
            bytes.resize(page_start + 4096, 0);
        }
        while bytes.len() < page_start + 4096 {
            number += 1;
            bytes.extend_from_slice(&(0x7f3a_0000_0000 + number * 64).to_le_bytes());
            bytes.extend_from_slice(format!("user:{number:012}:session").as_bytes());
            bytes.extend_from_slice(br#"{"name":"somebody","visits":1}"#);
            let mut value = [0; 64];
            noise.fill(&mut value);
            bytes.extend_from_slice(&value);
        }
        bytes.truncate(page_start + 4096);
        number += 1;
    }
    bytes.truncate(size);
    bytes
}
