//! Handing ends to those who ask for them: CRIU's plugin, in the process that is being made.
//!
//! Such a process has only the container's files, so the socket has an abstract name, in the pod's
//! network namespace. While it exists nothing of the pod runs; the name cannot be guessed, and only
//! root is answered.

use super::make::Made;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr,
    accept4, bind, getsockopt, listen, recv, sendmsg, setsockopt, shutdown, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Answers until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    name: String,
    listener: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// A socket to listen at, in the network namespace of the calling thread, and its name.
pub(super) fn listener() -> io::Result<(OwnedFd, String)> {
    let mut random = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let name = format!("mycedrive-{:032x}", u128::from_ne_bytes(random));
    let flags = SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    bind(
        listener.as_raw_fd(),
        &UnixAddr::new_abstract(name.as_bytes())?,
    )?;
    listen(&listener, Backlog::MAXCONN)?;
    Ok((listener, name))
}

impl Server {
    pub(super) fn start(
        (listener, name): (OwnedFd, String),
        made: Arc<Mutex<Made>>,
    ) -> io::Result<Self> {
        let listener = Arc::new(listener);
        let own = listener.clone();
        let thread = thread::Builder::new()
            .name("unix-ends".into())
            .stack_size(128 << 10)
            .spawn(move || serve(&own, &made))?;
        Ok(Self {
            name,
            listener,
            thread: Some(thread),
        })
    }

    /// The abstract name, without its leading zero.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Wakes the thread, whose accept fails from now on.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &OwnedFd, made: &Mutex<Made>) {
    loop {
        match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Ok(fd) => {
                // SAFETY: just opened, nobody else's.
                let connection = unsafe { OwnedFd::from_raw_fd(fd) };
                if let Err(error) = answer(&connection, made) {
                    tracing::warn!(%error, "a request for a unix socket was not answered");
                }
            }
            Err(nix::Error::EINTR | nix::Error::ECONNABORTED) => {}
            // Shut down; or something for which every restore fails.
            Err(_) => return,
        }
    }
}

/// One question, one answer: the inode, and a descriptor.
fn answer(connection: &OwnedFd, made: &Mutex<Made>) -> io::Result<()> {
    let peer = getsockopt(connection, sockopt::PeerCredentials)?;
    if peer.uid() != 0 {
        return Err(io::Error::other(format!(
            "process {} is not root's; turned away",
            peer.pid()
        )));
    }
    // It asks at once; nobody else must wait for one that does not.
    setsockopt(connection, sockopt::ReceiveTimeout, &TimeVal::new(5, 0))?;
    let mut question = [0; 4];
    let flags = MsgFlags::MSG_TRUNC;
    if recv(connection.as_raw_fd(), &mut question, flags)? != question.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let inode = u32::from_le_bytes(question);
    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, end) = made
        .get_mut(&inode)
        .filter(|(_, end)| !end.claimed)
        .ok_or_else(|| io::Error::other(format!("there is no end {inode}, or not any more")))?;
    let rights = [end.fd.as_raw_fd()];
    let parts = [IoSlice::new(&[1])];
    let control = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(
        connection.as_raw_fd(),
        &parts,
        &control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    end.claimed = true;
    Ok(())
}
