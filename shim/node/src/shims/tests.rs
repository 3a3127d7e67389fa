use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use mycedrive_proto::shim::{
    Container, ContainerState, DescribeRequest, Done, FreezeReply, FreezeRequest, MigrationRequest,
};
use mycedrive_proto::shim_ttrpc::{Pod, create_pod};
use ttrpc::r#async::TtrpcContext;

use super::*;

/// A shim that says it has pod `shop/NAME`.
struct Fake {
    name: &'static str,
    state: ContainerState,
}

#[async_trait]
impl Pod for Fake {
    async fn describe(&self, _: &TtrpcContext, _: DescribeRequest) -> ttrpc::Result<DescribeReply> {
        Ok(DescribeReply {
            sandbox_id: format!("sandbox-{:?}", self.state),
            pod_namespace: "shop".to_owned(),
            pod_name: self.name.to_owned(),
            containers: vec![Container {
                name: "redis".to_owned(),
                state: self.state.into(),
                ..Container::default()
            }],
            ..DescribeReply::default()
        })
    }

    async fn freeze(&self, _: &TtrpcContext, _: FreezeRequest) -> ttrpc::Result<FreezeReply> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(FreezeReply::default())
    }

    async fn run(&self, _: &TtrpcContext, request: MigrationRequest) -> ttrpc::Result<Done> {
        Err(ttrpc::Error::RpcStatus(ttrpc::get_status(
            ttrpc::Code::FAILED_PRECONDITION,
            format!("not in migration {}", request.migration_id),
        )))
    }
}

async fn serve(dir: &Path, id: &str, fake: Fake) -> ttrpc::r#async::Server {
    let mut server = ttrpc::r#async::Server::new()
        .bind(&format!("unix://{}/{id}.sock", dir.display()))
        .unwrap()
        .register_service(create_pod(Arc::new(fake)));
    server.start().await.unwrap();
    server
}

#[tokio::test]
async fn lists_living_shims_and_finds_pods() {
    let dir = tempfile::tempdir().unwrap();
    let running = ContainerState::CONTAINER_STATE_RUNNING;
    let held = ContainerState::CONTAINER_STATE_HELD;
    let fake = |name, state| Fake { name, state };
    let _a = serve(dir.path(), "a", fake("redis-0", running)).await;
    let _b = serve(dir.path(), "b", fake("redis-0", held)).await;
    let _c = serve(dir.path(), "c", fake("redis-1", held)).await;
    // A shim that was killed leaves its socket, and other files may lie there.
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("dead.sock")).unwrap());
    std::fs::write(dir.path().join("note.txt"), "").unwrap();

    let shims = Shims::new(dir.path().to_owned());
    assert_eq!(shims.ids(), ["a", "b", "c", "dead"]);
    assert_eq!(shims.list().await.len(), 3);

    let (shim, _) = shims.find("shop", "redis-0", "node-a").await.unwrap();
    assert_eq!(shim.sandbox(), "a", "the running one of two");
    let (shim, pod) = shims.find("shop", "redis-1", "node-a").await.unwrap();
    assert_eq!((shim.sandbox(), pod.pod_name.as_str()), ("c", "redis-1"));
    let missing = shims.find("other", "redis-0", "node-a").await.unwrap_err();
    assert!(missing.to_string().contains("other/redis-0"), "{missing}");
}

#[tokio::test]
async fn errors_say_which_call_failed_and_slow_calls_end() {
    let dir = tempfile::tempdir().unwrap();
    let state = ContainerState::CONTAINER_STATE_RUNNING;
    let _a = serve(dir.path(), "a", Fake { name: "p", state }).await;
    let shims = Shims::new(dir.path().to_owned());
    let shim = shims.connect("a").await.unwrap();

    let refused = shim.run("m1", SHORT).await.unwrap_err().to_string();
    assert!(
        refused.contains("sandbox a: Run: not in migration m1"),
        "{refused}"
    );
    let slow = shim
        .freeze("m1", true, Path::new("/i"), Duration::from_millis(100))
        .await;
    let slow = slow.unwrap_err().to_string();
    assert!(
        slow.contains("Freeze") && slow.contains("no answer"),
        "{slow}"
    );

    for bad in ["", "../a", "a/b", "none"] {
        assert!(shims.connect(bad).await.is_err(), "{bad}");
    }
    assert!(Shims::new("/nonexistent".into()).list().await.is_empty());
}
