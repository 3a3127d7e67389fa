//! A client that notices everything: each answer is checked, and each packet that ends a
//! connection is counted.

use crate::pod::LONG;
use crate::support::Net;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, recv, socket};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// What to send for the `n`th time, and the line that has to come back.
pub type Exchange = fn(u64) -> (String, String);

pub fn echo(n: u64) -> (String, String) {
    let line = format!("{n} {:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (line.clone() + "\n", line)
}

pub fn redis(n: u64) -> (String, String) {
    ("INCR n\r\n".to_owned(), format!(":{n}\r"))
}

pub fn memcached(n: u64) -> (String, String) {
    if n == 1 {
        return ("set n 0 0 1\r\n1\r\n".to_owned(), "STORED\r".to_owned());
    }
    ("incr n 1\r\n".to_owned(), format!("{n}\r"))
}

/// A connection in use until it is told to stop.
pub struct Client {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: JoinHandle<Duration>,
}

impl Client {
    /// Connects, as soon as somebody listens.
    pub fn start(net: &Net, address: &str, exchange: Exchange) -> Client {
        let to = address.to_owned();
        let deadline = Instant::now() + LONG;
        let stream = loop {
            let to = to.clone();
            match net.run(move || TcpStream::connect(to)) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
            }
            sleep(Duration::from_millis(100));
        };
        Client::over(stream, exchange)
    }

    pub fn over(stream: TcpStream, exchange: Exchange) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (stopped, counted) = (stop.clone(), done.clone());
        let thread = spawn(move || {
            let (mut writer, mut reader) = (stream.try_clone().unwrap(), BufReader::new(stream));
            let mut longest = Duration::ZERO;
            let mut line = String::new();
            for n in 1.. {
                let (request, expected) = exchange(n);
                let began = Instant::now();
                writer.write_all(request.as_bytes()).unwrap();
                line.clear();
                reader
                    .read_line(&mut line)
                    .unwrap_or_else(|e| panic!("answer {n}: {e}"));
                assert_eq!(line.strip_suffix('\n'), Some(&*expected), "answer {n}");
                longest = longest.max(began.elapsed());
                counted.store(n as usize, Ordering::SeqCst);
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
            }
            longest
        });
        let client = Client { stop, done, thread };
        client.goes_on();
        client
    }

    /// Wait for answers that were asked for from now on.
    pub fn goes_on(&self) {
        let deadline = Instant::now() + LONG;
        let before = self.done.load(Ordering::SeqCst);
        while self.done.load(Ordering::SeqCst) < before + 3 {
            assert!(!self.thread.is_finished(), "the client has failed");
            assert!(Instant::now() < deadline, "no answer any more");
            sleep(Duration::from_millis(5));
        }
    }

    /// How many answers were right, and the longest time that one took. All others fail the test.
    pub fn finish(self) -> (usize, Duration) {
        self.stop.store(true, Ordering::SeqCst);
        let longest = self.thread.join().expect("the client has failed");
        (self.done.load(Ordering::SeqCst), longest)
    }
}

/// Counts segments with FIN or RST that arrive in a namespace from pods.
pub struct Ends(Arc<AtomicUsize>);

impl Ends {
    pub fn watch(net: &Net) -> Ends {
        let raw = net.run(|| {
            let (family, flags) = (AddressFamily::Inet, SockFlag::SOCK_CLOEXEC);
            socket(family, SockType::Raw, flags, SockProtocol::Tcp).unwrap()
        });
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        spawn(move || {
            let mut packet = [0; 2048];
            while let Ok(length) = recv(
                raw.as_raw_fd(),
                &mut packet,
                nix::sys::socket::MsgFlags::empty(),
            ) {
                let header = usize::from(packet[0] & 15) * 4;
                // FIN or RST, from a server's port.
                let port = u16::from_be_bytes([packet[header], packet[header + 1]]);
                if length > header + 13 && packet[header + 13] & 5 != 0 && port < 8000 {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                if Arc::strong_count(&counted) == 1 {
                    return;
                }
            }
        });
        Ends(count)
    }

    pub fn seen(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
