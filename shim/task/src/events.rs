//! Events for containerd, in the order in which they are sent here.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use containerd_shim::event::Event;
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim::protos::ttrpc::context::Context;
use containerd_shim::publisher::RemotePublisher;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tracing::{debug, warn};

enum Message {
    Event(Box<dyn Event>),
    Flush(oneshot::Sender<()>),
}

/// Where events go. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    queue: UnboundedSender<Message>,
}

impl Events {
    /// Publishes through `publisher` in the containerd namespace `namespace`.
    pub fn new(publisher: RemotePublisher, namespace: String) -> Self {
        let (queue, mut incoming) = unbounded_channel();
        let publisher = Arc::new(publisher);
        tokio::spawn(async move {
            while let Some(message) = incoming.recv().await {
                match message {
                    Message::Event(event) => {
                        let topic = event.topic();
                        debug!(%topic, "event");
                        if let Err(error) = publisher
                            .publish(Context::default(), &topic, &namespace, event)
                            .await
                        {
                            warn!(%topic, %error, "containerd does not take an event");
                        }
                    }
                    Message::Flush(done) => {
                        let _ = done.send(());
                    }
                }
            }
        });
        Self { queue }
    }

    /// Queues an event; never blocks.
    pub fn send(&self, event: impl Event) {
        let _ = self.queue.send(Message::Event(Box::new(event)));
    }

    /// Returns when everything queued so far was handed to the connection.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = wait.await;
        }
    }
}

/// A protobuf timestamp.
pub fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: since.as_secs() as i64,
        nanos: since.subsec_nanos() as i32,
        ..Timestamp::default()
    }
}
