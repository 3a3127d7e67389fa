//! Pages of the container's image, which the destination has.

use anyhow::{Context, Result, ensure};
use mycedrive_integration::{Container, Node, Pod, Testbed};

use super::{GRACE, events, nothing_left};
use crate::migration::{client, finish, migrate};
use crate::world::{Scenario, need_daemon, three};
use crate::{engine, expect};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("memory::image::not_sent", not_sent),
        Scenario::new("memory::image::another_one", another_one),
    ]
}

fn pod() -> Pod {
    let args = ["redis-server", "--protected-mode", "no", "--save", ""];
    Pod::new("shop", "redis-0")
        .with(Container::new("redis", "redis", &args))
        .annotation(engine::ANNOTATION, "dmtcp")
}

/// What the rounds of the newest migration say: `… of … memory, … from the image, …`, of which the
/// last part may be missing. Mebibytes of memory, of those sent, and from the image.
fn rounds(node: &Node) -> Result<Vec<[f64; 3]>> {
    let rounds = events(node, "round")?;
    let numbers = |text: &String| {
        let mebibytes = |words: &str| {
            let mut words = words.split(' ');
            let number: f64 = words.next()?.parse().ok()?;
            Some(match words.next()? {
                "B" => number / f64::from(1 << 20),
                "KiB" => number / 1024.0,
                _ => number,
            })
        };
        let parts: Vec<&str> = text.split(", ").collect();
        let place = parts.iter().position(|part| part.ends_with(" memory"))?;
        let (sent, all) = parts[place].split_once(" of ")?;
        let shared = parts[place + 1].ends_with(" from the image");
        let shared = if shared { parts[place + 1] } else { "0 B" };
        Some([mebibytes(all)?, mebibytes(sent)?, mebibytes(shared)?])
    };
    let read: Option<Vec<_>> = rounds.iter().map(numbers).collect();
    read.with_context(|| format!("unexpected text: {rounds:?}"))
}

/// There and back with a client; nothing of the libraries is sent.
fn not_sent(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    engine::need(a, "dmtcp")?;
    let mut source = a.run_pod(&pod())?;
    let mut at = a;
    for to in [b, a] {
        let client = client(outside, &source.ip)?;
        let destination = migrate(at, to, &pod())?;
        finish(client)?;
        let rounds = rounds(to)?;
        let [all, sent, shared] = *rounds.first().context("no round")?;
        ensure!(
            shared > 10.0,
            "{shared} of {all} MiB from the image: {rounds:?}"
        );
        ensure!(sent + shared < all + 1.0, "{rounds:?}");
        let later = rounds[1..].iter().all(|[_, _, shared]| *shared < 1.0);
        ensure!(later, "taken from the image again: {rounds:?}");
        ensure!(events(to, "image-differs")?.is_empty());
        at.stop_pod(&source, GRACE)?;
        (source, at) = (destination, to);
    }
    at.stop_pod(&source, GRACE)?;
    nothing_left(&[a, b])
}

/// A file of the image, changed on a node in place until this is dropped.
struct Changed<'a> {
    node: &'a Node,
    file: String,
}

impl<'a> Changed<'a> {
    fn new(node: &'a Node, name: &str) -> Result<Self> {
        let layers = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
        let find = format!("find {layers} -path '*/fs/*' -type f -name '{name}'");
        let found = node.sh(&find)?;
        let file = found.lines().next().context("no such file")?.to_owned();
        let changed = Self { node, file };
        changed.flip()?;
        Ok(changed)
    }

    /// Turns every bit of a byte in its middle; twice is not at all.
    fn flip(&self) -> Result<()> {
        let Self { node, file } = self;
        node.sh(&format!(
            "python3 -c \"
f = open('{file}', 'r+b')
at = f.seek(0, 2) // 2
f.seek(at); byte = f.read(1)[0]
f.seek(at); f.write(bytes([byte ^ 255]))\""
        ))?;
        Ok(())
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.flip() {
            eprintln!("{} stays changed: {error}", self.file);
        }
    }
}

/// The destination's copy of the image is damaged: everything is sent, and the program runs on
/// with what it had.
fn another_one(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    engine::need(a, "dmtcp")?;
    let source = a.run_pod(&pod())?;
    let changed = Changed::new(b, "libcrypto.so.3")?;
    let client = client(outside, &source.ip)?;
    let destination = migrate(a, b, &pod())?;
    finish(client)?;
    let differs = events(b, "image-differs")?;
    let why = differs.first().context("it was not noticed")?;
    expect::contains("why", why, &["redis/", "libcrypto.so.3"])?;
    let rounds = rounds(b)?;
    ensure!(
        rounds.iter().all(|[_, _, shared]| *shared == 0.0),
        "{rounds:?}"
    );
    ensure!(rounds[0][1] > 10.0, "{rounds:?}");
    drop(changed);
    b.stop_pod(&destination, GRACE)?;
    a.stop_pod(&source, GRACE)?;
    nothing_left(&[a, b])
}
