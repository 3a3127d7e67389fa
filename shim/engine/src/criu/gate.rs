//! A CRIU that is started before the processes stop, and waits for that.
//!
//! The OCI runtime and CRIU take longer to start than CRIU takes to dump a small program. So they
//! start while the pod still runs; CRIU waits in our plugin ([`plugins`]), where it has not looked at
//! any process yet. What the plugin waits for is a line out of a pipe: when the shim dies, the pipe
//! ends and CRIU gives up.

use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::plugins::{self, Plugins};
use crate::Runner;
use crate::runner::Started;

/// So long the way to the gate may take. It is some tens of milliseconds.
const WAY: Duration = Duration::from_secs(2);

/// A runtime with its CRIU at the gate.
pub(super) struct Waiting {
    image_dir: PathBuf,
    started: Started,
    exit: watch::Receiver<Option<i32>>,
    _plugins: Plugins,
    /// The plugin opens it by its number.
    _gate: PipeReader,
    open: PipeWriter,
}

impl Waiting {
    /// Starts `command` and returns when CRIU waits.
    pub(super) async fn start(
        runner: &dyn Runner,
        mut command: Command,
        image_dir: &Path,
        plugins: Plugins,
    ) -> io::Result<Self> {
        let (gate, open) = io::pipe()?;
        let (arrived, arriving) = io::pipe()?;
        plugins::wait_at(&mut command, &gate, &arriving);
        let started = runner.start(command)?;
        let mut waiting = Self {
            image_dir: image_dir.to_owned(),
            exit: started.exit(),
            started,
            _plugins: plugins,
            _gate: gate,
            open,
        };
        let mut arrived = pipe::Receiver::from_owned_fd(arrived.into())?;
        let way = async {
            tokio::select! {
                read = arrived.read_u8() => read.map(drop),
                _ = waiting.exit.wait_for(Option::is_some) => {
                    Err(io::Error::other("it ended before it waited for the freeze"))
                }
            }
        };
        let result = tokio::time::timeout(WAY, way).await;
        drop(arriving);
        match result {
            Ok(Ok(())) => Ok(waiting),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Whether it waits to write an image there.
    pub(super) fn is_for(&self, image_dir: &Path) -> bool {
        self.image_dir == image_dir && self.started.ended().is_none()
    }

    /// Lets CRIU dump, with our plugin answering for these sockets. Returns the runtime's exit code.
    pub(super) async fn go(mut self, inodes: &[u32], limit: Duration) -> io::Result<i32> {
        // A runtime that has just died shows below.
        let _ = self
            .open
            .write_all(format!("{}\n", plugins::list(inodes)).as_bytes());
        let ended = self.exit.wait_for(Option::is_some);
        let code = match tokio::time::timeout(limit, ended).await {
            Ok(Ok(code)) => code.unwrap_or(255),
            Ok(Err(_)) => return Err(io::Error::other("nobody waits for it any more")),
            Err(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("not done after {limit:?}"),
                ));
            }
        };
        Ok(code)
    }
}

/// One that did not end is given up. CRIU ends as the pipe does.
impl Drop for Waiting {
    fn drop(&mut self) {
        self.started.kill();
    }
}
