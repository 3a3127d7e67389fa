//! Reports that the kernel killed something in a container for want of memory.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use containerd_shim::protos::events::task::TaskOOM;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::events::Events;

/// Sends TaskOOM for `id` whenever something in `cgroup` is killed, until it is aborted.
pub fn watch(cgroup: &Cgroup, id: String, events: Events) -> Result<AbortHandle> {
    let directory = cgroup
        .directory("memory")
        .ok_or_else(|| Error::NotFound("memory controller".to_owned()))?;
    let send = move || {
        events.send(TaskOOM {
            container_id: id.clone(),
            ..TaskOOM::default()
        });
    };
    match cgroup {
        Cgroup::V1(_) => watch_v1(directory, send),
        Cgroup::V2(_) => watch_v2(directory, send),
    }
}

/// Kernel documentation, cgroup-v1/memory.rst, "OOM Control": an eventfd that is signalled.
fn watch_v1(directory: &Path, send: impl Fn() + Send + 'static) -> Result<AbortHandle> {
    let failed = || Error::path("watch OOM kills in", directory);
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(Error::io("make an eventfd"))?;
    let control = File::open(directory.join("memory.oom_control")).map_err(failed())?;
    let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
    fs::write(directory.join("cgroup.event_control"), line).map_err(failed())?;
    let gone = directory.join("cgroup.procs");
    let event = readable(OwnedFd::from(event)).map_err(failed())?;
    let task = tokio::spawn(async move {
        loop {
            let read = event
                .async_io(Interest::READABLE, |fd| {
                    Ok(nix::unistd::read(fd, &mut [0; 8])?)
                })
                .await;
            // The removal of the cgroup signals as well.
            if read.is_err() || !gone.exists() {
                return;
            }
            send();
        }
    });
    Ok(task.abort_handle())
}

/// Kernel documentation, cgroup-v2.rst: memory.events is modified when a counter grows.
fn watch_v2(directory: &Path, send: impl Fn() + Send + 'static) -> Result<AbortHandle> {
    let file: PathBuf = directory.join("memory.events");
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .map_err(Error::io("use inotify"))?;
    inotify
        .add_watch(&file, AddWatchFlags::IN_MODIFY)
        .map_err(Error::path("watch", &file))?;
    let inotify = readable(OwnedFd::from(inotify)).map_err(Error::path("watch", directory))?;
    let mut seen = kills(&file).unwrap_or(0);
    let task = tokio::spawn(async move {
        loop {
            let read = inotify
                .async_io(Interest::READABLE, |fd| {
                    Ok(nix::unistd::read(fd, &mut [0; 4096])?)
                })
                .await;
            let (Ok(_), Some(now)) = (read, kills(&file)) else {
                return;
            };
            if now > seen {
                seen = now;
                send();
            }
        }
    });
    Ok(task.abort_handle())
}

fn readable(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its descriptor open until it is dropped, and always names the
    // same one.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}

/// The counter `oom_kill` of memory.events.
fn kills(file: &Path) -> Option<u64> {
    fs::read_to_string(file)
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}
