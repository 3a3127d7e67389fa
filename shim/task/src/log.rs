//! The shim's log goes to the FIFO `log` in the bundle, which containerd reads.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::Arc;

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

/// Writes lines to the FIFO. When nobody reads and the pipe is full a line is dropped: a
/// missing reader must never hold up a container.
#[derive(Clone)]
struct LogFifo(Arc<File>);

impl Write for LogFifo {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = (&*self.0).write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFifo {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Sends `tracing` to the FIFO `log` in the current directory. Without one, nothing is logged.
pub fn init(debug: bool) {
    // Read and write: so it opens without a reader, and a reader that comes back (containerd
    // was restarted) finds the same pipe.
    let Ok(fifo) = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("log")
    else {
        return;
    };
    if !fifo.metadata().is_ok_and(|meta| meta.file_type().is_fifo()) {
        return;
    }
    let level = if debug { Level::DEBUG } else { Level::INFO };
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(LogFifo(Arc::new(fifo)))
        .try_init();
}
