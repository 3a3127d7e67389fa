//! The coordinator of a pod: DMTCP's own program, started and watched by the shim.
//!
//! It has no authentication: whoever reaches its port can stop the pod, and have it write files
//! of its choice. So its listening socket is made here, on the loopback interface of the pod's
//! network namespace and nowhere else, and handed over as the descriptor that the coordinator
//! takes for an inherited one. The program itself runs outside of the pod as nobody, without
//! privileges, and sees every file system read-only but a small tmpfs of its own.
//!
//! The sockets it accepts inherit `TCP_NODELAY` from the listening one; without it each
//! checkpoint takes 350 ms longer.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::TcpNoDelay};
use tokio::sync::watch;

use super::message::{self, Answer, Dialect, LENGTH};
use super::{POLL, sandbox};
use crate::runner::{Runner, Started};
use crate::{EngineError, netns};

/// Where the coordinator looks for a listening socket that it inherited (`protectedfds.h`).
const INHERITED: RawFd = 821;
/// How long a request may take; the coordinator answers at once, or it hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long processes may take to go on after an earlier checkpoint.
const GO_ON: Duration = Duration::from_secs(2);

/// A running coordinator. Dropped, it is killed.
pub(super) struct Coordinator {
    namespace: Arc<File>,
    port: u16,
    dialect: Dialect,
    process: Started,
}

/// A socket on which a coordinator will listen.
pub(super) struct Bound {
    namespace: Arc<File>,
    listener: TcpListener,
    port: u16,
}

impl Bound {
    /// On a free port of the loopback interface in the network namespace at `namespace`.
    pub(super) fn new(namespace: &Path) -> Result<Self, EngineError> {
        let failed = |source| EngineError::Coordinator { source };
        let namespace = File::open(namespace).map_err(EngineError::io("open", namespace))?;
        let namespace = Arc::new(namespace);
        let listener = netns::within(&namespace, || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            setsockopt(&listener, TcpNoDelay, &true)?;
            Ok(listener)
        })
        .map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self {
            namespace,
            listener,
            port,
        })
    }

    /// The port.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }
}

impl Coordinator {
    /// Starts one. `log` gets what it prints.
    pub(super) async fn start(
        runner: &dyn Runner,
        prefix: &Path,
        version: &str,
        bound: Bound,
        log: &Path,
    ) -> Result<Self, EngineError> {
        let failed = |source| EngineError::Coordinator { source };
        let Bound {
            namespace,
            listener,
            port,
        } = bound;
        let log = File::create(log).map_err(EngineError::io("create", log))?;

        let mut command = Command::new(prefix.join("bin/dmtcp_coordinator"));
        command
            .args(["--quiet", "--interval", "0", "--stale-timeout"])
            // About 68 years. 0 stands for the default, eight hours.
            .arg(i32::MAX.to_string())
            .args([
                "--tmpdir",
                sandbox::WRITABLE,
                "--ckptdir",
                sandbox::WRITABLE,
            ])
            .arg("--coord-port")
            .arg(port.to_string())
            .env_clear()
            .env("DMTCP_COORD_LOG_FILENAME", "/dev/null")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let socket = listener.as_raw_fd();
        // SAFETY: between fork and exec only system calls are made, on values made before.
        unsafe {
            command.pre_exec(move || {
                sandbox::enter()?;
                // Not close-on-exec, unlike the original.
                nix::errno::Errno::result(libc::dup2(socket, INHERITED))?;
                Ok(())
            });
        }
        let process = runner.start(command).map_err(failed)?;
        let coordinator = Self {
            namespace,
            port,
            dialect: Dialect::of(version),
            process,
        };
        // It answers as soon as it has started: connections wait in the listening socket.
        coordinator.ask(message::Command::Status).await?;
        Ok(coordinator)
    }

    /// The port, on the loopback interface of the pod.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Its pid.
    pub(super) const fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Holds its exit code once it has ended.
    pub(super) fn exit(&self) -> watch::Receiver<Option<i32>> {
        self.process.exit()
    }

    /// Whether it runs.
    pub(super) fn alive(&self) -> bool {
        self.process.ended().is_none()
    }

    /// Asks it.
    pub(super) async fn ask(&self, command: message::Command) -> Result<Answer, EngineError> {
        let (dialect, port) = (self.dialect, self.port);
        let namespace = self.namespace.clone();
        let asked = tokio::task::spawn_blocking(move || {
            netns::within(&namespace, move || ask(port, dialect, command))
        });
        let result = match asked.await {
            Ok(result) => result,
            Err(error) => Err(io::Error::other(error)),
        };
        result.map_err(|source| match self.process.ended() {
            Some(code) => EngineError::Coordinator {
                source: io::Error::other(format!("it ended with code {code}")),
            },
            None => EngineError::Coordinator { source },
        })
    }
}

impl Coordinator {
    /// Waits until so many processes run and could take part in a checkpoint: those of an earlier
    /// one need a moment to go on. What is in the way is the inner error.
    pub(super) async fn ready(&self, processes: usize) -> Result<Result<(), String>, EngineError> {
        let begin = Instant::now();
        loop {
            let status = self.ask(message::Command::Status).await?;
            if status.running && status.peers as usize == processes {
                return Ok(Ok(()));
            }
            if begin.elapsed() > GO_ON {
                let ready = if status.running { status.peers } else { 0 };
                return Ok(Err(format!(
                    "{ready} of its {processes} processes are ready for it; try again"
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// One request on a connection of its own.
fn ask(port: u16, dialect: Dialect, command: message::Command) -> io::Result<Answer> {
    let address = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&dialect.encode(command))?;
    let mut bytes = [0; LENGTH];
    stream.read_exact(&mut bytes)?;
    let answer = dialect.decode(&bytes)?;
    // Read, so that the coordinator is not reset while it writes.
    io::copy(&mut stream.take(answer.extra.into()), &mut io::sink())?;
    Ok(answer)
}

/// The end of what a coordinator printed, for messages.
pub(super) fn last_words(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().take(300).collect())
}
