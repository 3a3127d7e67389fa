use std::io;

use mycedrive_transfer::{Budget, FrameWriter, Known, MemorySender, Options, Section, send_images};

use super::*;

/// A stream with a round of memory of no process, of the sender's number.
fn round(sender: &mut MemorySender, number: u32, base: u32) -> Vec<u8> {
    let mut out = FrameWriter::new(Vec::new(), &Options::default()).unwrap();
    let files = ImageFiles::default();
    sender
        .send_round(&mut out, number, base, &[], &files)
        .unwrap();
    out.finish().unwrap().0
}

/// A stream with the images of a container.
fn whole(known: &Known) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("redis")).unwrap();
    fs::write(folder.path().join("redis/core-1.img"), "core").unwrap();
    let mut out = FrameWriter::new(Vec::new(), &Options::default()).unwrap();
    send_images(&mut out, folder.path(), known, || true).unwrap();
    out.finish().unwrap().0
}

fn take(rounds: &mut MemoryRounds, stream: &[u8], images: Option<&Path>) -> Result<()> {
    let failed = |error: mycedrive_transfer::Error| Error::Failed(error.to_string());
    let mut frames = FrameReader::new(stream, &Budget::default()).unwrap();
    while let Some(section) = frames.next_section().map_err(failed)? {
        let Section::Images(begin) = section else {
            panic!("a tree")
        };
        rounds.receive(&mut frames, &begin, images, &ImageFiles::default())?;
    }
    rounds.ended();
    Ok(())
}

/// As a migration has them: `ID.memory` beside `ID`.
fn places() -> (tempfile::TempDir, MemoryRounds, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let rounds = MemoryRounds::new(folder.path().join("id.memory"));
    let images = folder.path().join("id");
    (folder, rounds, images)
}

#[test]
fn links_lead_from_the_images_to_the_first_round() {
    let (folder, mut rounds, images) = places();
    let mut sender = MemorySender::default();
    for (number, base) in [(1, 0), (2, 1)] {
        take(&mut rounds, &round(&mut sender, number, base), None).unwrap();
        let redis = folder.path().join(format!("id.memory/{number}/redis"));
        fs::create_dir(&redis).unwrap();
        fs::write(redis.join("number"), number.to_string()).unwrap();
        // As if the container had been in the round.
        if base > 0 {
            rounds.link(redis.parent().unwrap(), base).unwrap();
        }
    }
    assert_eq!(rounds.newest(), 2);
    take(&mut rounds, &whole(&sender.known(2)), Some(&images)).unwrap();
    let read = |path: &str| fs::read_to_string(images.join("redis").join(path)).unwrap();
    assert_eq!(read("parent/number"), "2");
    assert_eq!(read("parent/parent/number"), "1");
    assert!(
        fs::read_link(images.join("redis/parent"))
            .unwrap()
            .is_relative()
    );
    let missing = images.join("redis/parent/parent/parent").symlink_metadata();
    assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn images_that_stand_alone_have_no_link() {
    let (_folder, mut rounds, images) = places();
    let mut sender = MemorySender::default();
    take(&mut rounds, &round(&mut sender, 1, 0), None).unwrap();
    take(&mut rounds, &whole(&Known::default()), Some(&images)).unwrap();
    assert!(images.join("redis/core-1.img").exists());
    assert!(images.join("redis/parent").symlink_metadata().is_err());
}

#[test]
fn what_comes_out_of_turn_is_refused() {
    let (_folder, mut rounds, images) = places();
    let mut sender = MemorySender::default();
    let first = round(&mut sender, 1, 0);
    // Memory where images belong, and the other way round.
    assert!(take(&mut rounds, &first, Some(&images)).is_err());
    assert!(take(&mut rounds, &whole(&Known::default()), None).is_err());
    // A round that builds on one that is not here.
    let second = round(&mut sender, 2, 1);
    assert!(take(&mut rounds, &second, None).is_err());
    rounds.broken();
    take(&mut rounds, &first, None).unwrap();
    // The same again.
    assert!(take(&mut rounds, &first, None).is_err());
    // Images that build on another round.
    let known = {
        let mut other = MemorySender::default();
        drop(round(&mut other, 7, 0));
        other.known(7)
    };
    assert!(take(&mut rounds, &whole(&known), Some(&images)).is_err());
    assert_eq!(rounds.newest(), 1);
}

#[test]
fn a_round_whose_stream_broke_comes_again() {
    let (folder, mut rounds, _) = places();
    let mut sender = MemorySender::default();
    let stream = round(&mut sender, 1, 0);
    // The round is whole, the stream is not.
    assert!(take(&mut rounds, &stream[..stream.len() - 5], None).is_err());
    rounds.broken();
    assert_eq!(rounds.newest(), 0);
    fs::write(folder.path().join("id.memory/1/left"), "over").unwrap();
    take(&mut rounds, &stream, None).unwrap();
    assert_eq!(rounds.newest(), 1);
    assert!(!folder.path().join("id.memory/1/left").exists());
}
