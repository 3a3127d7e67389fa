//! The shim as a program: `start`, `delete`, `-info` and the server.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::SystemTime;
use std::{env, fs};

use async_trait::async_trait;
use containerd_shim::api::DeleteResponse;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::shim::oci::Options as RuncMessage;
use containerd_shim::protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use containerd_shim::publisher::RemotePublisher;
use containerd_shim::{Config, ExitSignal, Flags, Shim, StartOpts};
use mycedrive_volume::attach::{Attachments, User};
use tracing::warn;

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::events::{Events, timestamp};
use crate::migration::left;
use crate::options::Options;
use crate::pod::Pod;
use crate::runc::Runc;
use crate::spec::Spec;
use crate::task::TaskService;
use crate::{log, orphans, pod_socket, reaper, rootfs, task_v2};

/// Name under which containerd knows this runtime.
pub const RUNTIME: &str = "io.containerd.mycedrive.v2";

/// How the framework is to run: we log with `tracing`, and reap ourselves (see `reaper`).
///
/// The framework decides about its own reaper before it calls [`Program::new`].
pub fn config() -> Config {
    Config {
        no_setup_logger: true,
        no_reaper: true,
        ..Config::default()
    }
}

/// One invocation of the program.
pub struct Program {
    id: String,
    namespace: String,
    socket: String,
    debug: bool,
    exit: Arc<ExitSignal>,
}

#[async_trait]
impl Shim for Program {
    type T = TaskService;

    async fn new(_runtime: &str, flags: &Flags, _config: &mut Config) -> Self {
        Self {
            id: flags.id.clone(),
            namespace: flags.namespace.clone(),
            socket: flags.socket.clone(),
            debug: flags.debug,
            exit: Arc::default(),
        }
    }

    async fn start_shim(&mut self, opts: StartOpts) -> containerd_shim::Result<String> {
        let address = start(&opts)?;
        if wants_version_2(&opts) {
            task_v2::answer(&address);
        }
        Ok(address)
    }

    async fn delete_shim(&mut self) -> containerd_shim::Result<DeleteResponse> {
        Ok(delete(&self.id, &self.namespace)?)
    }

    async fn wait(&mut self) {
        self.exit.wait().await;
    }

    async fn create_task_service(&self, publisher: RemotePublisher) -> TaskService {
        log::init(self.debug);
        if let Err(error) = reaper::start() {
            // Without it no runc call would ever return.
            warn!(%error, "cannot run containers");
            self.exit.signal();
        }
        let events = Events::new(publisher.address, self.namespace.clone());
        let pod = Arc::new(Pod::new(self.namespace.clone(), events, self.exit.clone()));
        if task_v2::is_wanted() {
            task_v2::serve(&pod, &self.socket).await;
        }
        TaskService::new(pod)
    }

    fn runtime_info(runtime: &str, options: Option<&Any>) -> containerd_shim::Result<RuntimeInfo> {
        let options = Options::from_any(options)?;
        let mut info = RuntimeInfo {
            name: runtime.to_owned(),
            version: Some(RuntimeVersion {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..RuntimeVersion::default()
            })
            .into(),
            ..RuntimeInfo::default()
        };
        // What the OCI runtime below can do (user namespaces, recursive read-only mounts …).
        if let Ok(output) = Command::new(options.binary()).arg("features").output()
            && output.status.success()
        {
            info.features = Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
                    .to_owned(),
                value: output.stdout,
                ..Any::default()
            })
            .into();
        }
        Ok(info)
    }
}

/// File in the bundle with the address of the shim's socket.
const ADDRESS: &str = "address";

/// `start`: finds the shim of the container's pod or makes one; returns its address. The
/// current directory is the bundle.
fn start(opts: &StartOpts) -> Result<String> {
    let spec = Spec::load(Path::new("."))?;
    let group = spec.group().unwrap_or(&opts.id);
    let served = opts.socket_address(group);
    let address = if wants_version_2(opts) {
        task_v2::address(&served)
    } else {
        served.clone()
    };
    let socket = Path::new(address.strip_prefix("unix://").unwrap_or(&address));
    let write = || fs::write(ADDRESS, &address).map_err(Error::path("write", Path::new(ADDRESS)));
    if UnixStream::connect(socket).is_ok() {
        write()?;
        return Ok(address);
    }
    // One that nobody listens on is left from a shim that was killed.
    task_v2::remove_sockets(&address);
    spawn(opts, &served)?;
    write()?;
    Ok(address)
}

/// From 2.3 on containerd gives its version, and takes another answer to `start`.
fn wants_version_2(opts: &StartOpts) -> bool {
    opts.containerd_version.is_empty() && task_v2::is_wanted()
}

/// Starts the server and returns when it listens.
fn spawn(opts: &StartOpts, address: &str) -> Result<()> {
    let program = env::current_exe().map_err(Error::io("find this program"))?;
    let mut command = Command::new(&program);
    command
        .args(["-namespace", &opts.namespace, "-id", &opts.id])
        .args(["-address", &opts.address, "-socket", address])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if !opts.ttrpc_address.is_empty() {
        command.env("TTRPC_ADDRESS", &opts.ttrpc_address);
    }
    if opts.debug {
        command.arg("-debug");
    }
    let mut child = command.spawn().map_err(Error::path("run", &program))?;
    confine(opts, child.id());
    // The server closes its output when it listens; or it ends.
    let mut output = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        let _ = stdout.read_to_string(&mut output);
    }
    match child.try_wait() {
        Ok(Some(status)) if !status.success() => Err(Error::Unavailable(format!(
            "the shim's server ended at once ({status}) {output}"
        ))),
        _ => Ok(()),
    }
}

/// Cgroup and OOM score of the server. Neither is worth failing a pod for.
fn confine(opts: &StartOpts, pid: u32) {
    let shim_cgroup = opts
        .extension::<RuncMessage>()
        .ok()
        .flatten()
        .map(|options| options.shim_cgroup)
        .or_else(|| {
            let any = opts
                .extensions
                .iter()
                .find(|any| any.type_url.ends_with("runtimeoptions.v1.Options"));
            Some(Options::from_any(any).ok()?.shim_cgroup)
        })
        .unwrap_or_default();
    if !shim_cgroup.is_empty()
        && let Err(error) = Cgroup::join(&shim_cgroup, pid)
    {
        eprintln!("the shim stays in containerd's cgroup: {error}");
    }
    // One above containerd's: of the two, the kernel shall rather kill the shim. Lowering the
    // score that was inherited needs CAP_SYS_RESOURCE, raising it does not.
    let parent = nix::unistd::getppid();
    if let Ok(score) = fs::read_to_string(format!("/proc/{parent}/oom_score_adj"))
        && let Ok(score) = score.trim().parse::<i32>()
    {
        let score = (score + 1).min(1000);
        let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
    }
}

/// `delete`: clears away a container whose shim is dead. The current directory is the bundle
/// of some container of the namespace.
fn delete(id: &str, namespace: &str) -> Result<DeleteResponse> {
    const KILLED: u32 = 128 + 9;
    let bundle = bundle_of(id)?;
    let options = Options::load(&bundle);
    let runc = Runc::new(&options, namespace, &bundle);
    let spec = Spec::load(&bundle).unwrap_or_default();
    let mut taken = left::Taken::default();
    let dead = shim_is_dead(&bundle);
    if dead {
        // The node daemon takes care of them: they may be the only copy of the pod.
        taken = left::take(spec.group().unwrap_or(id));
        if spec.is_sandbox() {
            orphans::remove(id, &runc, &taken.frozen);
        }
    }
    if !taken.frozen.iter().any(|one| one == id) {
        match runc.delete_blocking(id) {
            // It was never made, or is gone already.
            Ok(()) | Err(Error::NotFound(_)) => {}
            Err(error) => eprintln!("{error}"),
        }
        if let Err(error) = rootfs::unmount_all(&bundle.join("rootfs")) {
            eprintln!("{error}");
        }
    }
    if dead && !taken.volumes {
        fold_volumes(id);
    }
    remove_dead_sockets(id, &bundle);
    let pid = fs::read_to_string(bundle.join("init.pid"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    Ok(DeleteResponse {
        pid,
        exit_status: KILLED,
        exited_at: Some(timestamp(SystemTime::now())).into(),
        ..DeleteResponse::default()
    })
}

/// Folds back the stacks that the dead shim's container, or all of its pod, used.
fn fold_volumes(id: &str) {
    let gone = |user: &User| user.sandbox == id || user.container == id;
    if let Err(error) = Attachments::of_node().sweep(&|user| !gone(user)) {
        eprintln!("{error}");
    }
}

fn bundle_of(id: &str) -> Result<PathBuf> {
    let here = env::current_dir().map_err(Error::io("find the current directory"))?;
    Ok(match here.parent() {
        Some(parent) if here.file_name().is_none_or(|name| name != id) => parent.join(id),
        _ => here,
    })
}

/// Whether the shim that made this bundle's container does not answer.
fn shim_is_dead(bundle: &Path) -> bool {
    fs::read_to_string(bundle.join(ADDRESS)).is_ok_and(|address| {
        let socket = address.strip_prefix("unix://").unwrap_or(&address);
        UnixStream::connect(socket).is_err()
    })
}

/// Removes the sockets of a shim that is dead; the pod's shim may well live.
fn remove_dead_sockets(id: &str, bundle: &Path) {
    let Ok(address) = fs::read_to_string(bundle.join(ADDRESS)) else {
        pod_socket::remove_if_dead(id);
        return;
    };
    let socket = Path::new(address.strip_prefix("unix://").unwrap_or(&address));
    if UnixStream::connect(socket).is_err() {
        task_v2::remove_sockets(&address);
    }
    let group = Spec::load(bundle)
        .ok()
        .and_then(|spec| spec.group().map(str::to_owned));
    pod_socket::remove_if_dead(group.as_deref().unwrap_or(id));
}
