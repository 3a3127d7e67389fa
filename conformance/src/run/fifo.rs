//! FIFOs of a process's streams, read and written without ever blocking.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::stat::Mode;

use crate::script::INPUT;

/// Our end of a FIFO.
pub struct Fifo {
    file: File,
    text: String,
}

impl Fifo {
    /// Makes a FIFO that a process writes to.
    pub fn reader(path: &Path) -> Result<Self> {
        Self::open(path, OpenOptions::new().read(true))
    }

    /// Makes a FIFO that a process reads, with something in it.
    pub fn writer(path: &Path) -> Result<Self> {
        // With both ends: the shim may open its own later.
        let mut fifo = Self::open(path, OpenOptions::new().read(true).write(true))?;
        writeln!(fifo.file, "{INPUT}")?;
        Ok(fifo)
    }

    fn open(path: &Path, options: &mut OpenOptions) -> Result<Self> {
        let what = || format!("cannot make {}", path.display());
        nix::unistd::mkfifo(path, Mode::S_IRWXU).with_context(what)?;
        let file = options
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .with_context(what)?;
        Ok(Self {
            file,
            text: String::new(),
        })
    }

    /// All that was written so far.
    pub fn text(&mut self) -> &str {
        let mut buffer = [0; 4096];
        // 0: nobody has it open for writing; an error: there is nothing at the moment.
        while let Ok(length @ 1..) = self.file.read(&mut buffer) {
            self.text
                .push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        &self.text
    }
}
