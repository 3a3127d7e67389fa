//! The operator's commands.

mod archive;
mod args;
mod output;
mod picture;
mod pki;
mod ps;
mod report;
mod table;
mod watch;

#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use crate::config::{self, Config};
use crate::doctor;
use crate::error::{Error, Result};
use crate::operator::client::ask;
use crate::operator::{Answer, Ask, Decide};
use crate::serve;

pub use args::Args;
use args::{Command, ConfigCommand, VolumeCommand};
use output::{json, line, print};

/// How long threads of the daemon may take after everything else has ended.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// Parses the command line, does what it says.
pub fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mycedrive: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<ExitCode> {
    let file = args.config.as_deref();
    match args.command {
        Command::Pki(command) => pki::run(command).map(|()| ExitCode::SUCCESS),
        Command::Config(command) => configuration(file, &command).map(|()| ExitCode::SUCCESS),
        Command::Serve => {
            let config = Config::load(file)?;
            serve::logging::start(&config.log)?;
            let runtime = runtime(true)?;
            let served = runtime.block_on(serve::serve(config));
            // A thread that waits for the kernel must not keep the process.
            runtime.shutdown_timeout(LAST_MOMENT);
            served.map(|()| ExitCode::SUCCESS)
        }
        other => {
            let config = Config::load(file)?;
            runtime(false)?.block_on(client(&config, other))
        }
    }
}

fn runtime(daemon: bool) -> Result<tokio::runtime::Runtime> {
    let mut builder = if daemon {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder
        .enable_all()
        .build()
        .map_err(|error| Error::Failed(format!("cannot start: {error}")))
}

async fn client(config: &Config, command: Command) -> Result<ExitCode> {
    let socket = config.operator_socket();
    match command {
        Command::Ps(format) => {
            if let Answer::Pods(pods) = ask(&socket, &Ask::Pods).await?.one().await? {
                if format.json {
                    json(&pods)?;
                } else {
                    print(&ps::pods(&pods))?;
                }
            }
        }
        Command::Migrations(format) => {
            if let Answer::Migrations(all) = ask(&socket, &Ask::Migrations).await?.one().await? {
                if format.json {
                    json(&all)?;
                } else {
                    print(&ps::migrations(&all))?;
                }
            }
        }
        Command::Watch { id, format } => return watch::run(&socket, id, format.json).await,
        Command::Report { id, svg, format } => {
            if let Answer::Migration(one) = ask(&socket, &Ask::Show { id }).await?.one().await? {
                if let Some(file) = svg {
                    let picture = picture::svg(&one);
                    std::fs::write(&file, picture).map_err(Error::io("cannot write", &file))?;
                    line(&format!("wrote {}", file.display()))?;
                } else if format.json {
                    json(&one)?;
                } else {
                    print(&report::text(&one))?;
                }
            }
        }
        Command::Resolve { id, here, .. } => {
            let decide = if here {
                Decide::RunHere
            } else {
                Decide::RunThere
            };
            done(
                ask(&socket, &Ask::Resolve { id, decide })
                    .await?
                    .one()
                    .await?,
            )?;
        }
        Command::Volume(VolumeCommand::Checkpoint { pod, volume, out }) => {
            let out = std::path::absolute(&out).map_err(Error::io("cannot use", &out))?;
            done(
                ask(&socket, &Ask::CheckpointVolume { pod, volume, out })
                    .await?
                    .one()
                    .await?,
            )?;
        }
        Command::Cancel { id, reason } => {
            done(
                ask(&socket, &Ask::Cancel { id, reason })
                    .await?
                    .one()
                    .await?,
            )?;
        }
        Command::Drop { id } => done(ask(&socket, &Ask::Drop { id }).await?.one().await?)?,
        Command::Checkpoint {
            target,
            output,
            hold,
            recipient,
            passphrase_file,
        } => {
            let protection = archive::protection(recipient, passphrase_file.as_deref())?;
            let output = std::path::absolute(&output).map_err(Error::io("cannot find", &output))?;
            let question = Ask::Checkpoint {
                target,
                output,
                hold,
                protection,
            };
            done(ask(&socket, &question).await?.one().await?)?;
        }
        Command::Restore {
            file,
            namespace,
            name,
            key,
        } => archive::restore(config, &file, namespace, name, &key).await?,
        Command::Inspect { file, key, format } => archive::inspect(&file, &key, format.json)?,
        Command::Doctor(format) => {
            let checks = doctor::run(config).await;
            if format.json {
                json(&checks)?;
            } else {
                print(&doctor::text(&checks))?;
            }
            if checks
                .iter()
                .any(|check| check.state == doctor::State::Fail)
            {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Serve | Command::Pki(_) | Command::Config(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn done(answer: Answer) -> Result<()> {
    match answer {
        Answer::Done(text) => line(&text),
        _ => Ok(()),
    }
}

fn configuration(file: Option<&std::path::Path>, command: &ConfigCommand) -> Result<()> {
    if !command.check {
        return print(config::DOCUMENTED);
    }
    let loaded = Config::load(file)?;
    line(&format!(
        "{}: ok; node {}, listens on {}, others dial {}",
        file.unwrap_or(std::path::Path::new(config::DEFAULT_FILE))
            .display(),
        loaded.node_name,
        loaded.listen,
        loaded.advertise
    ))
}
