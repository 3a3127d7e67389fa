//! Real network namespaces: a client, a router (the nodes' network), pods A, B and C.

use mycedrive_connection::PodNet;
use nix::sched::{CloneFlags, unshare};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// A namespace, alive as long as its thread.
pub struct Net {
    jobs: Sender<Job>,
    thread: i32,
}

impl Net {
    pub fn new() -> Net {
        let (jobs, queue) = channel::<Job>();
        let (tell, told) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            for job in queue {
                job();
            }
        });
        let thread = told.recv().unwrap();
        let net = Net { jobs, thread };
        net.sh("ip link set lo up");
        net
    }

    /// Run on the namespace's thread.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let job = Box::new(move || tell.send(work()).unwrap());
        self.jobs.send(job).unwrap();
        told.recv().expect("the job panicked")
    }

    /// Run a shell script in the namespace; its output.
    pub fn sh(&self, script: &str) -> String {
        let script = script.to_owned();
        self.run(move || {
            let output = Command::new("sh").args(["-ec", &script]).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{script}: {error}");
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// A pair of virtual cards: `name` in `other`, `eth0` here, both up.
    pub fn attach(&self, other: &Net, name: &str) {
        let thread = self.thread;
        other.sh(&format!(
            "ip link add {name} type veth peer name eth0 netns {thread}; ip link set {name} up"
        ));
        self.sh("ip link set eth0 up; until ip link show eth0 | grep -q 'state UP'; do sleep 0.02; done");
    }

    /// The hardware address of `eth0`.
    pub fn hardware(&self) -> String {
        let link = self.sh("ip -o link show eth0");
        let after = link.split("link/ether ").nth(1).unwrap();
        after.split(' ').next().unwrap().to_owned()
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/self/task/{}/ns/net", self.thread).into()
    }

    pub fn pod(&self) -> PodNet {
        PodNet::open(&self.path()).unwrap()
    }

    /// What must be the same after everything was undone. Link-local addresses come up by
    /// themselves some time after the link and are left out.
    pub fn state(&self) -> State {
        let text = self.sh("ip -d link; ip address; ip rule; ip -6 rule
             ip route show table all; ip -6 route show table all
             grep -r . /proc/sys/net/ipv4 /proc/sys/net/ipv6 2>/dev/null |
             grep -v -e stable_secret -e fastopen_key -e /neigh/ -e /route/");
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !line.contains("fe80"))
            // The kernel notices a reader of a TUN, or its end, some time after that.
            .map(|line| {
                let line = line.replace("<NO-CARRIER,", "<").replace("linkdown ", "");
                line.replace("state UNKNOWN", "state UP")
                    .replace("state DOWN", "state UP")
            })
            .collect();
        lines.push(format!("locked: {}", self.pod().locked().unwrap()));
        State(lines)
    }
}

/// Lines of a namespace's state.
pub struct State(Vec<String>);

impl State {
    pub fn assert_same(&self, before: &State) {
        let missing: Vec<_> = before.0.iter().filter(|l| !self.0.contains(l)).collect();
        let new: Vec<_> = self.0.iter().filter(|l| !before.0.contains(l)).collect();
        assert!(
            missing.is_empty() && new.is_empty(),
            "gone: {missing:#?}\nleft over: {new:#?}"
        );
    }
}

pub struct Nets {
    pub client: Net,
    pub router: Net,
    pub a: Net,
    pub b: Net,
    pub c: Net,
}

pub const OLD4: &str = "10.1.0.2";
pub const OLD6: &str = "fd00:1::2";

pub fn old() -> Vec<IpAddr> {
    vec![OLD4.parse().unwrap(), OLD6.parse().unwrap()]
}

impl Nets {
    pub fn new() -> Nets {
        let nets = Nets {
            client: Net::new(),
            router: Net::new(),
            a: Net::new(),
            b: Net::new(),
            c: Net::new(),
        };
        nets.router
            .sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        let all = [
            ("a", 1, &nets.a),
            ("b", 2, &nets.b),
            ("c", 3, &nets.c),
            ("client", 9, &nets.client),
        ];
        for (name, number, net) in all {
            net.attach(&nets.router, &format!("to-{name}"));
            nets.router.sh(&format!(
                "ip address add 10.{number}.0.1/24 dev to-{name}
                 ip address add fd00:{number}::1/64 dev to-{name} nodad"
            ));
            net.sh(&format!(
                "ip address add 10.{number}.0.2/24 dev eth0
                 ip address add fd00:{number}::2/64 dev eth0 nodad
                 ip route add default via 10.{number}.0.1
                 ip route add default via fd00:{number}::1"
            ));
        }
        nets
    }
}

/// Namespaces and TUN devices need root; says so and tells the test to return.
pub fn unable() -> bool {
    let why = if !nix::unistd::geteuid().is_root() {
        "needs root"
    } else if !std::path::Path::new("/dev/net/tun").exists() {
        "no /dev/net/tun"
    } else if Command::new("ip").arg("-V").output().is_err() {
        "no ip program"
    } else {
        return false;
    };
    eprintln!("skipped: {why}");
    true
}

/// Makes a call again that a signal cut short: a receive with a time-out is not restarted, whatever
/// the handler's flags (signal(7)).
pub fn again<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
