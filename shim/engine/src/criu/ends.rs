//! Unix sockets that connect two containers: what a dump of one saves of them, and what the
//! restores of all need ([`mycedrive_connection::unix`]).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use mycedrive_connection::unix::{self, Cut, Ends, Members, Problem, Process, Saved};
use mycedrive_connection::{Error, PodNet};

use crate::freezer::Freezer;
use crate::process::{Status, proc};
use crate::{EngineError, EngineKind, Member, Target, spec};

/// Name in the image directory.
const FILE: &str = "mycedrive-unix.img";
/// How often it is looked at what running programs do: they connect and close between two looks.
const LOOKS: u32 = 3;
/// How long between two looks.
const BETWEEN: Duration = Duration::from_millis(20);

/// Why the sockets of a container cannot move with its pod. Changes nothing.
pub(super) fn obstacles(target: &Target, pod: &[Member]) -> Result<Vec<String>, EngineError> {
    let Some(own) = pod.iter().find(|member| member.name == target.name) else {
        return Ok(Vec::new());
    };
    let (_, problems) = look(&target.name, own.pid, pod)?;
    Ok(problems
        .iter()
        // It will be, soon.
        .filter(|problem| !matches!(problem, Problem::NotAccepted { .. }))
        .map(ToString::to_string)
        .collect())
}

/// Writes what a restore needs into an image directory. Returns the inodes of the sockets for which
/// CRIU must ask. The containers of `pod` stand still; without any, `target` is dumped alone.
pub(super) fn save(
    target: &Target,
    pid: i32,
    pod: &[Member],
    image_dir: &Path,
) -> Result<Vec<u32>, EngineError> {
    let (cuts, problems) = look(&target.name, pid, pod)?;
    if let Some(problem) = problems.into_iter().next() {
        return Err(EngineError::Unix(problem.into()));
    }
    if cuts.is_empty() {
        return Ok(Vec::new());
    }
    let saved = unix::save(&target.name, &cuts).map_err(EngineError::Unix)?;
    spec::replace(&image_dir.join(FILE), &saved.encode())?;
    Ok(saved.halves.iter().map(|half| half.inode).collect())
}

/// What a container has, and what cannot be carried at each of some looks.
fn look(own: &str, pid: i32, pod: &[Member]) -> Result<(Vec<Cut>, Vec<Problem>), EngineError> {
    let net = match PodNet::open(&proc(pid, "ns/net")) {
        // Its sockets are among the node's; CRIU says what it cannot do.
        Err(Error::HostNetwork { .. }) => return Ok((Vec::new(), Vec::new())),
        net => net.map_err(EngineError::Unix)?,
    };
    let alone = [Member {
        name: own.to_owned(),
        pid,
        engine: EngineKind::Criu,
    }];
    let members = if pod.is_empty() { &alone[..] } else { pod };
    let mut lasting: Option<Vec<Problem>> = None;
    let mut looks = 0;
    loop {
        let found = members.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        let found = Members::look(&found, pod.is_empty());
        let table = net.unix_sockets().map_err(EngineError::Unix)?;
        let (cuts, mut problems) = unix::cut(own, &found, &table, unix::peer_name);
        if let Some(before) = lasting {
            problems.retain(|problem| before.contains(problem));
        }
        looks += 1;
        if problems.is_empty() || looks == LOOKS {
            return Ok((cuts, problems));
        }
        lasting = Some(problems);
        thread::sleep(BETWEEN);
    }
}

fn of(member: &Member) -> Result<unix::Member, EngineError> {
    Ok(unix::Member {
        name: member.name.clone(),
        processes: processes(member.pid)?,
        movable: member.engine == EngineKind::Criu,
    })
}

/// The processes of the container with this first process.
fn processes(first: i32) -> Result<Vec<Process>, EngineError> {
    let pids = Freezer::of_process(first)?.processes()?;
    Ok(pids
        .into_iter()
        .filter_map(|pid| {
            let inner = Status::read(pid).ok()?.inner_pid;
            Some(Process { pid, inner })
        })
        .collect())
}

/// What was saved in an image directory.
fn read(image_dir: &Path) -> Result<Option<Saved>, EngineError> {
    let path = image_dir.join(FILE);
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(EngineError::io("open", &path)(error)),
    };
    let mut bytes = Vec::new();
    // What is longer is cut short, and then damaged.
    file.take(Saved::LARGEST)
        .read_to_end(&mut bytes)
        .map_err(EngineError::io("read", &path))?;
    let saved = Saved::decode(&bytes).map_err(|error| EngineError::DamagedImage {
        path,
        problem: error.to_string(),
    })?;
    Ok(Some(saved))
}

/// Refuses an image whose container had connections to others, which are not restored with it.
pub(super) fn none(image_dir: &Path) -> Result<(), EngineError> {
    match read(image_dir)? {
        None => Ok(()),
        Some(_) => Err(EngineError::DamagedImage {
            path: image_dir.join(FILE),
            problem:
                "the container had unix sockets connected to other containers of its pod, and \
                      is restored without them; restore the pod as a whole"
                    .to_owned(),
        }),
    }
}

/// The connections between the containers of a pod that is restored.
pub struct PodEnds(Ends);

impl PodEnds {
    /// Makes them in the pod's network namespace, from the image directories of its containers.
    /// None: there are no such connections.
    pub fn make(
        netns: Option<&Path>,
        images: &[(String, PathBuf)],
    ) -> Result<Option<Self>, EngineError> {
        let mut all = Vec::new();
        for (name, image) in images {
            all.push((name.clone(), read(image)?.unwrap_or_default()));
        }
        if all.iter().all(|(_, saved)| saved.halves.is_empty()) {
            return Ok(None);
        }
        let netns = netns.ok_or_else(|| EngineError::DamagedImage {
            path: PathBuf::from(FILE),
            problem: "unix sockets between containers need a pod with a network of its own"
                .to_owned(),
        })?;
        let net = PodNet::open(netns).map_err(EngineError::Unix)?;
        let ends = Ends::make(&net, all).map_err(EngineError::Unix)?;
        Ok(Some(Self(ends)))
    }

    /// For [`Restore::ends`](crate::Restore::ends).
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// All containers are restored, by name and first process, and none has run: what is missing
    /// from their connections is done. After an error the pod must not run.
    pub fn finish(self, containers: &[(String, i32)]) -> Result<(), EngineError> {
        let mut all = Vec::new();
        for (name, first) in containers {
            all.push((name, processes(*first)?));
        }
        let locate = |container: &str, inner: i32| {
            let (_, processes) = all.iter().find(|(name, _)| *name == container)?;
            let process = processes.iter().find(|process| process.inner == inner)?;
            Some(process.pid)
        };
        self.0.finish(&locate).map_err(EngineError::Unix)
    }
}

#[cfg(test)]
mod tests;
