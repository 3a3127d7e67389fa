//! The execs of a container.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Container, lock, read_pid};
use crate::error::{Error, Result};
use crate::process::Process;
use crate::state::Step;
use crate::{io, reaper};

/// Counts an exec as running while it lives.
pub struct RunningExec(Arc<Container>);

impl Drop for RunningExec {
    fn drop(&mut self) {
        self.0.running_execs.send_modify(|count| *count -= 1);
    }
}

impl Container {
    /// An exec.
    pub fn exec(&self, exec_id: &str) -> Result<Arc<Process>> {
        lock(&self.execs)
            .get(exec_id)
            .cloned()
            .ok_or_else(|| Error::NotFound(format!("exec {exec_id} of container {}", self.id)))
    }

    /// The execs that were added and not deleted.
    pub fn execs(&self) -> Vec<Arc<Process>> {
        lock(&self.execs).values().cloned().collect()
    }

    /// Adds an exec.
    pub fn add_exec(&self, exec: Process) -> Result<()> {
        let mut execs = lock(&self.execs);
        if execs.contains_key(&exec.id) {
            return Err(Error::AlreadyExists(exec.name));
        }
        execs.insert(exec.id.clone(), Arc::new(exec));
        Ok(())
    }

    /// Removes an exec.
    pub fn remove_exec(&self, exec_id: &str) {
        lock(&self.execs).remove(exec_id);
    }

    /// Files of an exec in the bundle: (process.json, pid file).
    pub fn exec_files(&self, exec_id: &str) -> (PathBuf, PathBuf) {
        (
            self.bundle.join(format!("exec-{exec_id}.json")),
            self.bundle.join(format!("exec-{exec_id}.pid")),
        )
    }

    /// Makes and runs an exec's process; returns its pid. The caller holds `exec.op`.
    pub async fn launch_exec(self: &Arc<Self>, exec: &Arc<Process>) -> Result<i32> {
        self.running_execs.send_modify(|count| *count += 1);
        let running = RunningExec(self.clone());
        let mut prepared = io::prepare(&exec.stdio, self.owner()).await?;
        let (process, pid_file) = self.exec_files(&exec.id);
        let mut args: Vec<OsString> = vec!["exec".into(), "--detach".into()];
        args.extend(["--process".into(), process.clone().into()]);
        args.extend(["--pid-file".into(), pid_file.clone().into()]);
        if let Some(socket) = prepared.console_socket() {
            args.extend(["--console-socket".into(), socket.into()]);
        }
        args.push(self.id.clone().into());

        let expecting = reaper::expect();
        let streams = prepared.take_streams();
        let result = self.runc.run_with(args, streams).await;
        let _ = fs::remove_file(&process);
        if let Err(error) = result {
            prepared.discard().await;
            return Err(error);
        }
        let pid = read_pid(&pid_file)?;
        let _ = fs::remove_file(&pid_file);
        let exit = reaper::watch(pid);
        drop(expecting);
        let attached = prepared.attach().await?;
        exec.appeared(pid, exit.clone(), attached);
        exec.step(Step::Run)?;

        let (container, exec) = (self.clone(), exec.clone());
        tokio::spawn(async move {
            let exit = reaper::exited(exit).await;
            let _op = exec.op.lock().await;
            if exec.finish(exit).is_ok() {
                container.send_exit(&exec.id, pid as u32, exit);
            }
            drop(running);
        });
        Ok(pid)
    }
}
