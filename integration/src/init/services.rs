//! Pid 1's work once the node stands: services and reaping.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Service;
use crate::{Error, Result};

/// Where the logs of services are, within the node.
const LOGS: &str = "/var/log/testbed";
/// `NAME.down` in here keeps a service stopped.
pub(crate) const CONTROL: &str = "/run/testbed";

const RESTART_AFTER: Duration = Duration::from_millis(300);
const LOOK_EVERY: u16 = 100;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Default)]
struct State {
    pid: Option<Pid>,
    ended: Option<Instant>,
}

/// Never ends; the testbed ends a node by SIGKILL.
pub(super) fn supervise(services: &[Service]) -> Result<()> {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children
        .thread_block()
        .map_err(Error::system("block SIGCHLD"))?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(Error::system("make a signalfd"))?;
    let mut states: HashMap<&str, State> = HashMap::new();
    loop {
        for service in services {
            look_after(service, states.entry(&service.name).or_default());
        }
        let mut polled = [PollFd::new(
            std::os::fd::AsFd::as_fd(&signals),
            PollFlags::POLLIN,
        )];
        match poll(&mut polled, PollTimeout::from(LOOK_EVERY)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Error::system("wait for children")(error)),
        }
        while let Ok(Some(_)) = signals.read_signal() {}
        reap(&mut states);
    }
}

fn look_after(service: &Service, state: &mut State) {
    let down = Path::new(CONTROL)
        .join(format!("{}.down", service.name))
        .exists();
    match state.pid {
        Some(pid) if down => {
            let _ = kill(pid, Signal::SIGTERM);
        }
        None if !down && state.ended.is_none_or(|at| at.elapsed() > RESTART_AFTER) => {
            match start(service) {
                Ok(pid) => state.pid = Some(pid),
                Err(error) => {
                    eprintln!("{}: {error}", service.name);
                    state.ended = Some(Instant::now());
                }
            }
        }
        _ => {}
    }
}

fn start(service: &Service) -> Result<Pid> {
    let path = Path::new(LOGS).join(format!("{}.log", service.name));
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(Error::file("open", &path))?;
    let errors = log.try_clone().map_err(Error::file("open", &path))?;
    let (program, args) = service.argv.split_first().ok_or_else(|| Error::Unknown {
        kind: "program of service",
        name: service.name.clone(),
        hint: "its argv is empty".to_owned(),
    })?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root");
    command.envs(service.environment.iter().map(|(key, value)| (key, value)));
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command.spawn().map_err(|source| Error::Spawn {
        command: service.argv.join(" "),
        source,
    })?;
    let pid = Pid::from_raw(child.id() as i32);
    // Seen by people and tests; pid 1 itself does not need it.
    let _ = fs::write(
        Path::new(CONTROL).join(format!("{}.pid", service.name)),
        pid.to_string(),
    );
    Ok(pid)
}

fn reap(states: &mut HashMap<&str, State>) {
    loop {
        let ended = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => pid,
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => continue,
        };
        for (name, state) in states
            .iter_mut()
            .filter(|(_, state)| state.pid == Some(ended))
        {
            *state = State {
                pid: None,
                ended: Some(Instant::now()),
            };
            let _ = fs::remove_file(Path::new(CONTROL).join(format!("{name}.pid")));
        }
    }
}
