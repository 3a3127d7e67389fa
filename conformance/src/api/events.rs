//! Events of containerd's exchange, in the order in which they come.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prost::Message;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tonic::transport::Channel;

use super::proto::containerd::events as task;
use super::proto::containerd::services::events::v1::SubscribeRequest;
use super::proto::containerd::services::events::v1::events_client::EventsClient;
use super::proto::containerd::types::Envelope;

/// An event, without what differs from run to run (times, bundle).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `/tasks/exit` and the like.
    pub topic: String,
    /// Container that it is about; empty if it has none.
    pub container: String,
    /// Exec id, or the container's id where the event says that; empty if it has none.
    pub process: String,
    /// Pid, 0 where it has none.
    pub pid: u32,
    /// What else it says, as text.
    pub detail: String,
}

#[derive(Default)]
struct Inner {
    events: Mutex<Vec<Event>>,
    came: Condvar,
}

/// Collects events until it is dropped.
pub struct Events {
    inner: Arc<Inner>,
    task: AbortHandle,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Events {
    /// containerd does not say when a subscription stands: see `Client::subscribe`.
    pub(super) fn subscribe(runtime: &Runtime, channel: Channel, namespace: &str) -> Self {
        let message = SubscribeRequest {
            filters: vec![format!("namespace==\"{namespace}\"")],
        };
        let inner = Arc::new(Inner::default());
        let sink = inner.clone();
        let task = runtime.spawn(async move {
            // Answered with the first event.
            let Ok(answer) = EventsClient::new(channel).subscribe(message).await else {
                return;
            };
            let mut stream = answer.into_inner();
            while let Ok(Some(envelope)) = stream.message().await {
                sink.lock().push(decode(&envelope));
                sink.came.notify_all();
            }
        });
        Self {
            inner,
            task: task.abort_handle(),
        }
    }

    /// What has come so far.
    pub fn all(&self) -> Vec<Event> {
        self.inner.lock().clone()
    }

    /// Waits until `done` holds of what has come; false if it does not within `time`.
    pub fn wait(&self, time: Duration, done: impl Fn(&[Event]) -> bool) -> bool {
        let until = Instant::now() + time;
        let mut events = self.inner.lock();
        loop {
            if done(&events) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            events = self
                .inner
                .came
                .wait_timeout(events, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decode(envelope: &Envelope) -> Event {
    let mut event = Event {
        topic: envelope.topic.clone(),
        container: String::new(),
        process: String::new(),
        pid: 0,
        detail: String::new(),
    };
    let Some(any) = &envelope.event else {
        return event;
    };
    let bytes = any.value.as_slice();
    match envelope.topic.as_str() {
        "/tasks/create" => {
            if let Ok(e) = task::TaskCreate::decode(bytes) {
                let io = e.io.unwrap_or_default();
                let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
                event.detail = format!(
                    "{} mounts, stdin {}, stdout {}, stderr {}, terminal {}, checkpoint {:?}",
                    e.rootfs.len(),
                    name(&io.stdin),
                    name(&io.stdout),
                    name(&io.stderr),
                    io.terminal,
                    e.checkpoint,
                );
                (event.container, event.pid) = (e.container_id, e.pid);
            }
        }
        "/tasks/start" => {
            if let Ok(e) = task::TaskStart::decode(bytes) {
                (event.container, event.pid) = (e.container_id, e.pid);
            }
        }
        "/tasks/exit" => {
            if let Ok(e) = task::TaskExit::decode(bytes) {
                event.detail = format!("status {}, {}", e.exit_status, at(e.exited_at));
                (event.container, event.process, event.pid) = (e.container_id, e.id, e.pid);
            }
        }
        "/tasks/delete" => {
            if let Ok(e) = task::TaskDelete::decode(bytes) {
                event.detail = format!("status {}, {}", e.exit_status, at(e.exited_at));
                (event.container, event.process, event.pid) = (e.container_id, e.id, e.pid);
            }
        }
        "/tasks/exec-added" => {
            if let Ok(e) = task::TaskExecAdded::decode(bytes) {
                (event.container, event.process) = (e.container_id, e.exec_id);
            }
        }
        "/tasks/exec-started" => {
            if let Ok(e) = task::TaskExecStarted::decode(bytes) {
                (event.container, event.process, event.pid) = (e.container_id, e.exec_id, e.pid);
            }
        }
        "/tasks/checkpointed" => {
            if let Ok(e) = task::TaskCheckpointed::decode(bytes) {
                event.container = e.container_id;
            }
        }
        // Their one field is the container's id in all of them.
        "/tasks/oom" | "/tasks/paused" | "/tasks/resumed" => {
            if let Ok(e) = task::TaskPaused::decode(bytes) {
                event.container = e.container_id;
            }
        }
        _ => {}
    }
    event
}

/// A time that Go never set is one of the year 1, or none.
fn at(time: Option<prost_types::Timestamp>) -> &'static str {
    match time {
        Some(time) if time.seconds > 0 => "with its time",
        _ => "without a time",
    }
}
