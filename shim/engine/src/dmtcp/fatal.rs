//! Programs that died of DMTCP on this node: they are not tried with it again.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// A file for each program, named by its digest, with the reason in it.
const FOLDER: &str = "/var/lib/mycedrive/dmtcp/fatal";

fn file(digest: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(digest)
}

/// Why a program is not tried, if that is so.
pub(super) fn reason(digest: &str) -> Option<String> {
    let file = file(digest);
    let text = fs::read_to_string(&file).ok()?;
    Some(format!(
        "on this node it died of DMTCP before ({}); remove {} to try again",
        text.trim(),
        file.display()
    ))
}

/// Remembers a program.
pub(super) fn remember(digest: &str, reason: &str) {
    let write = || -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(FOLDER)?;
        fs::write(file(digest), reason)
    };
    if let Err(error) = write() {
        tracing::warn!(%error, digest, reason, "a program that died of DMTCP is not remembered");
    }
}
