//! A session attached to a container's streams, as `kubectl attach -i` makes one.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Error, Node, Result, RunningPod};

const CLIENT: &str = include_str!("attach.py");

/// An attached session. Dropping it ends the session, not the container.
#[derive(Debug)]
pub struct Attach {
    child: Child,
    commands: ChildStdin,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Attach {
    /// Attaches to a container of a pod on `node`; `tty` as the container has it.
    pub fn start(node: &Node, pod: &RunningPod, container: &str, tty: bool) -> Result<Self> {
        let url = node.cri()?.attach(pod.id(container), tty, true)?;
        let spawn = |source| Error::Spawn {
            command: format!("attach to {container}"),
            source,
        };
        let missing = || spawn(std::io::Error::other("no pipe"));
        let mut child = node
            .command(&["python3", "-c", CLIENT, &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(spawn)?;
        let commands = child.stdin.take().ok_or_else(missing)?;
        let mut stdout = child.stdout.take().ok_or_else(missing)?;
        let output = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&output);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                let mut all = shared.lock().unwrap_or_else(PoisonError::into_inner);
                all.extend_from_slice(&buffer[..length]);
            }
        });
        Ok(Self {
            child,
            commands,
            output,
        })
    }

    /// Types.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let hex = text.bytes().fold(String::new(), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        self.command(&format!("input {hex}"))
    }

    /// Sets the terminal's size.
    pub fn resize(&mut self, width: u16, height: u16) -> Result<()> {
        self.command(&format!("resize {width} {height}"))
    }

    /// What the container has written since the session began.
    pub fn output(&self) -> String {
        let all = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&all).into_owned()
    }

    fn command(&mut self, line: &str) -> Result<()> {
        writeln!(self.commands, "{line}").map_err(Error::file("write to", "the attached session"))
    }
}

impl Drop for Attach {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
