//! Stand-ins for what surrounds a daemon: containerd, and shims whose pods are a number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mycedrive_proto::shim::{
    AbortRequest, AdoptRequest, Confinement, Container, ContainerState, DescribeReply,
    DescribeRequest, DiscardRequest, Done, DropRouteRequest, DumpReply, DumpRequest, FreezeReply,
    FreezeRequest, MigrationRequest, PreflightReply, PreflightRequest, RestoreReply,
    RestoreRequest, ResumeReply, Role,
};
use mycedrive_proto::shim_ttrpc::{Pod, create_pod};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use ttrpc::r#async::TtrpcContext;

mod api {
    #![allow(warnings, clippy::all, clippy::pedantic)]
    pub mod containers {
        tonic::include_proto!("containerd.services.containers.v1");
    }
    pub mod images {
        tonic::include_proto!("containerd.services.images.v1");
    }
}
use api::containers::containers_server::{Containers, ContainersServer};
use api::containers::{GetContainerRequest, GetContainerResponse};
use api::images::images_server::{Images, ImagesServer};
use api::images::{Descriptor, GetImageRequest, GetImageResponse, Image};

/// Every container's image is its id up to the first '@'.
struct Containerd;

#[tonic::async_trait]
impl Containers for Containerd {
    async fn get(
        &self,
        request: Request<GetContainerRequest>,
    ) -> Result<Response<GetContainerResponse>, Status> {
        let id = request.into_inner().id;
        let image = id.split('@').next().unwrap_or_default().to_owned();
        let container = api::containers::Container {
            id,
            image,
            ..Default::default()
        };
        Ok(Response::new(GetContainerResponse {
            container: Some(container),
        }))
    }
}

#[tonic::async_trait]
impl Images for Containerd {
    async fn get(
        &self,
        request: Request<GetImageRequest>,
    ) -> Result<Response<GetImageResponse>, Status> {
        let name = request.into_inner().name;
        let digest = format!("sha256:{}", blake3::hash(name.as_bytes()).to_hex());
        Ok(Response::new(GetImageResponse {
            image: Some(Image {
                name,
                target: Some(Descriptor {
                    digest,
                    ..Default::default()
                }),
            }),
        }))
    }
}

/// Serves containerd's API on `socket`.
pub fn containerd(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(ContainersServer::new(Containerd))
            .add_service(ImagesServer::new(Containerd))
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
}

/// What of a pod is where. Both shims of a test share one, and every change is checked.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The processes run at the source, at the destination.
    pub runs: [bool; 2],
    /// Calls, in order.
    pub calls: Vec<String>,
    /// The pod ran on both sides at some time.
    pub twice: bool,
}

/// A world that is shared.
pub type Shared = Arc<Mutex<World>>;

/// A pod's shim.
#[derive(Clone)]
pub struct Shim {
    pub world: Shared,
    side: usize,
    state: Arc<Mutex<State>>,
    pub fail_restore: Arc<AtomicBool>,
    pub fail_dump: Arc<AtomicBool>,
    /// What is frozen would not live on.
    pub stranded: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    pod: DescribeReply,
    /// What the "memory" of the containers is; goes through the images.
    memory: BTreeMap<String, Vec<u8>>,
    restored: bool,
}

impl Shim {
    /// A pod of these containers: name, id, state.
    pub fn new(world: &Shared, side: usize, pod: &str, folder: &Path) -> Self {
        let shim = Self {
            world: world.clone(),
            side,
            state: Arc::default(),
            fail_restore: Arc::default(),
            fail_dump: Arc::default(),
            stranded: Arc::default(),
        };
        let mut state = shim.state.lock().unwrap();
        state.pod.sandbox_id = format!("sandbox-{side}");
        "k8s.io".clone_into(&mut state.pod.containerd_namespace);
        "shop".clone_into(&mut state.pod.pod_namespace);
        pod.clone_into(&mut state.pod.pod_name);
        state.pod.netns = folder.join("netns").display().to_string();
        state.pod.addresses = vec![format!("10.88.{side}.2")];
        drop(state);
        shim
    }

    /// Adds a container; its root layer is `folder`.
    pub fn container(
        &self,
        name: &str,
        id: &str,
        state: ContainerState,
        upper: &Path,
    ) -> Container {
        std::fs::create_dir_all(upper).unwrap();
        let container = Container {
            id: id.to_owned(),
            name: name.to_owned(),
            state: state.into(),
            pid: std::process::id() as i32,
            engine: "criu".to_owned(),
            rootfs_upper: upper.display().to_string(),
            confinement: protobuf::MessageField::some(Confinement::default()),
            ..Container::default()
        };
        let mut own = self.state.lock().unwrap();
        own.pod.containers.push(container.clone());
        if state == ContainerState::CONTAINER_STATE_RUNNING {
            own.memory.insert(name.to_owned(), vec![7; 300_000]);
            drop(own);
            self.set_runs(true, "start");
        }
        container
    }

    /// The memory of a container.
    pub fn memory(&self, name: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().memory.get(name).cloned()
    }

    /// What Describe says.
    pub fn pod(&self) -> DescribeReply {
        self.state.lock().unwrap().pod.clone()
    }

    /// Serves it below `run_dir`.
    pub async fn serve(&self, run_dir: &Path) -> ttrpc::r#async::Server {
        let shims = run_dir.join("shims");
        std::fs::create_dir_all(&shims).unwrap();
        let socket = format!("unix://{}/sandbox-{}.sock", shims.display(), self.side);
        let mut server = ttrpc::r#async::Server::new()
            .bind(&socket)
            .unwrap()
            .register_service(create_pod(Arc::new(self.clone())));
        server.start().await.unwrap();
        server
    }

    fn set_runs(&self, runs: bool, call: &str) {
        let mut world = self.world.lock().unwrap();
        world.runs[self.side.min(1)] = runs;
        world.twice |= world.runs == [true, true];
        world
            .calls
            .push(format!("{}:{call}", ["a", "b", "c"][self.side]));
    }

    fn note(&self, call: &str) {
        let runs = self.world.lock().unwrap().runs[self.side.min(1)];
        self.set_runs(runs, call);
    }

    fn all(&self, from: ContainerState, to: ContainerState) {
        let mut state = self.state.lock().unwrap();
        for container in &mut state.pod.containers {
            if container.state.enum_value_or_default() == from {
                container.state = to.into();
            }
        }
    }

    fn role(&self, role: Role, id: &str) {
        let mut state = self.state.lock().unwrap();
        state.pod.role = role.into();
        id.clone_into(&mut state.pod.migration_id);
    }

    fn is(&self, role: Role, id: &str) -> bool {
        let state = self.state.lock().unwrap();
        state.pod.role.enum_value_or_default() == role && state.pod.migration_id == id
    }
}

fn refuse<T>(text: &str) -> ttrpc::Result<T> {
    let code = ttrpc::Code::FAILED_PRECONDITION;
    Err(ttrpc::Error::RpcStatus(ttrpc::get_status(code, text)))
}

const RUNNING: ContainerState = ContainerState::CONTAINER_STATE_RUNNING;
const FROZEN: ContainerState = ContainerState::CONTAINER_STATE_FROZEN;
const HELD: ContainerState = ContainerState::CONTAINER_STATE_HELD;
const WAITING: ContainerState = ContainerState::CONTAINER_STATE_WAITING;

#[async_trait]
impl Pod for Shim {
    async fn describe(&self, _: &TtrpcContext, _: DescribeRequest) -> ttrpc::Result<DescribeReply> {
        Ok(self.pod())
    }

    async fn preflight(
        &self,
        _: &TtrpcContext,
        _: PreflightRequest,
    ) -> ttrpc::Result<PreflightReply> {
        Ok(PreflightReply::default())
    }

    async fn freeze(&self, _: &TtrpcContext, request: FreezeRequest) -> ttrpc::Result<FreezeReply> {
        self.role(Role::ROLE_SOURCE, &request.migration_id);
        self.all(RUNNING, FROZEN);
        self.set_runs(false, "freeze");
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        Ok(FreezeReply {
            frozen_at_ns: now.as_nanos() as u64,
            ..FreezeReply::default()
        })
    }

    async fn dump(&self, _: &TtrpcContext, request: DumpRequest) -> ttrpc::Result<DumpReply> {
        if !self.is(Role::ROLE_SOURCE, &request.migration_id) {
            return refuse("not frozen");
        }
        self.note("dump");
        let memory = self.state.lock().unwrap().memory.clone();
        for (name, bytes) in memory {
            let folder = PathBuf::from(&request.image_dir).join(name);
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            for (number, piece) in bytes.chunks(100_000).enumerate() {
                std::fs::write(folder.join(format!("pages-{number}.img")), piece).unwrap();
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        }
        if self.fail_dump.load(Ordering::Relaxed) {
            return refuse("container app: dump failed: Can't dump a fish");
        }
        Ok(DumpReply {
            milliseconds: 9,
            ..DumpReply::default()
        })
    }

    async fn resume(
        &self,
        _: &TtrpcContext,
        request: MigrationRequest,
    ) -> ttrpc::Result<ResumeReply> {
        if self.is(Role::ROLE_NONE, "") {
            return Ok(ResumeReply::default());
        }
        if !self.is(Role::ROLE_SOURCE, &request.migration_id) {
            return refuse("another migration");
        }
        if self.stranded.load(Ordering::Relaxed) {
            return Ok(ResumeReply {
                only_image: "its fish has drowned".to_owned(),
                frozen_at_ns: 1,
                ..ResumeReply::default()
            });
        }
        self.role(Role::ROLE_NONE, "");
        self.all(FROZEN, RUNNING);
        self.set_runs(true, "resume");
        Ok(ResumeReply::default())
    }

    async fn discard(&self, _: &TtrpcContext, _: DiscardRequest) -> ttrpc::Result<Done> {
        self.all(FROZEN, HELD);
        self.state.lock().unwrap().memory.clear();
        self.set_runs(false, "discard");
        Ok(Done::default())
    }

    async fn adopt(&self, _: &TtrpcContext, request: AdoptRequest) -> ttrpc::Result<Done> {
        self.role(Role::ROLE_DESTINATION, &request.migration_id);
        self.note("adopt");
        Ok(Done::default())
    }

    async fn restore(
        &self,
        _: &TtrpcContext,
        request: RestoreRequest,
    ) -> ttrpc::Result<RestoreReply> {
        if !self.is(Role::ROLE_DESTINATION, &request.migration_id) {
            return refuse("not adopted");
        }
        self.note("restore");
        if self.fail_restore.load(Ordering::Relaxed) {
            return refuse("container app: restore failed: Can't fork for a fish");
        }
        let mut state = self.state.lock().unwrap();
        for name in &request.containers {
            let folder = PathBuf::from(&request.image_dir).join(name);
            let mut bytes = vec![];
            for number in 0.. {
                match std::fs::read(folder.join(format!("pages-{number}.img"))) {
                    Ok(piece) => bytes.extend(piece),
                    Err(_) => break,
                }
            }
            state.memory.insert(name.clone(), bytes);
        }
        state.restored = true;
        Ok(RestoreReply::default())
    }

    async fn run(&self, _: &TtrpcContext, request: MigrationRequest) -> ttrpc::Result<Done> {
        if !self.is(Role::ROLE_DESTINATION, &request.migration_id) {
            return refuse("not the destination of that");
        }
        if !self.state.lock().unwrap().restored {
            return refuse("not restored");
        }
        self.all(WAITING, RUNNING);
        self.set_runs(true, "run");
        Ok(Done::default())
    }

    async fn abort(&self, _: &TtrpcContext, _: AbortRequest) -> ttrpc::Result<Done> {
        if self.is(Role::ROLE_NONE, "") {
            return Ok(Done::default());
        }
        self.role(Role::ROLE_NONE, "");
        let mut state = self.state.lock().unwrap();
        state.restored = false;
        state.memory.clear();
        drop(state);
        self.set_runs(false, "abort");
        Ok(Done::default())
    }

    async fn drop_route(&self, _: &TtrpcContext, _: DropRouteRequest) -> ttrpc::Result<Done> {
        self.note("drop-route");
        Ok(Done::default())
    }
}
