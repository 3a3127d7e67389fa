//! A relay between two TUNs, as the daemons make it.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

pub struct Pump {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    pub fn between(a: OwnedFd, b: OwnedFd) -> Pump {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (a, b) = (File::from(a), File::from(b));
            while !stopped.load(Ordering::Relaxed) {
                let mut ready = [&a, &b].map(|f| PollFd::new(f.as_fd(), PollFlags::POLLIN));
                poll(&mut ready, PollTimeout::from(50u8)).unwrap();
                for (from, to) in [(&a, &b), (&b, &a)] {
                    for packet in read_all(from) {
                        let _ = (&*to).write(&packet);
                    }
                }
            }
        });
        Pump {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// What waits in a TUN.
pub fn read_all(mut tun: &File) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut buffer = vec![0; 65536];
    while let Ok(length) = tun.read(&mut buffer) {
        packets.push(buffer[..length].to_vec());
    }
    packets
}
