//! The testbed itself.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use mycedrive_integration::{Pod, Testbed, TestbedOptions};

use crate::expect;
use crate::world::{Scenario, three};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("testbed::pods_reach_each_other", pods_reach_each_other),
        Scenario::new(
            "testbed::link_can_be_cut_and_limited",
            link_can_be_cut_and_limited,
        ),
        Scenario::new(
            "testbed::clears_what_a_killed_run_left",
            clears_what_a_killed_run_left,
        ),
        Scenario::new("testbed::services_come_back", services_come_back),
    ]
}

fn pods_reach_each_other(testbed: &Testbed) -> Result<()> {
    let (a, b, client) = three(testbed)?;
    let one = a.run_pod(&Pod::new("net", "one").handler("runc").container(
        "main",
        "busybox",
        &[],
    ))?;
    let two = b.run_pod(&Pod::new("net", "two").handler("runc").container(
        "main",
        "busybox",
        &[],
    ))?;
    for address in [&two.ip, &two.more_ips[0]] {
        expect::exec(a, &one, "main", &["ping", "-c", "1", "-W", "2", address])?;
        client.sh(&format!("ping -c 1 -W 2 {address}"))?;
    }
    Ok(())
}

fn link_can_be_cut_and_limited(testbed: &Testbed) -> Result<()> {
    let (a, b, _) = three(testbed)?;
    let ping = format!("ping -c 1 -W 1 {}", b.address());
    a.sh(&ping)?;
    b.set_link(false)?;
    ensure!(a.sh(&ping).is_err(), "{ping} works over a cut link");
    b.set_link(true)?;
    a.sh(&ping)?;

    b.set_rate(Some("8mbit"))?;
    let server = b.command(&["python3", "-c", RECEIVE]).spawn()?;
    let started = Instant::now();
    let sent = a.exec(&["python3", "-c", SEND, &b.address()])?.ok();
    let seconds = started.elapsed().as_secs_f64();
    server.wait_with_output()?;
    sent?;
    // 1 MB at 8 Mbit/s takes a second.
    ensure!(
        (0.7..3.0).contains(&seconds),
        "1 MB over 8 Mbit/s took {seconds:.2} s"
    );
    Ok(())
}

const RECEIVE: &str = "
import socket
s = socket.create_server(('0.0.0.0', 7000))
c, _ = s.accept()
while c.recv(65536): pass
c.sendall(b'.')
";

const SEND: &str = "
import socket, sys, time
for _ in range(50):
    try:
        s = socket.create_connection((sys.argv[1], 7000)); break
    except OSError:
        time.sleep(0.1)
s.sendall(bytes(1000000))
s.shutdown(socket.SHUT_WR)
s.recv(1)
";

fn clears_what_a_killed_run_left(testbed: &Testbed) -> Result<()> {
    let name = format!("{}-left", testbed.name());
    let options = TestbedOptions {
        name: name.clone(),
        nodes: 1,
        client: false,
        ..TestbedOptions::default()
    };
    let left = Testbed::start(&options)?;
    let node = left.nodes()[0].clone();
    node.run_pod(
        &Pod::new("left", "over")
            .handler("runc")
            .container("main", "busybox", &[]),
    )?;
    let again = Testbed::start(&options).map(Testbed::keep);
    ensure!(
        again.is_err_and(|error| error.to_string().contains("in use")) && node.alive(),
        "a testbed in use was made again"
    );
    // As if the harness had been killed: nothing is removed.
    left.keep();
    ensure!(node.alive(), "the node did not run on");

    Testbed::remove(&name)?;
    ensure!(!node.alive(), "the node still runs");
    for place in [
        "/run/mycedrive-testbed",
        "/var/lib/mycedrive-testbed",
        "/sys/fs/cgroup/freezer/mycedrive-testbed",
    ] {
        ensure!(
            !Path::new(place).join(&name).exists(),
            "{place}/{name} is still there"
        );
    }
    ensure!(
        !Path::new("/run/netns")
            .join(format!("myce.{name}.switch"))
            .exists(),
        "namespaces are still there"
    );
    Ok(())
}

fn services_come_back(testbed: &Testbed) -> Result<()> {
    let (a, ..) = three(testbed)?;
    let before = a.service_pid("containerd");
    a.kill_service("containerd")?;
    a.wait_ready()?;
    ensure!(
        a.service_pid("containerd") != before,
        "containerd was not started again"
    );
    a.stop_service("containerd")?;
    std::thread::sleep(std::time::Duration::from_millis(600));
    ensure!(
        a.service_pid("containerd").is_none(),
        "containerd runs although it was stopped"
    );
    a.start_service("containerd")?;
    a.wait_ready()?;
    Ok(())
}
