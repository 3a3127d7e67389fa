//! The shim's calls to the node daemon.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use mycedrive_proto::node::arrive_reply::Outcome;
use mycedrive_proto::node::{ArriveReply, ArriveRequest, LeaveRequest, ParkRequest};
use mycedrive_proto::node_ttrpc::NodeClient;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};
use ttrpc::Code;
use ttrpc::asynchronous::Client;
use ttrpc::context::with_duration;

/// Between two attempts to reach the daemon.
const PAUSE: Duration = Duration::from_millis(250);
/// Part of the time that is kept for the answer to travel.
const MARGIN: Duration = Duration::from_secs(3);
/// How long Leave may take: a pod must stop without a daemon.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);
/// How long Park may take: kubelet's grace period ends before, with SIGKILL.
const PARK_LIMIT: Duration = Duration::from_secs(3600);
/// How long [`connect`] may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The folder of this program's sockets and images.
pub fn run_directory() -> PathBuf {
    env::var_os("MYCEDRIVE_RUN_DIR").map_or_else(|| PathBuf::from("/run/mycedrive"), PathBuf::from)
}

/// Path of the daemon's socket.
pub fn socket() -> PathBuf {
    run_directory().join("node.sock")
}

/// Asks the daemon what becomes of a container that starts here. Waits for a daemon that is
/// being restarted. Answers within `limit`, with [`Outcome::OUTCOME_RETRY`] if need be.
pub async fn arrive(mut request: ArriveRequest, limit: Duration) -> ArriveReply {
    let deadline = Instant::now() + limit;
    let mut reason;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        request.timeout_ms = left.saturating_sub(MARGIN).as_millis() as u64;
        match call_arrive(&request, left).await {
            Ok(reply) => return reply,
            Err(Failure::Answer(message)) => {
                return reply(Outcome::OUTCOME_REFUSED, message);
            }
            Err(Failure::Unreachable(message)) => {
                debug!(message, "the node daemon does not answer");
                reason = message;
            }
        }
        if Instant::now() + PAUSE + MARGIN > deadline {
            break;
        }
        sleep(PAUSE).await;
    }
    reply(
        Outcome::OUTCOME_RETRY,
        format!(
            "the node daemon cannot be reached ({reason}); start it on this node \
             (mycedrive serve), the migration goes on by itself"
        ),
    )
}

/// Tells the daemon that a container is killed or deleted. Best effort: without a daemon there
/// is nobody to tell, and the pod must stop all the same.
pub async fn leave(request: LeaveRequest) {
    let call = async {
        let client = connect().await.map_err(|failure| failure.to_string())?;
        client
            .leave(with_duration(LEAVE_LIMIT), &request)
            .await
            .map_err(|error| error.to_string())
    };
    match timeout(LEAVE_LIMIT, call).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => debug!(
            error,
            "the node daemon was not told that a container leaves"
        ),
        Err(_) => warn!("the node daemon did not answer Leave in time"),
    }
}

/// Asks the daemon to park a pod that is being terminated. Answers with the image's id when it
/// is parked, or why it is not.
pub async fn park(sandbox_id: &str) -> Result<String, String> {
    let client = connect().await.map_err(|failure| failure.to_string())?;
    let request = ParkRequest {
        sandbox_id: sandbox_id.to_owned(),
        ..ParkRequest::default()
    };
    let reply = client
        .park(with_duration(PARK_LIMIT), &request)
        .await
        .map_err(|error| error.to_string())?;
    if reply.parked {
        Ok(reply.message)
    } else {
        Err(reply.message)
    }
}

/// Why a call gave no reply.
enum Failure {
    /// The daemon is not there, or went away meanwhile: ask again.
    Unreachable(String),
    /// It answered with an error.
    Answer(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(message) | Self::Answer(message) => to.write_str(message),
        }
    }
}

async fn connect() -> Result<NodeClient, Failure> {
    let path = socket();
    let address = format!("unix://{}", path.display());
    match timeout(CONNECT_LIMIT, Client::connect(&address)).await {
        Ok(Ok(client)) => Ok(NodeClient::new(client)),
        Ok(Err(error)) => Err(Failure::Unreachable(format!("{}: {error}", path.display()))),
        Err(_) => Err(Failure::Unreachable(format!(
            "{}: no answer",
            path.display()
        ))),
    }
}

async fn call_arrive(request: &ArriveRequest, limit: Duration) -> Result<ArriveReply, Failure> {
    let client = connect().await?;
    match client.arrive(with_duration(limit), request).await {
        Ok(reply) => Ok(reply),
        Err(ttrpc::Error::RpcStatus(status)) if status.code() != Code::UNAVAILABLE => {
            Err(Failure::Answer(status.message().to_owned()))
        }
        Err(error) => Err(Failure::Unreachable(error.to_string())),
    }
}

fn reply(outcome: Outcome, message: String) -> ArriveReply {
    ArriveReply {
        outcome: outcome.into(),
        message,
        ..ArriveReply::default()
    }
}
