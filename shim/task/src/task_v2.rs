//! Version 2 of the Task API: the same messages under another service name, and an answer to `start`
//! that is the bare address.
//!
//! containerd says in `MAX_SHIM_VERSION` what it knows; 1.7 and 2.0 to 2.2 say 2, and 1.7 refuses more. The
//! framework serves version 3 only. So the shim listens a second time, at the address of the first with
//! [`SUFFIX`], and gives such a containerd that one.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::{env, fs, io};

use containerd_shim_protos::shim_async::create_task;
use tracing::warn;
use ttrpc::asynchronous::Server;

use crate::error::{Error, Result};
use crate::pod::Pod;
use crate::task::TaskService;

const SUFFIX: &str = ".2";
const VERSION_3: &str = "containerd.task.v3.Task";
const VERSION_2: &str = "containerd.task.v2.Task";

/// Whether the containerd that runs this shim knows no version above 2.
pub fn is_wanted() -> bool {
    env::var("MAX_SHIM_VERSION").is_ok_and(|version| version == "2")
}

/// The address for such a containerd.
pub fn address(version_3: &str) -> String {
    format!("{version_3}{SUFFIX}")
}

/// Removes the sockets behind an address that containerd was given, of whichever version.
pub fn remove_sockets(address: &str) {
    for address in [Some(address), address.strip_suffix(SUFFIX)] {
        // They may be gone already.
        let _ = address.map(|address| fs::remove_file(path(address)));
    }
}

/// Answers `start`, and ends this program: the framework's answer would be one of version 3.
pub fn answer(address: &str) -> ! {
    let mut stdout = io::stdout();
    let written = stdout
        .write_all(address.as_bytes())
        .and_then(|()| stdout.flush());
    std::process::exit(i32::from(written.is_err()));
}

/// Listens, then serves until the shim ends. Without it containerd reaches nothing, so the shim ends if it
/// fails.
pub async fn serve(pod: &Arc<Pod>, version_3: &str) {
    let address = address(version_3);
    let mut server = match listen(pod, &address).await {
        Ok(server) => server,
        Err(error) => {
            warn!(%error, "cannot serve containerd");
            pod.exit.signal();
            return;
        }
    };
    let exit = pod.exit.clone();
    tokio::spawn(async move {
        exit.wait().await;
        remove_sockets(&address);
        // The answer to Shutdown is still to go out.
        let _ = server.shutdown().await;
    });
}

async fn listen(pod: &Arc<Pod>, address: &str) -> Result<Server> {
    let failed = |error: ttrpc::Error| {
        let error = io::Error::other(error.to_string());
        Error::path("listen on", path(address))(error)
    };
    // On a node that has had no pod yet the directory is not there.
    if let Some(directory) = path(address).parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(directory)
            .map_err(Error::path("create", directory))?;
    }
    let mut services = create_task(Arc::new(TaskService::new(pod.clone())));
    if let Some(service) = services.remove(VERSION_3) {
        services.insert(VERSION_2.to_owned(), service);
    }
    let mut server = Server::new()
        .bind(address)
        .map_err(failed)?
        .register_service(services);
    server.start().await.map_err(failed)?;
    Ok(server)
}

fn path(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap_or(address))
}

#[cfg(test)]
#[path = "task_v2_tests.rs"]
mod tests;
