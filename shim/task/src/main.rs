//! `containerd-shim-mycedrive-v2`: the shim that containerd runs for each pod.
//!
//! An ordinary, complete runtime with runc below, and the node's end of a pod's migration.
//! See `shim` for the program, `task` for containerd's Task service, `pod` and `container` for
//! what it manages, `migration` for everything that is not ordinary.

mod cgroup;
mod container;
mod error;
mod events;
mod io;
mod log;
mod migration;
mod oom;
mod options;
mod orphans;
mod pod;
mod pod_socket;
mod process;
mod reaper;
mod rootfs;
mod runc;
mod shim;
mod spec;
mod state;
mod stats;
mod task;
mod task_v2;
mod volumes;

use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    // By CRIU.
    if let Some(code) = mycedrive_engine::tar_if_called() {
        return code;
    }
    // One thread: the shim waits for others nearly all of its time, and its memory counts once
    // per pod.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build();
    match runtime {
        Ok(runtime) => {
            runtime.block_on(containerd_shim::run::<shim::Program>(
                shim::RUNTIME,
                Some(shim::config()),
            ));
            // The answer of `delete` is written by a helper thread; it must get out. A server's
            // helper that hangs in the kernel must not keep the shim.
            runtime.shutdown_timeout(Duration::from_secs(1));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
