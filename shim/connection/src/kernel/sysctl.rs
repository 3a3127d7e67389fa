//! `/proc/sys`, as seen from the calling thread: below `net/` the kernel shows the values of
//! the reader's network namespace.

use crate::{Error, Result};
use std::{fs, io};

pub(crate) fn read(path: &str) -> Result<Option<String>> {
    match fs::read_to_string(format!("/proc/sys/{path}")) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(path, source)),
    }
}

pub(crate) fn write(path: &str, value: &str) -> Result<()> {
    fs::write(format!("/proc/sys/{path}"), value).map_err(|source| failed(path, source))
}

/// Write where the kernel has it. Absent means that the feature is not built in, or that the
/// interface is gone.
pub(crate) fn write_if_present(path: &str, value: &str) -> Result<()> {
    match write(path, value) {
        Err(Error::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn failed(path: &str, source: io::Error) -> Error {
    Error::Sysctl {
        path: path.into(),
        source,
    }
}
