use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use containerd_shim::protos::api::Empty;
use containerd_shim::protos::events::task::{TaskDelete, TaskExit};
use containerd_shim::protos::protobuf::Message as _;
use containerd_shim::protos::shim_async::create_events;
use containerd_shim::protos::ttrpc::r#async::{Server, TtrpcContext};

use super::*;

/// Remembers what it takes; takes nothing the first times.
#[derive(Default)]
struct Fake {
    refuse: Mutex<u32>,
    slow: bool,
    taken: Mutex<Vec<Envelope>>,
}

#[async_trait]
impl containerd_shim::protos::shim_async::Events for Fake {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        if self.slow {
            sleep(Duration::from_millis(100)).await;
        }
        let mut refuse = self.refuse.lock().unwrap();
        if *refuse > 0 {
            *refuse -= 1;
            return Err(ttrpc::Error::Others("not now".to_owned()));
        }
        let envelope = request.envelope.unwrap_or_default();
        self.taken.lock().unwrap().push(envelope);
        Ok(Empty::new())
    }
}

async fn serve(fake: &Arc<Fake>, socket: &Path) -> Server {
    let mut server = Server::new()
        .bind(&format!("unix://{}", socket.display()))
        .unwrap()
        .register_service(create_events(fake.clone()));
    server.start().await.unwrap();
    server
}

fn exit(code: u32) -> TaskExit {
    TaskExit {
        exit_status: code,
        ..TaskExit::default()
    }
}

fn codes(fake: &Fake) -> Vec<u32> {
    let taken = fake.taken.lock().unwrap();
    let read = |envelope: &Envelope| TaskExit::parse_from_bytes(&envelope.event.value).unwrap();
    taken
        .iter()
        .map(|envelope| read(envelope).exit_status)
        .collect()
}

#[tokio::test]
async fn a_flush_waits_until_containerd_has_all() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ttrpc");
    let fake = Arc::new(Fake {
        slow: true,
        ..Fake::default()
    });
    let _server = serve(&fake, &socket).await;
    let events = Events::new(socket.display().to_string(), "k8s.io".to_owned());
    events.send(exit(7));
    events.send(TaskDelete::default());
    events.flush().await;
    let taken = fake.taken.lock().unwrap();
    let told: Vec<_> = taken
        .iter()
        .map(|one| {
            (
                one.topic.as_str(),
                one.namespace.as_str(),
                one.event.type_url.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("/tasks/exit", "k8s.io", "containerd.events.TaskExit"),
            ("/tasks/delete", "k8s.io", "containerd.events.TaskDelete"),
        ]
    );
    assert!(taken[0].timestamp.seconds > 1_700_000_000);
}

#[tokio::test]
async fn the_order_stays_when_containerd_refuses_or_comes_late() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ttrpc");
    let fake = Arc::new(Fake {
        refuse: Mutex::new(2),
        ..Fake::default()
    });
    let events = Events::new(socket.display().to_string(), "k8s.io".to_owned());
    for code in 0..5 {
        events.send(exit(code));
    }
    sleep(Duration::from_millis(300)).await;
    let _server = serve(&fake, &socket).await;
    events.flush().await;
    assert_eq!(codes(&fake), [0, 1, 2, 3, 4]);
}
