//! Where the log goes: standard error, as text or JSON.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};
use crate::error::{Error, Result};

/// Starts the log. `MYCEDRIVE_LOG` comes before the configuration.
pub fn start(log: &Log) -> Result<()> {
    let level = std::env::var("MYCEDRIVE_LOG").unwrap_or_else(|_| log.level.clone());
    let filter = EnvFilter::try_new(&level).map_err(|error| {
        Error::Refused(format!(
            "log.level: {level:?} is not a filter such as \"info\" or \"info,mycedrive=debug\": \
             {error}"
        ))
    })?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.with_target(false).with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Error::Failed(format!("cannot start the log: {error}")))
}
