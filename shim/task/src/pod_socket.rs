//! The socket over which the node daemon talks to this pod's shim.
//!
//! An ordinary pod does not need it: whatever fails here is logged, and the pod goes on.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs};

use tracing::{debug, warn};
use ttrpc::asynchronous::Server;

use crate::error::{Error, Result};
use crate::migration;
use crate::pod::Pod;

/// The socket of a pod's shim.
pub fn path(sandbox_id: &str) -> PathBuf {
    env::var_os("MYCEDRIVE_RUN_DIR")
        .map_or_else(|| PathBuf::from("/run/mycedrive"), PathBuf::from)
        .join("shims")
        .join(format!("{sandbox_id}.sock"))
}

/// Serves `mycedrive.shim.v1.Pod` in the background until the shim ends.
pub fn serve(pod: &Arc<Pod>) {
    let pod = pod.clone();
    tokio::spawn(async move {
        let Some(facts) = pod.facts() else { return };
        match listen(&pod, &path(&facts.sandbox_id)).await {
            Ok(server) => {
                debug!("waiting for the node daemon");
                pod.exit.wait().await;
                drop(server);
            }
            Err(error) => warn!(%error, "no socket for the node daemon: this pod cannot migrate"),
        }
    });
}

async fn listen(pod: &Arc<Pod>, path: &Path) -> Result<Server> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(Error::path("create", directory))?;
    }
    // One that is left of a shim that was killed.
    let _ = fs::remove_file(path);
    let failed = |error: ttrpc::Error| {
        let error = std::io::Error::other(error.to_string());
        Error::path("listen on", path)(error)
    };
    let mut server = Server::new()
        .bind(&format!("unix://{}", path.display()))
        .map_err(failed)?
        .register_service(migration::service(pod.clone()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(Error::path("protect", path))?;
    server.start().await.map_err(failed)?;
    Ok(server)
}

/// Removes the socket of a pod whose shim ends now, and its notes: nothing of the pod is left.
pub fn remove(pod: &Pod) {
    if let Some(facts) = pod.facts() {
        let _ = fs::remove_file(path(&facts.sandbox_id));
        migration::forget_notes(&facts.sandbox_id);
    }
}

/// Removes the socket of a pod unless its shim answers.
pub fn remove_if_dead(sandbox_id: &str) {
    let path = path(sandbox_id);
    if UnixStream::connect(&path).is_err() {
        let _ = fs::remove_file(path);
    }
}
