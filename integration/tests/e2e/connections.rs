//! Connections of a pod that moves: clients in all places, moves in a row, connections that are not
//! kept, datagrams, and networks that filter.

mod chain;
mod clients;
mod closing;
mod datagrams;
mod filtered;
mod inside;

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use mycedrive_integration::workload::client::Client;
use mycedrive_integration::{Node, RunningPod};

use crate::world::Scenario;

pub fn all() -> Vec<Scenario> {
    let subjects = [
        clients::all(),
        chain::all(),
        closing::all(),
        datagrams::all(),
        filtered::all(),
        inside::all(),
    ];
    subjects.into_iter().flatten().collect()
}

/// A pod's address of one IP version.
fn address(pod: &RunningPod, version: u8) -> Result<IpAddr> {
    let all = std::iter::once(&pod.ip).chain(&pod.more_ips);
    let mut parsed = all.filter_map(|text| text.parse::<IpAddr>().ok());
    parsed
        .find(|address| address.is_ipv4() == (version == 4))
        .with_context(|| format!("the pod has no address of IPv{version}"))
}

/// A client of a counter that is its own.
fn counter(node: &Node, address: IpAddr, name: &str) -> Result<Client> {
    let address = SocketAddr::new(address, 6379);
    Ok(Client::start_on(node, &Client::program()?, address, name)?)
}

/// Ends clients; each had one connection over which nothing was lost.
fn all_clean(clients: Vec<Client>) -> Result<()> {
    clients
        .into_iter()
        .try_for_each(|client| crate::migration::finish(client).map(drop))
}

/// Runs `work` on a thread in a node's network.
fn in_network<T: Send>(node: &Node, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/proc/{}/ns/net", node.pid());
    let network = File::open(&path).context(path)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            nix::sched::setns(&network, nix::sched::CloneFlags::CLONE_NEWNET)?;
            work()
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the thread in the node's network panicked")))
    })
}

/// A Python program on a node. It is to end with its standard input, which is closed when this
/// is dropped.
struct Script(Child);

impl Script {
    fn start(node: &Node, script: &str, arguments: &[&str]) -> Result<Self> {
        let all = [&["python3", "-c", script], arguments].concat();
        let child = node.command(&all).stdin(Stdio::piped()).spawn();
        Ok(Self(child.context("start a script")?))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // What is left to do when it cannot be waited for is the testbed's.
        let _ = self.0.wait();
    }
}
