//! Create: makes a container, or lets it wait for its migration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use containerd_shim::api::{CreateTaskRequest, CreateTaskResponse};
use containerd_shim::protos::events::task::{TaskCreate, TaskIO};
use mycedrive_connection::PodNet;
use mycedrive_volume::attach::Want;
use tracing::{info, warn};

use crate::container::{Container, Parts};
use crate::error::{Error, Result};
use crate::io::Stdio;
use crate::migration;
use crate::options::Options;
use crate::pod::{Pod, PodFacts};
use crate::pod_socket;
use crate::rootfs::Mount;
use crate::spec::Spec;
use crate::state::State;
use crate::volumes::{self, After};

/// Create.
pub async fn create(pod: &Arc<Pod>, req: &CreateTaskRequest) -> Result<CreateTaskResponse> {
    let bundle = PathBuf::from(&req.bundle);
    if pod.container(&req.id).is_ok() {
        return Err(Error::AlreadyExists(format!("container {}", req.id)));
    }
    let mut spec = Spec::load(&bundle)?;
    spec.refuse_reserved()?;
    migration::park::check(&spec)?;
    let options = Options::from_any(req.options.as_ref())?;
    options.save(&bundle)?;
    let restore_from = (!req.checkpoint.is_empty()).then(|| PathBuf::from(&req.checkpoint));
    if let Some(directory) = &restore_from {
        migration::check(pod, directory, req.terminal).await?;
    }
    let first = pod.facts().is_none();
    pod.learn(PodFacts::of(&req.id, &spec));

    let away = migration::away(pod);
    let waits = !spec.is_sandbox()
        && (away.is_some() || migration::is_frozen(pod) || migration::is_destination(pod, &spec));
    let container = Arc::new(Container::new(Parts {
        id: req.id.clone(),
        namespace: pod.containerd_namespace.clone(),
        spec: spec.clone(),
        rootfs_mounts: req.rootfs.iter().map(Mount::from).collect(),
        stdio: Stdio {
            stdin: req.stdin.clone(),
            stdout: req.stdout.clone(),
            stderr: req.stderr.clone(),
            terminal: req.terminal,
        },
        options,
        restore_from,
        state: if waits {
            State::Waiting
        } else {
            State::Created
        },
        events: pod.events.clone(),
        bundle,
    }));
    prepare_spec(pod, &container, &mut spec).await?;

    let _op = container.init.op.lock().await;
    if waits {
        info!(id = %container.id, ?away, "nothing is made at Create");
    } else if let Err(error) = make(pod, &container).await {
        volumes::detach(pod, &container, After::End).await;
        let unmounting = container.clone();
        if let Err(error) = migration::blocking(move || unmounting.unmount_rootfs()).await {
            warn!(id = %container.id, %error, "a root file system stays mounted");
        }
        return Err(error);
    }
    pod.add(container.clone())?;
    if first {
        pod_socket::serve(pod);
    }

    let pid = if container.restore_from.is_some() {
        0
    } else {
        container.reported_pid()
    };
    pod.events.send(TaskCreate {
        container_id: req.id.clone(),
        bundle: req.bundle.clone(),
        rootfs: req.rootfs.clone(),
        io: Some(TaskIO {
            stdin: req.stdin.clone(),
            stdout: req.stdout.clone(),
            stderr: req.stderr.clone(),
            terminal: req.terminal,
            ..TaskIO::default()
        })
        .into(),
        checkpoint: req.checkpoint.clone(),
        pid,
        ..TaskCreate::default()
    });
    Ok(CreateTaskResponse {
        pid,
        ..CreateTaskResponse::default()
    })
}

/// Mounts the root file system and runs `runc create`, unless a checkpoint is restored at
/// Start.
async fn make(pod: &Pod, container: &Arc<Container>) -> Result<()> {
    container.mount_rootfs()?;
    volumes::attach(pod, container, Want::Stack).await?;
    if container.restore_from.is_some() {
        return Ok(());
    }
    if container.is_sandbox
        && let Some(netns) = pod.facts().and_then(|facts| facts.netns.clone())
    {
        // Before any process of the pod can open a socket.
        prepare_network(&netns).await;
    }
    if !container.is_sandbox {
        migration::choose(pod, container).await?;
    }
    container.make_init().await
}

/// Changes a spec so that its container can be checkpointed and migrated.
async fn prepare_spec(pod: &Arc<Pod>, container: &Arc<Container>, spec: &mut Spec) -> Result<()> {
    let in_pod = pod.facts().is_some_and(|facts| facts.is_kubernetes);
    if spec.is_sandbox() {
        // So that the answer is there when the first container comes.
        let (pod, container) = (pod.clone(), container.clone());
        tokio::spawn(async move { pod.has_time_namespaces(&container.runc).await });
        return Ok(());
    }
    // A time namespace lets monotonic clocks go on on another node. A task that `ctr` made
    // stays on this one, and runc before 1.2 cannot make it.
    if in_pod && pod.has_time_namespaces(&container.runc).await {
        spec.add_namespace("time");
    }
    spec.save(&container.bundle)
}

/// MPTCP sockets, which Go programs open by default, cannot be dumped.
async fn prepare_network(netns: &Path) {
    let path = netns.to_owned();
    let result = tokio::task::spawn_blocking(move || PodNet::open(&path)?.disable_mptcp()).await;
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(netns = %netns.display(), %error, "MPTCP stays on"),
        Err(error) => warn!(%error, "MPTCP stays on"),
    }
}
