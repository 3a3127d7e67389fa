//! The helper saves sockets of pod A and makes them again in pod B.

use crate::process::Process;
mod closing;
mod helper;
mod moves;

use crate::pump::{Pump, read_all};
use crate::support::{Nets, old};
use mycedrive_connection::repair::{Helper, HelperOptions, Purpose, Saved};
use mycedrive_connection::{Error, Route, Tun};
use mycedrive_dmtcp_wire::{Reply, Request, Token};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

fn option(socket: impl AsFd, level: i32, name: i32) -> i32 {
    let (mut value, mut length) = (0i32, 4u32);
    // SAFETY: pointers to live numbers.
    let result = unsafe {
        let fd = socket.as_fd().as_raw_fd();
        libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut length)
    };
    assert_eq!(result, 0);
    value
}

fn set_option(socket: impl AsFd, level: i32, name: i32, value: i32) {
    // SAFETY: a pointer to a live number.
    let result = unsafe {
        let fd = socket.as_fd().as_raw_fd();
        libc::setsockopt(fd, level, name, (&raw const value).cast(), 4)
    };
    assert_eq!(result, 0);
}

/// net/tcp_states.h.
fn state(socket: impl AsFd) -> i32 {
    option(socket, libc::IPPROTO_TCP, libc::TCP_INFO) & 0xff
}

struct Place {
    folder: TempDir,
    helper: Helper,
}

impl Place {
    fn new(net: mycedrive_connection::PodNet) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let belongs = Box::new(|pid| pid == std::process::id() as i32);
        let helper = Helper::new(HelperOptions { net, belongs });
        helper.listen(&folder.path().join("sock")).unwrap();
        Place { folder, helper }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sock")
    }
}

/// Moves sockets from A to B. `act` happens between lock and save; what it returns lives on in A
/// until the sockets are gone.
struct Move {
    from: File,
    to: File,
    sockets: Vec<OwnedFd>,
    b: Place,
    _process: JoinHandle<()>,
}

impl Move {
    fn new<T>(nets: &Nets, sockets: Vec<OwnedFd>, locked: impl FnOnce() -> T) -> Move {
        let leaving = Leaving::new(nets, sockets, locked);
        let b = nets.b.pod();
        let there = Place::new(nets.b.pod());
        let refused = there.helper.restore(leaving.saved());
        assert!(matches!(refused, Err(Error::NotLocked)), "{refused:?}");
        b.lock_destination().unwrap();
        b.adopt(Route::FIRST, &old(), None).unwrap();
        let (sockets, process) = leaving.arrive(&there, leaving.saved());
        Move {
            from: leaving.from,
            to: File::from(b.open_tun(Tun::Route(Route::FIRST)).unwrap()),
            sockets,
            b: there,
            _process: process,
        }
    }

    /// Let the process on B run.
    fn run(self, nets: &Nets) -> (Vec<OwnedFd>, Pump) {
        self.b.helper.release().unwrap();
        nets.b.pod().unlock_destination().unwrap();
        for packet in read_all(&self.from) {
            let _ = (&self.to).write_all(&packet);
        }
        (
            self.sockets,
            Pump::between(self.from.into(), self.to.into()),
        )
    }
}

/// Sockets that were saved on A and are nowhere.
struct Leaving {
    from: File,
    saved: Vec<u8>,
    ids: Vec<u32>,
    token: Token,
}

impl Leaving {
    fn new<T>(nets: &Nets, sockets: Vec<OwnedFd>, locked: impl FnOnce() -> T) -> Leaving {
        let a = nets.a.pod();
        a.prepare_source(&old()).unwrap();
        let from = File::from(a.open_tun(Tun::Source).unwrap());
        let here = Place::new(nets.a.pod());
        let refused = here.helper.begin(Purpose::Move);
        assert!(matches!(refused, Err(Error::NotLocked)), "{refused:?}");
        a.lock_source(&old()).unwrap();
        let _alive = locked();
        here.helper.begin(Purpose::Move).unwrap();
        here.helper.write();

        let process = Process::connect(&here.path());
        let shown: Vec<&dyn AsFd> = sockets.iter().map(|s| s as &dyn AsFd).collect();
        let (ids, token) = process.show(&shown, false);
        let waiting = spawn(move || {
            // Never let go: the helper vanishes.
            let _ = process.send_bytes(Request::Held.encode().bytes(), &[]);
        });
        let held = here.helper.wait_held(LONG).unwrap();
        assert_eq!((held.processes, held.lost), (1, vec![]));
        let saved = here.helper.saved();
        here.helper.vanish();
        drop(sockets);
        drop(here);
        waiting.join().unwrap();

        Leaving {
            from,
            saved,
            ids,
            token,
        }
    }

    fn saved(&self) -> Saved {
        Saved::decode(&self.saved).unwrap()
    }

    /// Makes them again for a process, which is held.
    fn arrive(&self, there: &Place, saved: Saved) -> (Vec<OwnedFd>, JoinHandle<()>) {
        there.helper.restore(saved).unwrap();
        let process = Process::connect(&there.path());
        let got = process.get(self.token, &self.ids);
        let sockets = got.into_iter().map(Option::unwrap).collect();
        let process = spawn(move || process.hold());
        assert_eq!(there.helper.wait_restored(LONG).unwrap(), 1);
        (sockets, process)
    }
}

fn pair(nets: &Nets, address: &'static str, port: u16, wildcard: &'static str) -> [TcpStream; 2] {
    let listener = nets
        .a
        .run(move || TcpListener::bind((wildcard, port)).unwrap());
    let client = nets
        .client
        .run(move || TcpStream::connect((address, port)).unwrap());
    let (server, _) = listener.accept().unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    [client, server]
}

fn stream(fd: OwnedFd) -> TcpStream {
    let stream = TcpStream::from(fd);
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

fn numbers(count: u32) -> Vec<u8> {
    (0..count)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect()
}

fn local(socket: impl AsFd) -> SocketAddr {
    let fd = socket.as_fd().try_clone_to_owned().unwrap();
    TcpStream::from(fd).local_addr().unwrap()
}
