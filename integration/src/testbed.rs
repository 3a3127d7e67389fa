//! Testbeds: made, found again, removed.

use std::fs;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::node::Plan;
use crate::rootfs::{Tree, lock, remove_tree};
use crate::{Containerd, Error, Images, Node, NodeKind, Result, cgroup, host, image, network};

const RUN: &str = "/run/mycedrive-testbed";
const DATA: &str = "/var/lib/mycedrive-testbed";
/// Name of the client node.
const CLIENT: &str = "client";
/// Nodes are called node-a to node-z.
const MAX_NODES: usize = 26;

/// What a testbed is to be.
#[derive(Debug, Clone)]
pub struct TestbedOptions {
    /// Testbeds of different names exist beside each other.
    pub name: String,
    /// Number of nodes with containerd: node-a, node-b and so on.
    pub nodes: usize,
    /// With a node `client` beside them?
    pub client: bool,
    /// By how many seconds the boot clocks of node-a, node-b … are ahead of the machine's (behind it, if
    /// negative); 0 for nodes that are not in the list. A node with a difference is in a time namespace of
    /// its own, which CRIU takes for the machine's when it restores: pods can leave it, not arrive.
    pub clock_offsets: Vec<i64>,
    /// Which containerd nodes run.
    pub containerd: Containerd,
    /// Which container images every node gets.
    pub images: Images,
}

impl Default for TestbedOptions {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            nodes: 2,
            client: true,
            clock_offsets: Vec::new(),
            containerd: Containerd::default(),
            images: Images::Core,
        }
    }
}

/// Running nodes. They end when this is dropped, unless [`Testbed::keep`] was called.
#[derive(Debug)]
pub struct Testbed {
    name: String,
    nodes: Vec<Node>,
    owned: bool,
    /// Held by the program that made it, as long as it lives.
    used: Option<Flock<fs::File>>,
}

impl Testbed {
    /// Makes a testbed, after removing what an earlier one of its name left. Refuses while the program
    /// that made the earlier one still runs and has not kept it.
    ///
    /// The first time on a machine this installs tools and makes root file systems, which takes a few
    /// minutes; later it takes a few seconds.
    pub fn start(options: &TestbedOptions) -> Result<Self> {
        network::check_name(&options.name)?;
        if let Some(reason) = host::missing_privilege() {
            return Err(Error::Privilege(reason));
        }
        let _lock = lock_name(&options.name)?;
        let used = use_name(&options.name)?;
        host::install_tools()?;
        remove_all(&options.name)?;
        let lower = Tree::Node.ensure()?;
        options.containerd.ensure()?;
        let archives = options
            .images
            .sets()
            .iter()
            .map(image::ensure_archive)
            .collect::<Result<Vec<_>>>()?;
        let mut testbed = Self {
            name: options.name.clone(),
            nodes: Vec::new(),
            owned: false,
            used: Some(used),
        };
        let made = testbed
            .make_nodes(options, &lower)
            .and_then(|()| testbed.write_state())
            .and_then(|()| testbed.prepare_workers(&archives));
        if let Err(error) = made {
            remove_all(&options.name)?;
            return Err(error);
        }
        testbed.owned = true;
        Ok(testbed)
    }

    fn make_nodes(&mut self, options: &TestbedOptions, lower: &Path) -> Result<()> {
        let state = state_dir(&self.name);
        fs::create_dir_all(&state).map_err(Error::file("make", &state))?;
        network::create_switch(&self.name)?;
        let workers = options.nodes.clamp(1, MAX_NODES) as u8;
        let mut peers: Vec<(String, u8)> = (1..=workers)
            .map(|index| (format!("node-{}", char::from(b'a' + index - 1)), index))
            .collect();
        if options.client {
            peers.push((CLIENT.to_owned(), 100));
        }
        for (name, index) in &peers {
            let plan = Plan {
                testbed: &self.name,
                name,
                kind: if name == CLIENT {
                    NodeKind::Client
                } else {
                    NodeKind::Worker
                },
                index: *index,
                lower,
                own: Path::new(DATA).join(&self.name).join(name),
                state: state.clone(),
                peers: peers.clone(),
                containerd: options.containerd,
                clock_offset: options
                    .clock_offsets
                    .get(usize::from(index - 1))
                    .copied()
                    .unwrap_or(0),
            };
            self.nodes.push(plan.create()?);
            for other in 1..=workers {
                if other != *index {
                    network::add_pod_route(&self.name, name, other)?;
                }
            }
        }
        Ok(())
    }

    fn prepare_workers(&self, archives: &[PathBuf]) -> Result<()> {
        std::thread::scope(|scope| {
            let all: Vec<_> = self
                .workers()
                .map(|node| {
                    scope.spawn(move || {
                        node.wait_ready()?;
                        archives
                            .iter()
                            .try_for_each(|archive| node.import_images(archive))
                    })
                })
                .collect();
            all.into_iter()
                .try_for_each(|one| one.join().unwrap_or(Ok(())))
        })
    }

    fn write_state(&self) -> Result<()> {
        let path = state_file(&self.name);
        let text = serde_json::to_string_pretty(&self.nodes).map_err(|error| Error::State {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        fs::write(&path, text).map_err(Error::file("write", &path))
    }

    /// Finds a testbed that was started before and kept.
    pub fn open(name: &str) -> Result<Self> {
        network::check_name(name)?;
        let path = state_file(name);
        let text = fs::read_to_string(&path).map_err(|_| Error::Unknown {
            kind: "testbed",
            name: name.to_owned(),
            hint: "start it with `cargo testbed up`".to_owned(),
        })?;
        let nodes = serde_json::from_str(&text).map_err(|error| Error::State {
            path,
            reason: error.to_string(),
        })?;
        Ok(Self {
            name: name.to_owned(),
            nodes,
            owned: false,
            used: None,
        })
    }

    /// Names of all testbeds of which something is here.
    pub fn names() -> Vec<String> {
        let mut names: Vec<String> = [RUN, DATA]
            .iter()
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| network::check_name(name).is_ok())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Ends a testbed's processes and removes all that is there of it. Does nothing if there is none.
    pub fn remove(name: &str) -> Result<()> {
        network::check_name(name)?;
        if let Some(reason) = host::missing_privilege() {
            return Err(Error::Privilege(reason));
        }
        let _lock = lock_name(name)?;
        remove_all(name)
    }

    /// Cuts a node's power and starts it again: its disk stays, all else is new. Ready when
    /// containerd answers.
    pub fn reboot(&mut self, name: &str) -> Result<()> {
        let name = self.node(name)?.name().to_owned();
        let state = state_dir(&self.name);
        let workers: Vec<u8> = self.workers().map(Node::index).collect();
        for node in self.nodes.iter_mut().filter(|node| node.name() == name) {
            node.power_off()?;
            node.power_on(&state)?;
            for other in workers.iter().filter(|other| **other != node.index()) {
                network::add_pod_route(&self.name, &name, *other)?;
            }
        }
        self.write_state()?;
        self.node(&name)?.wait_ready()
    }

    /// Lets the nodes run on when this is dropped.
    pub fn keep(mut self) {
        self.owned = false;
        self.used = None;
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Nodes with containerd.
    pub fn workers(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .filter(|node| node.kind() == NodeKind::Worker)
    }

    /// A node by its name; `a` is short for `node-a`.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let long = format!("node-{name}");
        self.nodes
            .iter()
            .find(|node| node.name() == name || node.name() == long)
            .ok_or_else(|| {
                let names: Vec<&str> = self.nodes.iter().map(Node::name).collect();
                Error::Unknown {
                    kind: "node",
                    name: name.to_owned(),
                    hint: format!("there are {}", names.join(", ")),
                }
            })
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let removed = lock_name(&self.name).and_then(|_lock| remove_all(&self.name));
        if let Err(error) = removed {
            tracing::error!(testbed = self.name, %error, "cannot remove the testbed; run `cargo testbed down`");
        }
    }
}

/// Without a lock. All that exists of a testbed is found by its name.
fn remove_all(name: &str) -> Result<()> {
    cgroup::destroy(name, None)?;
    network::destroy(name)?;
    remove_tree(&Path::new(DATA).join(name))?;
    remove_tree(&state_dir(name))
}

fn state_dir(name: &str) -> PathBuf {
    Path::new(RUN).join(name)
}

fn state_file(name: &str) -> PathBuf {
    state_dir(name).join("testbed.json")
}

/// Keeps others from starting or removing a testbed of this name at the same time.
fn lock_name(name: &str) -> Result<Flock<fs::File>> {
    fs::create_dir_all(RUN).map_err(Error::file("make", RUN))?;
    lock(&Path::new(RUN).join(format!("{name}.lock")))
}

/// Says that a program uses the testbed of this name, unless another one does.
fn use_name(name: &str) -> Result<Flock<fs::File>> {
    let path = Path::new(RUN).join(format!("{name}.used"));
    let file = fs::File::create(&path).map_err(Error::file("make", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| Error::InUse(name.to_owned()))
}
