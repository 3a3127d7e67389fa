//! The inet sockets of a pod under DMTCP, which DMTCP itself must not touch
//! ([`mycedrive_connection::repair`]).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mycedrive_connection::PodNet;
use mycedrive_connection::repair::{Held, Helper, HelperOptions, Lock, Purpose, Saved};

use super::layout::Folder;
use super::{Member, blocking};
use crate::freezer::Freezer;
use crate::process::proc;
use crate::{Connections, EngineError};

/// The helper of one pod.
#[derive(Clone)]
pub(super) struct Sockets {
    helper: Arc<Helper>,
    port: u16,
}

impl Sockets {
    /// For the pod with this process, whose coordinator listens on `port`.
    pub(super) fn new(
        pid: i32,
        port: u16,
        members: Arc<Mutex<BTreeMap<String, Member>>>,
    ) -> Result<Self, EngineError> {
        let belongs = Box::new(move |pid| {
            let members = members.lock().unwrap_or_else(PoisonError::into_inner);
            members.values().any(|member| shares(member.pid, pid))
        });
        let net = PodNet::open(&proc(pid, "ns/net"))?;
        Ok(Self {
            helper: Arc::new(Helper::new(HelperOptions { net, belongs })),
            port,
        })
    }

    /// The coordinator's port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Answer the processes of a container.
    pub(super) fn listen(&self, folder: &Folder) -> Result<(), EngineError> {
        Ok(self.helper.listen(&folder.helper())?)
    }

    /// The container is gone.
    pub(super) fn close(&self, folder: &Folder) {
        self.helper.close(&folder.helper());
    }

    /// A checkpoint is about to be asked for.
    pub(super) async fn begin(&self, purpose: Purpose) -> Result<(), EngineError> {
        self.ask(move |helper| helper.begin(purpose)).await
    }

    /// The same; `lock` is called when all are suspended, before a socket is read.
    pub(super) fn begin_then_lock(&self, purpose: Purpose, lock: Lock) {
        self.helper.begin_then_lock(purpose, lock);
    }

    /// All are suspended, and nothing is written yet.
    pub(super) async fn suspended(
        &self,
        processes: usize,
        limit: Duration,
    ) -> Result<(), EngineError> {
        self.ask(move |helper| helper.wait_suspended(processes, limit))
            .await
    }

    /// Let the images be written.
    pub(super) fn write(&self) {
        self.helper.write();
    }

    /// All images are written. What cannot move is an error if `connections` are to be kept.
    pub(super) async fn held(
        &self,
        connections: Connections,
        limit: Duration,
    ) -> Result<(), EngineError> {
        let Held { lost, .. } = self.ask(move |helper| helper.wait_held(limit)).await?;
        match (connections, lost.first()) {
            (Connections::Keep, Some(first)) => Err(EngineError::Lost {
                count: lost.len(),
                socket: first.socket.clone(),
                reason: first.reason.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// What goes with the images.
    pub(super) async fn saved(&self) -> Result<Vec<u8>, EngineError> {
        self.ask(|helper| Ok(helper.saved())).await
    }

    /// Make the sockets of processes that will come.
    pub(super) async fn restore(
        &self,
        saved: Vec<u8>,
        connections: Connections,
    ) -> Result<(), EngineError> {
        self.ask(move |helper| {
            let mut saved = Saved::decode(&saved)?;
            if connections == Connections::Close {
                saved.close_connections();
            }
            helper.restore(saved)
        })
        .await
    }

    /// All are back, and held.
    pub(super) async fn restored(&self, limit: Duration) -> Result<(), EngineError> {
        self.ask(move |helper| helper.wait_restored(limit).map(drop))
            .await
    }

    /// Let everybody who is held run on. Takes a moment: two system calls for each connection.
    pub(super) fn release(&self) -> Result<(), EngineError> {
        Ok(self.helper.release()?)
    }

    /// The processes will be killed, and their connections say nothing.
    pub(super) fn vanish(&self) {
        self.helper.vanish();
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Helper) -> mycedrive_connection::Result<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let helper = self.helper.clone();
        blocking(move || Ok(work(&helper)?)).await
    }
}

/// Whether a process is in the control group of a container's first process, or below.
fn shares(init: i32, pid: i32) -> bool {
    let directory = |pid| Freezer::of_process(pid).map(|freezer| freezer.directory().to_owned());
    match (init, directory(init), directory(pid)) {
        (1.., Ok(container), Ok(process)) => {
            container != Path::new("/") && process.starts_with(container)
        }
        _ => false,
    }
}
