//! Events for containerd, in the order in which they are sent here.
//!
//! The framework's publisher answers when an event is in its queue, and sends one that failed behind
//! later ones. A shim that ends would lose what is in there, so events go to containerd from here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use containerd_shim::event::Event;
use containerd_shim::protos::protobuf::MessageDyn;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim::protos::shim::event::Envelope;
use containerd_shim::protos::shim::events::ForwardRequest;
use containerd_shim::protos::shim_async::{Client, EventsClient};
use containerd_shim::protos::ttrpc;
use containerd_shim::protos::ttrpc::context;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

/// How long containerd may take for an event.
const ANSWER: Duration = Duration::from_secs(5);
/// How long an event is offered to a containerd that is not there; after a restart it asks for
/// states by itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

enum Message {
    Event(Box<Envelope>),
    Flush(oneshot::Sender<()>),
}

/// Where events go. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    namespace: String,
    queue: UnboundedSender<Message>,
}

impl Events {
    /// Sends to the containerd whose ttrpc socket is at `address`, in the containerd namespace
    /// `namespace`.
    pub fn new(address: String, namespace: String) -> Self {
        let (queue, mut incoming) = unbounded_channel();
        tokio::spawn(async move {
            let mut containerd = Containerd {
                address,
                client: None,
            };
            while let Some(message) = incoming.recv().await {
                match message {
                    Message::Event(envelope) => containerd.take(*envelope).await,
                    Message::Flush(done) => {
                        let _ = done.send(());
                    }
                }
            }
        });
        Self { namespace, queue }
    }

    /// Queues an event; never blocks.
    #[allow(clippy::needless_pass_by_value)]
    pub fn send(&self, event: impl Event) {
        let message: &dyn MessageDyn = &event;
        let value = match message.write_to_bytes_dyn() {
            Ok(value) => value,
            Err(error) => {
                warn!(topic = event.topic(), %error, "an event cannot be written");
                return;
            }
        };
        let envelope = Envelope {
            timestamp: Some(timestamp(SystemTime::now())).into(),
            namespace: self.namespace.clone(),
            topic: event.topic(),
            event: Some(Any {
                type_url: event.descriptor_dyn().full_name().to_owned(),
                value,
                ..Any::default()
            })
            .into(),
            ..Envelope::default()
        };
        let _ = self.queue.send(Message::Event(Box::new(envelope)));
    }

    /// Returns when containerd has everything that was queued so far, or did not take it.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = wait.await;
        }
    }
}

/// The other end.
struct Containerd {
    address: String,
    client: Option<EventsClient>,
}

impl Containerd {
    /// Hands an event over; gives it up after some time.
    async fn take(&mut self, envelope: Envelope) {
        let topic = envelope.topic.clone();
        debug!(%topic, "event");
        let request = ForwardRequest {
            envelope: Some(envelope).into(),
            ..ForwardRequest::default()
        };
        let until = Instant::now() + PATIENCE;
        while let Err(error) = self.forward(&request).await {
            self.client = None;
            if Instant::now() + PAUSE > until {
                warn!(%topic, %error, "containerd does not take an event");
                return;
            }
            sleep(PAUSE).await;
        }
    }

    async fn forward(&mut self, request: &ForwardRequest) -> ttrpc::Result<()> {
        let client = if let Some(client) = &self.client {
            client
        } else {
            let client = Client::connect(&format!("unix://{}", self.address)).await?;
            self.client.insert(EventsClient::new(client))
        };
        let limit = context::with_timeout(ANSWER.as_nanos() as i64);
        client.forward(limit, request).await.map(drop)
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

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
