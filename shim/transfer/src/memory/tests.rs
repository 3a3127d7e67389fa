use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;

use super::pagemap::{PARENT, PRESENT, Pagemap};
use super::*;
use crate::{
    Budget, FrameReader, FrameWriter, ImageFiles, Options, Section, receive_images_over,
    send_images,
};

/// Private memory of its own.
pub(super) struct Mapping {
    at: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    pub(super) fn new(pages: usize) -> Self {
        Self::map(libc::MAP_ANONYMOUS, -1, pages)
    }

    /// Of a file, from its beginning.
    pub(super) fn of_file(file: i32, pages: usize) -> Self {
        Self::map(0, file, pages)
    }

    fn map(kind: i32, file: i32, pages: usize) -> Self {
        let length = pages * PAGE;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | kind);
        // SAFETY: a new mapping, wherever the kernel finds room.
        let at = unsafe { libc::mmap(ptr::null_mut(), length, access, kind, file, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        Self { at, length }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is this long, readable and writable, and lent out once.
        unsafe { std::slice::from_raw_parts_mut(self.at.cast(), self.length) }
    }

    fn address(&self) -> u64 {
        self.at as u64
    }

    fn write(&mut self, page: usize, byte: u8) {
        self.bytes()[page * PAGE..(page + 1) * PAGE].fill(byte);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference into it any more.
        unsafe { libc::munmap(self.at, self.length) };
    }
}

/// A receiver's folders: `1`, `2` … for rounds, `0` for the images.
pub(super) struct Receiver(tempfile::TempDir, ImageFiles);

impl Receiver {
    fn new() -> Self {
        Self::with(ImageFiles::default())
    }

    /// One that has files of the image.
    pub(super) fn with(files: ImageFiles) -> Self {
        Self(tempfile::tempdir().unwrap(), files)
    }

    pub(super) fn round(&self, number: u32) -> PathBuf {
        self.0.path().join(number.to_string())
    }

    pub(super) fn take(&self, number: u32, stream: &[u8]) -> crate::ImageSet {
        let mut reader = FrameReader::new(stream, &Budget::default()).unwrap();
        let Some(Section::Images(begin)) = reader.next_section().unwrap() else {
            panic!("no images")
        };
        let to = self.round(number);
        receive_images_over(&mut reader, &begin, &to, self.0.path(), &self.1).unwrap();
        assert!(reader.next_section().unwrap().is_none());
        begin.set
    }

    /// The page at `address` as CRIU would find it: here, or in the rounds before.
    fn page(&self, chain: &[u32], address: u64) -> Option<Vec<u8>> {
        let (number, before) = chain.split_first().expect("a parent that is not there");
        let folder = self.round(*number).join("redis");
        let map = Pagemap::decode(&fs::read(folder.join("pagemap-1.img")).unwrap()).unwrap();
        let mut at = 0;
        for range in map.ranges {
            let end = range.address + range.pages * PAGE as u64;
            let inside = (range.address..end).contains(&address);
            match range.flags {
                PARENT if inside => return self.page(before, address),
                PARENT => {}
                flags if flags & PRESENT != 0 && inside => {
                    let pages = folder.join(format!("pages-{}.img", map.pages_id));
                    let at = at + (address - range.address) as usize;
                    return Some(fs::read(pages).unwrap()[at..at + PAGE].to_vec());
                }
                flags if flags & PRESENT != 0 => at += (range.pages as usize) * PAGE,
                other => panic!("flags {other}"),
            }
        }
        None
    }

    /// Pages of the mapping that this round itself brought.
    fn sent(&self, number: u32, mapping: &Mapping) -> Vec<u64> {
        let file = self.round(number).join("redis/pagemap-1.img");
        let map = Pagemap::decode(&fs::read(file).unwrap()).unwrap();
        let here = map.ranges.iter().filter(|range| range.flags == PRESENT);
        let end = mapping.address() + mapping.length as u64;
        here.flat_map(|range| (0..range.pages).map(|page| range.address + page * PAGE as u64))
            .filter(|address| (mapping.address()..end).contains(address))
            .map(|address| (address - mapping.address()) / PAGE as u64)
            .collect()
    }

    fn pages_size(&self, number: u32) -> u64 {
        let folder = self.round(number).join("redis");
        fs::metadata(folder.join("pages-1.img")).unwrap().len()
    }
}

fn round(sender: &mut MemorySender, number: u32, base: u32) -> (Vec<u8>, MemorySummary) {
    round_in(Form::Criu, sender, number, base)
}

fn round_in(
    form: Form,
    sender: &mut MemorySender,
    number: u32,
    base: u32,
) -> (Vec<u8>, MemorySummary) {
    round_beside(&ImageFiles::default(), form, sender, (number, base))
}

/// A round for a receiver that has files of the image.
pub(super) fn round_beside(
    files: &ImageFiles,
    form: Form,
    sender: &mut MemorySender,
    (number, base): (u32, u32),
) -> (Vec<u8>, MemorySummary) {
    let mut out = FrameWriter::new(Vec::new(), &Options::default()).unwrap();
    let processes = [MemoryProcess::of_this_process(form)];
    let summary = sender
        .send_round(&mut out, number, base, &processes, files)
        .unwrap();
    (out.finish().unwrap().0, summary)
}

/// What CRIU would write of the mapping, all of it.
fn dump(folder: &Path, mapping: &mut Mapping) {
    let folder = folder.join("redis");
    fs::create_dir_all(&folder).unwrap();
    let mut map = Pagemap::new(1);
    for page in 0..mapping.length / PAGE {
        // CRIU says of most pages that they could be restored late (PE_LAZY).
        let flags = PRESENT | if page < 550 { 2 } else { 0 };
        map.add(mapping.address() + (page * PAGE) as u64, flags);
    }
    fs::write(folder.join("pagemap-1.img"), map.encode()).unwrap();
    fs::write(folder.join("pages-1.img"), mapping.bytes()).unwrap();
    fs::write(folder.join("core-1.img"), "core").unwrap();
}

fn send(known: &Known, folder: &Path) -> Vec<u8> {
    let mut out = FrameWriter::new(Vec::new(), &Options::default()).unwrap();
    // Twice, as while it is being written.
    let calls = std::cell::Cell::new(0);
    let done = || {
        calls.set(calls.get() + 1);
        calls.get() > 2
    };
    send_images(&mut out, folder, known, done).unwrap();
    out.finish().unwrap().0
}

#[test]
fn rounds_and_images_together_are_the_memory() {
    let mut mapping = Mapping::new(600);
    for page in 0..600 {
        mapping.write(page, 1 + (page % 200) as u8);
    }
    let (mut sender, receiver) = (MemorySender::default(), Receiver::new());
    let (stream, first) = round(&mut sender, 1, 0);
    let set = receiver.take(1, &stream);
    assert_eq!(set, crate::ImageSet::Memory { round: 1, base: 0 });
    assert_eq!(first.bytes, first.sent_bytes);
    assert!(first.bytes >= 600 * PAGE as u64);

    mapping.write(7, 201);
    mapping.write(300, 202);
    mapping.write(301, 0);
    let (stream, second) = round(&mut sender, 2, 1);
    let set = receiver.take(2, &stream);
    assert_eq!(set, crate::ImageSet::Memory { round: 2, base: 1 });
    assert!(second.sent_bytes <= second.bytes);
    // Page 301 holds nothing any more, so it is not in the round at all.
    assert_eq!(receiver.sent(2, &mapping), [7, 300]);

    mapping.write(8, 203);
    mapping.write(301, 204);
    mapping.write(400, 0);
    // The content of another page is not this page's.
    mapping.write(500, 1);
    let whole = tempfile::tempdir().unwrap();
    dump(whole.path(), &mut mapping);
    let stream = send(&sender.known(2), whole.path());
    let set = receiver.take(0, &stream);
    assert_eq!(set, crate::ImageSet::Whole { base: 2 });
    assert_eq!(receiver.pages_size(0), 4 * PAGE as u64);
    for page in 0..600 {
        let address = mapping.address() + (page * PAGE) as u64;
        let content = &mapping.bytes()[page * PAGE..(page + 1) * PAGE];
        assert!(
            receiver.page(&[0, 2, 1], address).as_deref() == Some(content),
            "page {page}"
        );
    }
    let core = receiver.round(0).join("redis/core-1.img");
    assert_eq!(fs::read(core).unwrap(), b"core");
}

#[test]
fn a_round_that_did_not_arrive_does_not_count() {
    let mut mapping = Mapping::new(50);
    (0..50).for_each(|page| mapping.write(page, 9));
    let (mut sender, receiver) = (MemorySender::default(), Receiver::new());
    receiver.take(1, &round(&mut sender, 1, 0).0);
    mapping.write(3, 10);
    // The receiver still has round 1 after this one.
    drop(round(&mut sender, 2, 1));
    mapping.write(4, 11);
    receiver.take(2, &round(&mut sender, 2, 1).0);
    for (page, byte) in [(3, 10), (4, 11), (5, 9)] {
        let address = mapping.address() + page * PAGE as u64;
        assert_eq!(receiver.page(&[2, 1], address), Some(vec![byte; PAGE]));
    }
    // It has none of ours: everything comes again.
    let (stream, again) = round(&mut sender, 3, 0);
    let set = receiver.take(3, &stream);
    assert_eq!(set, crate::ImageSet::Memory { round: 3, base: 0 });
    assert_eq!(again.bytes, again.sent_bytes);
    // It says that it has one that was never sent.
    assert_eq!(sender.known(17).round(), 0);
}

#[test]
fn without_rounds_the_images_are_whole() {
    let mut mapping = Mapping::new(5);
    mapping.write(2, 5);
    let whole = tempfile::tempdir().unwrap();
    dump(whole.path(), &mut mapping);
    let receiver = Receiver::new();
    let set = receiver.take(0, &send(&Known::default(), whole.path()));
    assert_eq!(set, crate::ImageSet::Whole { base: 0 });
    let same = |name: &str| {
        let (from, to) = (whole.path().join("redis"), receiver.round(0).join("redis"));
        assert!(fs::read(from.join(name)).unwrap() == fs::read(to.join(name)).unwrap());
    };
    ["pages-1.img", "pagemap-1.img", "core-1.img"]
        .into_iter()
        .for_each(same);
}

#[test]
fn images_in_a_form_that_is_not_known_are_whole() {
    let mut mapping = Mapping::new(5);
    (0..5).for_each(|page| mapping.write(page, 5));
    let mut sender = MemorySender::default();
    drop(round(&mut sender, 1, 0));
    let known = sender.known(1);
    let whole = tempfile::tempdir().unwrap();
    dump(whole.path(), &mut mapping);
    let pagemap = whole.path().join("redis/pagemap-1.img");
    let good = fs::read(&pagemap).unwrap();
    let short = {
        let mut map = Pagemap::decode(&good).unwrap();
        map.ranges[0].pages = 4;
        map.encode()
    };
    for bad in [&b""[..], b"something else", &short] {
        fs::write(&pagemap, bad).unwrap();
        let receiver = Receiver::new();
        receiver.take(0, &send(&known, whole.path()));
        assert_eq!(receiver.pages_size(0), 5 * PAGE as u64);
        let arrived = receiver.round(0).join("redis/pagemap-1.img");
        assert_eq!(fs::read(arrived).unwrap(), bad);
    }
}

/// What DMTCP would write: something before the pages, and pages at other places than in memory.
fn image(mapping: &mut Mapping, head: &[u8]) -> Vec<u8> {
    let (first, second) = mapping.bytes().split_at(100 * PAGE);
    let gap = [0; 3 * PAGE];
    // A piece of a file, and behind it the head of the next area.
    let piece = [0xee; 1360];
    let mut area = [0; PAGE];
    for (to, word) in area.chunks_mut(8).zip([0x1000_u64, 0x65_000, 0x64_000]) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    [head, second, &gap, &piece, &area, first, b"the end"].concat()
}

#[test]
fn pages_of_rounds_are_found_in_images_without_addresses() {
    let mut mapping = Mapping::new(600);
    let fill = |mapping: &mut Mapping, page: usize, number: u64| {
        let bytes = &mut mapping.bytes()[page * PAGE..(page + 1) * PAGE];
        bytes.fill(7);
        bytes[..8].copy_from_slice(&number.to_le_bytes());
    };
    (0..600).for_each(|page| fill(&mut mapping, page, page as u64));
    let (mut sender, receiver) = (MemorySender::default(), Receiver::new());
    let (stream, first) = round_in(Form::Pages, &mut sender, 1, 0);
    receiver.take(1, &stream);
    assert!(first.sent_bytes >= 600 * PAGE as u64);
    (0..5).for_each(|page| fill(&mut mapping, page, 1000 + page as u64));
    // It did not arrive, and the next one brings the same again.
    drop(round_in(Form::Pages, &mut sender, 2, 1));
    let (stream, second) = round_in(Form::Pages, &mut sender, 3, 1);
    receiver.take(3, &stream);
    assert!(second.sent_bytes >= 5 * PAGE as u64);

    (300..303).for_each(|page| fill(&mut mapping, page, 2000 + page as u64));
    let known = sender.known(3);
    let whole = tempfile::tempdir().unwrap();
    // Not a constant: those are pages of this program.
    let head: Vec<u8> = (0..2 * PAGE).map(|at| (at % 251) as u8 ^ 0xc5).collect();
    let content = image(&mut mapping, &head);
    let written = whole.path().join("redis/dmtcp-partial");
    fs::create_dir_all(&written).unwrap();
    let (temporary, last) = (
        written.join("ckpt_a.dmtcp.temp"),
        whole.path().join("redis/ckpt_a.dmtcp"),
    );
    fs::write(&temporary, &content[..50 * PAGE + 11]).unwrap();
    // It is written on, and renamed, while it is followed.
    let calls = std::cell::Cell::new(0);
    let done = || {
        calls.set(calls.get() + 1);
        match calls.get() {
            2 => fs::write(&temporary, &content).unwrap(),
            3 => fs::rename(&temporary, written.join("ckpt_a.dmtcp")).unwrap(),
            4 => {
                fs::rename(written.join("ckpt_a.dmtcp"), &last).unwrap();
                fs::remove_dir(&written).unwrap();
                fs::write(whole.path().join("redis/list.json"), "{}").unwrap();
            }
            _ => {}
        }
        calls.get() > 3
    };
    let mut out = FrameWriter::new(Vec::new(), &Options::default()).unwrap();
    let summary = send_images(&mut out, whole.path(), &known, done).unwrap();
    let stream = out.finish().unwrap().0;
    assert_eq!(summary.known_bytes, 597 * PAGE as u64);
    assert_eq!(
        summary.bytes + summary.known_bytes,
        content.len() as u64 + 2
    );
    assert!(stream.len() < 10 * PAGE, "{} bytes", stream.len());
    receiver.take(0, &stream);
    let arrived = receiver.round(0).join("redis");
    assert!(fs::read(arrived.join("ckpt_a.dmtcp")).unwrap() == content);
    assert_eq!(fs::read_dir(&arrived).unwrap().count(), 2);
}

#[test]
fn pages_that_no_round_brought_are_refused() {
    let known = |round, page| {
        let mut out = FrameWriter::new(Vec::new(), &Options::default()).unwrap();
        let id = b"images/1";
        out.put(&crate::wire::Frame::ImagesBegin { id }).unwrap();
        let (file, path) = (0, &b"redis/ckpt_a.dmtcp"[..]);
        out.put(&crate::wire::Frame::ImageFile { file, path })
            .unwrap();
        let (offset, count) = (0, 2);
        let frame = crate::wire::Frame::ImageKnown {
            file,
            offset,
            round,
            page,
            count,
        };
        out.put(&frame).unwrap();
        out.finish().unwrap().0
    };
    let receiver = Receiver::new();
    fs::create_dir(receiver.round(1)).unwrap();
    fs::create_dir(receiver.round(2)).unwrap();
    for round in ["1", "2"] {
        fs::write(receiver.0.path().join(round).join(STORE), [1; 3 * PAGE]).unwrap();
    }
    let take = |stream: &[u8], rounds: Option<&Path>| {
        let mut reader = FrameReader::new(stream, &Budget::default()).unwrap();
        let Some(Section::Images(begin)) = reader.next_section().unwrap() else {
            panic!("no images")
        };
        let to = receiver.round(0);
        match rounds {
            Some(rounds) => receive_images_over(&mut reader, &begin, &to, rounds, &receiver.1),
            None => crate::receive_images(&mut reader, &begin, &to),
        }
        .unwrap_err()
        .to_string()
    };
    let rounds = receiver.0.path();
    for (stream, rounds, why) in [
        (known(2, 0), Some(rounds), "does not build"),
        (known(0, 0), Some(rounds), "does not build"),
        (known(1, 2), Some(rounds), "read"),
        (known(1, u32::MAX), Some(rounds), "read"),
        (known(1, 0), None, "builds on no round"),
    ] {
        let error = take(&stream, rounds);
        assert!(error.contains(why), "{error}");
    }
}
