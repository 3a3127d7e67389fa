//! `mycedrive watch`: a progress bar on a terminal, lines elsewhere.

use std::io::{IsTerminal as _, stdout};
use std::path::Path;
use std::process::ExitCode;

use super::output::{json_line, line, print};
use super::ps::{peer, short};
use crate::error::{Error, Result};
use crate::operator::client::ask;
use crate::operator::{Answer, Ask};
use crate::progress::{Phase, Progress, Side};
use crate::units::{show_bytes, show_millis};

const WIDTH: usize = 24;

/// Follows a migration, the newest when no id is given, until the pod runs on the destination
/// or the migration has ended otherwise.
pub async fn run(socket: &Path, id: Option<String>, json: bool) -> Result<ExitCode> {
    let id = match id {
        Some(id) => id,
        None => newest(socket).await?,
    };
    let mut answers = ask(socket, &Ask::Watch { id }).await?;
    let terminal = !json && stdout().is_terminal();
    let mut last: Option<Progress> = None;
    while let Some(answer) = answers.next().await? {
        let Answer::Migration(now) = answer else {
            continue;
        };
        if json {
            json_line(&now)?;
        } else if terminal {
            print(&format!("\r\x1b[K{}", bar(&now)))?;
        } else if last
            .as_ref()
            .is_none_or(|before| worth_a_line(before, &now))
        {
            line(&bar(&now))?;
        }
        let over = now.phase.ended() || matches!(now.phase, Phase::Relaying | Phase::Held);
        last = Some(*now);
        if over {
            break;
        }
    }
    if terminal {
        print("\n")?;
    }
    let Some(last) = last else {
        return Err(Error::Failed(
            "the daemon stopped before it answered".to_owned(),
        ));
    };
    if !json && last.phase == Phase::Held {
        line(&format!(
            "held: the nodes cannot agree; see `mycedrive resolve --help`, then `mycedrive resolve {}`",
            short(&last.id)
        ))?;
    }
    Ok(match last.phase {
        Phase::Relaying | Phase::Completed => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

async fn newest(socket: &Path) -> Result<String> {
    match ask(socket, &Ask::Migrations).await?.one().await? {
        Answer::Migrations(all) => all
            .first()
            .map(|one| one.id.clone())
            .ok_or_else(|| Error::Refused("no migrations on this node yet".to_owned())),
        _ => Err(Error::Failed(
            "the daemon's answer is of another version".to_owned(),
        )),
    }
}

fn worth_a_line(before: &Progress, now: &Progress) -> bool {
    before.phase != now.phase
        || before.round != now.round
        || before.message != now.message
        || now.percent() >= before.percent().saturating_add(10)
}

/// One line: `a1b2c3d4 shop/redis-0 from node-a [####----] 43 % copying, round 1, ...`.
pub fn bar(now: &Progress) -> String {
    let percent = now.percent();
    let filled = WIDTH * usize::from(percent) / 100;
    let direction = match now.side {
        Side::Source => "to",
        Side::Destination => "from",
    };
    let mut parts = vec![now.phase.words().to_owned()];
    if now.round > 0 && !now.phase.ended() {
        parts.push(format!("round {}", now.round));
    }
    if now.bytes_sent > 0 {
        parts.push(show_bytes(now.bytes_sent));
    }
    if now.rate > 0 && !now.phase.ended() {
        parts.push(format!("{}/s", show_bytes(now.rate)));
    }
    if let Some(freeze) = now.freeze_ms {
        parts.push(format!("froze {}", show_millis(freeze)));
    } else if let Some(freeze) = now.estimated_freeze_ms {
        parts.push(format!("freeze about {}", show_millis(freeze)));
    }
    if !now.message.is_empty() {
        parts.push(now.message.clone());
    }
    format!(
        "{} {}/{} {direction} {} [{}{}] {percent:3} % {}",
        short(&now.id),
        now.namespace,
        now.pod,
        peer(now),
        "#".repeat(filled),
        "-".repeat(WIDTH - filled),
        parts.join(", ")
    )
}
