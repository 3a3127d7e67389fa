//! A restore that is started before its image is whole, and waits for it.
//!
//! The OCI runtime, which starts CRIU twice, takes about as long as CRIU then takes to make the
//! processes of a small program. So it is started while the image is still being written and sent. It
//! is told of a directory beside the image. There `inventory.img`, the first file that CRIU reads of an
//! image (`check_img_inventory` in CRIU's criu/image.c), leads to a pipe of this process; all else comes
//! when the image is whole.
//!
//! Nothing of the container exists before. When this process dies, the pipe ends or leads nowhere;
//! CRIU fails as it does with a damaged image, and the runtime takes back what it has done.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{descriptors, runtime};
use crate::runner::Started;
use crate::{Runner, Target};

const INVENTORY: &str = "inventory.img";
/// Largest inventory, in bytes: it must fit into a pipe. CRIU writes some hundred.
const LARGEST: u64 = 32 << 10;
/// How long a runtime may take to end that is not needed any more.
const END: Duration = Duration::from_secs(5);
/// Between two looks whether CRIU has read the inventory.
const LOOK: Duration = Duration::from_millis(1);

/// A runtime that waits, or is on its way to where it does.
pub(super) struct Early {
    target: Target,
    work_dir: PathBuf,
    gate: Gate,
    /// What the runtime was told of the standard streams.
    descriptors: Vec<String>,
    started: Started,
    exit: watch::Receiver<Option<i32>>,
    /// CRIU opens it by its number. As long as it is here, what was written is not lost.
    reader: PipeReader,
    writer: PipeWriter,
}

/// The directory that the runtime is told of.
pub(super) struct Gate(PathBuf);

impl Gate {
    /// Beside that of the whole pod's images: at the same depth, so that links in images lead from
    /// here to where they led.
    pub(super) fn of(image_dir: &Path) -> io::Result<Self> {
        let beside = image_dir.parent().and_then(|pod| {
            let mut name = pod.file_name()?.to_owned();
            name.push(".gate");
            Some(pod.with_file_name(name).join(image_dir.file_name()?))
        });
        beside
            .map(Self)
            .ok_or_else(|| io::Error::other("an image has a place below a directory"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn make(&self, pipe: &PipeReader, descriptors: &[String]) -> io::Result<()> {
        self.clear()?;
        runtime::private_directory(&self.0).map_err(io::Error::other)?;
        let list = serde_json::to_vec(descriptors).map_err(io::Error::other)?;
        fs::write(self.0.join(descriptors::FILE), list)?;
        let pipe = format!("/proc/{}/fd/{}", std::process::id(), pipe.as_raw_fd());
        symlink(pipe, self.0.join(INVENTORY))
    }

    /// Gives it everything of an image but what it has.
    fn fill(&self, image_dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(image_dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == INVENTORY || name == descriptors::FILE {
                continue;
            }
            let here = self.0.join(&name);
            if entry.file_type()?.is_symlink() {
                symlink(fs::read_link(entry.path())?, here)?;
            } else {
                fs::hard_link(entry.path(), here)?;
            }
        }
        Ok(())
    }

    fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            tracing::debug!(%error, directory = %self.0.display(), "a directory stays");
        }
        if let Some(pod) = self.0.parent() {
            // Unless another container has one there.
            let _ = fs::remove_dir(pod);
        }
    }
}

impl Early {
    /// Starts `command`, a restore from the directory `gate`.
    pub(super) fn start(
        runner: &dyn Runner,
        command: Command,
        gate: Gate,
        (target, work_dir): (&Target, &Path),
        descriptors: &[String],
    ) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        gate.make(&reader, descriptors)?;
        let started = runner.start(command)?;
        Ok(Self {
            target: target.clone(),
            work_dir: work_dir.to_owned(),
            gate,
            descriptors: descriptors.to_vec(),
            exit: started.exit(),
            started,
            reader,
            writer,
        })
    }

    /// The image is whole: lets CRIU go on, and returns the runtime's exit code. `None`: it was not of
    /// use, and nothing of it is left.
    pub(super) async fn go(
        mut self,
        runner: &dyn Runner,
        image_dir: &Path,
    ) -> Option<io::Result<i32>> {
        if let Err(error) = self.open(image_dir) {
            let container = &self.target.name;
            tracing::info!(container, %error, "its restore starts anew");
            self.give_up(runner).await;
            return None;
        }
        let Self {
            writer,
            reader,
            mut exit,
            started,
            gate,
            ..
        } = self;
        let reading = async {
            while unread(&reader) && started.ended().is_none() {
                sleep(LOOK).await;
            }
        };
        let _ = timeout(runtime::LIMIT, reading).await;
        // CRIU reads to the end.
        drop(writer);
        let ended = timeout(runtime::LIMIT, exit.wait_for(Option::is_some)).await;
        let code = match ended {
            Ok(Ok(code)) => Ok(code.unwrap_or(255)),
            Ok(Err(_)) => Err(io::Error::other("nobody waits for it any more")),
            Err(_) => {
                started.kill();
                let text = format!("not done after {:?}", runtime::LIMIT);
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        };
        drop(gate);
        Some(code)
    }

    fn open(&mut self, image_dir: &Path) -> io::Result<()> {
        if self.started.ended().is_some() {
            return Err(io::Error::other("the runtime ended before its image came"));
        }
        let found = descriptors::read(image_dir).map_err(io::Error::other)?;
        if found != self.descriptors {
            return Err(io::Error::other("the standard streams are other ones"));
        }
        let mut inventory = Vec::new();
        let file = fs::File::open(image_dir.join(INVENTORY))?;
        file.take(LARGEST + 1).read_to_end(&mut inventory)?;
        if inventory.is_empty() || inventory.len() as u64 > LARGEST {
            return Err(io::Error::other("its inventory has an unusual size"));
        }
        self.gate.fill(image_dir)?;
        self.writer.write_all(&inventory)
    }

    /// Ends it. Nothing of it is left.
    pub(super) async fn give_up(self, runner: &dyn Runner) {
        let Self {
            target,
            work_dir,
            gate,
            started,
            mut exit,
            reader,
            writer,
            ..
        } = self;
        drop((writer, reader));
        if timeout(END, exit.wait_for(Option::is_some)).await.is_err() {
            started.kill();
        }
        drop(gate);
        runtime::forget(runner, &target, &work_dir).await;
    }
}

/// Whether something that was written into the pipe has not been read.
fn unread(pipe: &PipeReader) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int; ioctl_list(2).
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    result == 0 && bytes > 0
}

#[cfg(test)]
#[path = "early_tests.rs"]
mod tests;
