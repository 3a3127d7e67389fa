//! Shims that are killed while a volume is on its way, and a destination that loses its power.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_integration::{Node, RunningPod, Testbed};

use super::moves::{ask, writer};
use super::{FOLDER, GRACE, empty_dir, fresh, nothing_mounted};
use crate::expect;
use crate::migration::migrate;
use crate::world::{Scenario, Skip, need_daemon, three};

/// The shim is killed so long after the move began; the first round takes about ten seconds.
const INTO_THE_ROUND: Duration = Duration::from_secs(3);
const BANDWIDTH: &str = "2MB/s";

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("volumes::killed_shim_of_source", killed_shim_of_source),
        Scenario::new(
            "volumes::killed_shim_of_destination",
            killed_shim_of_destination,
        ),
        Scenario::new("volumes::power_cut", power_cut),
    ]
}

fn kill_shims(node: &Node) -> Result<()> {
    node.sh("pkill -KILL -f 'containerd-shim-[m]ycedrive'")
        .map(drop)
        .map_err(Into::into)
}

/// Starts a move over a slow link and kills the shims of one node in the middle of the first
/// round; answers with how the start on B ended.
fn killed_in_a_round(
    testbed: &Testbed,
    name: &str,
    kill: &str,
) -> Result<(RunningPod, u64, mycedrive_integration::Result<RunningPod>)> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir(name);
    fresh(&[a, b], &volume)?;
    a.sh(&format!("head -c 20000000 /dev/urandom >{volume}/base"))?;
    let pod = writer(name, &volume);
    let source = a.run_pod(&pod)?;
    let before = ask(a, &source)?;
    let slow = pod
        .annotation("mycedrive.io/bandwidth", BANDWIDTH)
        .migrate_from(&a.address());
    let started = std::thread::scope(|scope| -> Result<_> {
        let moving = scope.spawn(|| b.run_pod(&slow));
        sleep(INTO_THE_ROUND);
        let round = b.sh("mycedrive migrations --json")?;
        kill_shims(testbed.node(kill)?)?;
        let started = moving
            .join()
            .map_err(|_| anyhow::anyhow!("the move panicked"))?;
        expect::contains("what B was at", &round, &["\"copying\""])?;
        Ok(started)
    })?;
    Ok((source, before, started))
}

/// The processes end, as under any runtime whose shim dies; their volume is a plain directory with
/// everything in it, and B says why nothing came.
fn killed_shim_of_source(testbed: &Testbed) -> Result<()> {
    let (source, before, started) = killed_in_a_round(testbed, "source-shim", "a")?;
    let (a, b, _) = three(testbed)?;
    let message = expect::failure("the move", started)?;
    ensure!(!message.is_empty(), "no reason");
    let volume = empty_dir("source-shim");
    expect::soon("a plain directory on A", 20, || {
        Ok(a.sh(&format!("test -e {volume}/log && echo yes || true"))? == "yes")
    })?;
    let broken = a.sh(&format!(
        "awk '$1 != NR - 1 {{ print NR \": \" $1; exit }}' {volume}/log"
    ))?;
    expect::equal("first line that is not as written", broken.as_str(), "")?;
    let lines: u64 = a.sh(&format!("wc -l <{volume}/log"))?.parse()?;
    ensure!(lines > before, "{lines} lines, {before} were seen");
    expect::soon("the pod's end", 20, || Ok(a.remove_pod(&source).is_ok()))?;
    nothing_mounted(a)?;
    nothing_mounted(b)
}

/// The source has not stood still, and the next attempt brings everything.
fn killed_shim_of_destination(testbed: &Testbed) -> Result<()> {
    let (source, before, started) = killed_in_a_round(testbed, "destination-shim", "b")?;
    let (a, b, _) = three(testbed)?;
    expect::failure("the move", started)?;
    let still = ask(a, &source)?;
    ensure!(still > before, "the source stands still at {still}");
    nothing_mounted(b)?;
    let destination = migrate(
        a,
        b,
        &writer("destination-shim", &empty_dir("destination-shim")),
    )?;
    let after = ask(b, &destination)?;
    ensure!(
        after > still,
        "the writer went back from {still} to {after}"
    );
    a.stop_pod(&source, GRACE)?;
    b.stop_pod(&destination, GRACE)?;
    nothing_mounted(a)?;
    nothing_mounted(b)
}

/// A file system in a file, mounted in a node, whose journal the clock does not write.
struct Disk<'a> {
    node: &'a Node,
    volume: String,
    image: PathBuf,
    device: String,
}

impl<'a> Disk<'a> {
    fn mount(node: &'a Node, volume: &str) -> Result<Self> {
        let image = node.root().join("srv/disk.img");
        host("truncate", &["-s", "96M", text(&image)])?;
        host("mkfs.ext4", &["-q", "-F", text(&image)])?;
        let device = host("losetup", &["--find", "--show", text(&image)])?;
        let disk = Self {
            node,
            volume: volume.to_owned(),
            image,
            device,
        };
        let number = disk.device.trim_start_matches("/dev/loop");
        node.sh(&format!(
            "rm -f /srv/disk; mknod /srv/disk b 7 {number}; mount -t ext4 -o commit=600 /srv/disk {volume}; \
             chmod 777 {volume}; rmdir {volume}/lost+found"
        ))?;
        Ok(disk)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = self.node.sh(&format!("umount {}", self.volume));
        let _ = host("losetup", &["--detach", &self.device]);
        let _ = std::fs::remove_file(&self.image);
    }
}

/// B's disk as a loss of power just after the arrival would leave it has what the source had when
/// it stood still.
fn power_cut(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    if host("mkfs.ext4", &["-V"]).is_err() || !Path::new("/dev/loop-control").exists() {
        let reason = "a file system in a file needs mkfs.ext4 and loop devices";
        return Err(Skip(reason.to_owned()).into());
    }
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir("power");
    fresh(&[a, b], &volume)?;
    let disk = Disk::mount(b, &volume)?;
    a.sh(&format!("head -c 4000000 /dev/urandom >{volume}/base"))?;
    let pod = writer("power", &volume);
    let source = a.run_pod(&pod)?;
    ask(a, &source)?;
    let destination = migrate(a, b, &pod)?;
    let folder = tempfile::tempdir()?;
    let (image, cut) = (folder.path().join("image"), folder.path().join("cut"));
    host("cp", &["--sparse=always", text(&disk.image), text(&image)])?;
    ask(b, &destination)?;
    std::fs::create_dir(&cut)?;
    host("mount", &["-o", "loop", text(&image), text(&cut)])?;
    let compared = same_layers(a, &volume, &cut);
    host("umount", &[text(&cut)])?;
    a.stop_pod(&source, GRACE)?;
    b.stop_pod(&destination, GRACE)?;
    drop(disk);
    compared?;
    nothing_mounted(b)
}

/// The held source's layers are what `cut` has as layers.
fn same_layers(a: &Node, volume: &str, cut: &Path) -> Result<()> {
    let here = a.root().join(volume.trim_start_matches('/')).join(FOLDER);
    let there = cut.join(FOLDER);
    for (ours, theirs) in [("base", "base"), ("upper", "layer-1")] {
        let (ours, theirs) = (here.join(ours), there.join(theirs));
        host(
            "diff",
            &["-r", "--no-dereference", text(&ours), text(&theirs)],
        )?;
    }
    Ok(())
}

/// Runs a command on this machine; answers with what it printed.
fn host(program: &str, arguments: &[&str]) -> Result<String> {
    let done = Command::new(program).args(arguments).output()?;
    let printed = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    ensure!(
        done.status.success(),
        "{program} {arguments:?}: {printed} {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(printed)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
