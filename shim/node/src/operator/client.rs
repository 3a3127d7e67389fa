//! The command's end of the operator's socket.

use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;

use super::{Answer, Ask};
use crate::error::{Error, Result};

/// A question that was asked; its answers come one after another.
#[derive(Debug)]
pub struct Answers {
    lines: Lines<BufReader<UnixStream>>,
}

/// Asks the daemon whose operator socket is `socket`.
pub async fn ask(socket: &Path, ask: &Ask) -> Result<Answers> {
    let no_daemon = |error: std::io::Error| Error::NoDaemon {
        socket: socket.to_owned(),
        message: error.to_string(),
    };
    let mut stream = UnixStream::connect(socket).await.map_err(no_daemon)?;
    let mut line = serde_json::to_vec(ask).map_err(|error| Error::Failed(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(no_daemon)?;
    Ok(Answers {
        lines: BufReader::new(stream).lines(),
    })
}

impl Answers {
    /// The next answer; nothing when there are no more. What the daemon refuses is an error.
    pub async fn next(&mut self) -> Result<Option<Answer>> {
        let line =
            self.lines.next_line().await.map_err(|error| {
                Error::Failed(format!("the daemon's answer broke off: {error}"))
            })?;
        let Some(line) = line else { return Ok(None) };
        match serde_json::from_str(&line) {
            Ok(Answer::Failed(message)) => Err(Error::Refused(message)),
            Ok(answer) => Ok(Some(answer)),
            Err(error) => Err(Error::Failed(format!(
                "the daemon's answer is of another version: {error}"
            ))),
        }
    }

    /// The only answer.
    pub async fn one(mut self) -> Result<Answer> {
        self.next()
            .await?
            .ok_or_else(|| Error::Failed("the daemon stopped before it answered".to_owned()))
    }
}
