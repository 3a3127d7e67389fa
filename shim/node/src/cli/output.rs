//! Standard output: a reader that went away (`| head`) is no failure.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::error::{Error, Result};

/// Prints text as it is.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Failed(format!("cannot write the output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a line.
pub fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Prints JSON, indented.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::Failed(format!("cannot write JSON: {error}")))?;
    line(&text)
}

/// Prints JSON as one line: for streams.
pub fn json_line(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value)
        .map_err(|error| Error::Failed(format!("cannot write JSON: {error}")))?;
    line(&text)
}
