//! One process that talks to the helper.

use super::book::{Book, SessionId};
use super::{Purpose, Shared, message};
use crate::kernel::diag;
use crate::repair::options;
use crate::repair::restore::Kept;
use crate::repair::save::{How, save};
use crate::repair::sockopt::{self, REPAIR_ON};
use mycedrive_dmtcp_wire::{Ids, Reply, Request, SocketId, Token};
use nix::sys::socket::{setsockopt, sockopt as nix_sockopt};
use nix::sys::time::TimeVal;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// A process that is not held has something to say at once, or has been stopped by somebody.
const PATIENCE: i64 = 120;

/// How often a held process is looked at.
const LOOK: Duration = Duration::from_millis(100);

pub(super) struct Session {
    id: SessionId,
    pid: i32,
    socket: Arc<OwnedFd>,
    shared: Arc<Shared>,
    /// What the process is doing.
    doing: Doing,
    /// How often the held had been let go when it began with that.
    began: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Nothing,
    /// Showing its sockets; `again` if a helper before this one has seen them.
    Showing {
        again: bool,
    },
    Saved,
    Restarting,
}

/// The conversation is over: the process has what it wants, is gone, or does not behave.
struct Over;

impl Session {
    pub(super) fn new(id: SessionId, pid: i32, socket: Arc<OwnedFd>, shared: Arc<Shared>) -> Self {
        Session {
            id,
            pid,
            socket,
            shared,
            doing: Doing::Nothing,
            began: 0,
        }
    }

    pub(super) fn run(mut self) {
        if let Err(error) = setsockopt(
            &self.socket,
            nix_sockopt::ReceiveTimeout,
            &TimeVal::new(PATIENCE, 0),
        ) {
            tracing::debug!(%error, "no time-out");
        }
        loop {
            let (request, fds) = match message::receive(self.socket.as_fd()) {
                Ok(Some(received)) => received,
                Ok(None) => break,
                // An image takes its time; its process comes back or is gone.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && self.doing == Doing::Saved => {
                    continue;
                }
                Err(error) => {
                    tracing::debug!(pid = self.pid, %error, "a process's connection ends");
                    break;
                }
            };
            if self.answer(&request, fds).is_err() {
                break;
            }
        }
        self.shared.book().leaves(self.id);
        self.shared.changed.notify_all();
    }

    fn answer(&mut self, request: &Request, fds: Vec<OwnedFd>) -> Result<(), Over> {
        match (request, self.doing) {
            (&Request::Checkpoint { held }, Doing::Nothing) => {
                let mut book = self.shared.book();
                if book.purpose() == Purpose::Round && !held {
                    drop(book);
                    return self.reply(&Reply::Nothing);
                }
                book.lock();
                book.joins(self.id);
                self.began = book.released();
                drop(book);
                self.doing = Doing::Showing { again: held };
                self.reply(&Reply::Save)
            }
            (&Request::Sockets { count }, Doing::Showing { again })
                if fds.len() == usize::from(count) =>
            {
                let mut ids = Ids::new();
                for fd in fds {
                    let id = self.look_at(fd, again).unwrap_or_else(|error| {
                        tracing::warn!(pid = self.pid, %error, "a socket cannot be read");
                        0
                    });
                    ids.push(id).map_err(|_| Over)?;
                }
                self.reply(&Reply::Known(ids))
            }
            (Request::Saved, Doing::Showing { again }) => {
                self.doing = Doing::Saved;
                self.suspend(again)
            }
            (&Request::Restart { token }, Doing::Nothing) => {
                let mut book = self.shared.book();
                if !book.restarts(self.id, token) {
                    drop(book);
                    return self.refuse("it is not expected");
                }
                self.began = book.released();
                drop(book);
                self.doing = Doing::Restarting;
                self.reply(&Reply::Welcome)
            }
            (Request::Want(wanted), Doing::Restarting) => self.hand_over(wanted),
            (Request::Held, Doing::Saved | Doing::Restarting) => self.hold(),
            _ => self.refuse("its request does not fit"),
        }
    }

    fn reply(&self, reply: &Reply) -> Result<(), Over> {
        message::send(self.socket.as_fd(), reply, &[]).map_err(|_| Over)
    }

    fn refuse(&self, why: &str) -> Result<(), Over> {
        tracing::warn!(
            pid = self.pid,
            "refused a process's request for sockets: {why}"
        );
        let _ = self.reply(&Reply::Refused);
        Err(Over)
    }

    /// The socket's number; 0 if it is not one that can be kept.
    fn look_at(&self, fd: OwnedFd, again: bool) -> io::Result<SocketId> {
        if !self.is_of_the_pod(&fd)? {
            return Err(io::Error::other("a socket of another network"));
        }
        let cookie = options::cookie(&fd)?;
        // One at a time: the second process that shows a socket finds it read.
        let mut book = self.shared.book();
        if let Some(id) = book.known(cookie) {
            return Ok(id);
        }
        if again {
            let in_repair =
                sockopt::tcp::<i32>(&fd, libc::TCP_REPAIR).is_ok_and(|v| v == REPAIR_ON);
            let kept = Kept {
                reuse: options::reuse(&options::read(&fd)),
                fd,
                in_repair,
            };
            book.adopt(cookie, kept);
            return Ok(0);
        }
        let net = &self.shared.options.net;
        let how = How {
            connections: book.purpose() == Purpose::Move,
            peer: &|cookie| net.inside(|| diag::peer_of_attempt(cookie)).ok().flatten(),
        };
        let found = save(fd.as_fd(), &how)?;
        let kept = Kept {
            reuse: options::reuse(&found.socket.options),
            in_repair: found.in_repair,
            fd,
        };
        Ok(book.enter(cookie, found, kept))
    }

    fn is_of_the_pod(&self, fd: &OwnedFd) -> io::Result<bool> {
        /// linux/sockios.h: a descriptor of the socket's network namespace.
        const SIOCGSKNS: libc::Ioctl = 0x894c;
        let domain = sockopt::get::<i32>(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)?;
        if domain != libc::AF_INET && domain != libc::AF_INET6 {
            return Err(io::Error::other("not an inet socket"));
        }
        // SAFETY: the request takes no argument.
        let namespace = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCGSKNS) };
        if namespace < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, nobody else's.
        let namespace = unsafe { OwnedFd::from_raw_fd(namespace) };
        self.shared.options.net.is(&namespace)
    }

    fn hand_over(&self, wanted: &Ids) -> Result<(), Over> {
        let book = self.shared.book();
        let (mut have, mut fds) = (Ids::new(), Vec::new());
        for id in wanted.as_slice() {
            if let Some(kept) = book.kept(*id) {
                have.push(*id).map_err(|_| Over)?;
                fds.push(kept.fd.as_raw_fd());
            }
        }
        // The book is held until the descriptors are in the message: nobody closes them before.
        message::send(self.socket.as_fd(), &Reply::Have(have), &fds).map_err(|_| Over)
    }

    /// All sockets are read. Until the images may be written, or the process is gone. One that
    /// was held before (`again`) has no image to write.
    fn suspend(&self, again: bool) -> Result<(), Over> {
        let token = random().map_err(|_| Over)?;
        let mut book = self.shared.book();
        book.suspends(self.id, (!again).then_some(token));
        self.shared.changed.notify_all();
        self.wait(book, |book| again || book.writes())?;
        self.reply(&Reply::Token(token))
    }

    /// Until the held are let go, or the process is gone.
    fn hold(&self) -> Result<(), Over> {
        let mut book = self.shared.book();
        if book.released() == self.began && !book.holds(self.id) {
            drop(book);
            return self.refuse("it is not known");
        }
        self.shared.changed.notify_all();
        self.wait(book, |_| false)?;
        let _ = self.reply(&Reply::Go);
        Err(Over)
    }

    /// Wait until `ready`, or until the held are let go.
    fn wait(&self, mut book: MutexGuard<Book>, ready: impl Fn(&Book) -> bool) -> Result<(), Over> {
        while book.released() == self.began && !ready(&book) {
            let waited = self.shared.changed.wait_timeout(book, LOOK);
            book = waited.unwrap_or_else(PoisonError::into_inner).0;
            if self.is_gone() {
                return Err(Over);
            }
        }
        Ok(())
    }

    fn is_gone(&self) -> bool {
        // A held process has nothing to say: whatever comes is its end.
        let events = libc::POLLIN | libc::POLLRDHUP;
        sockopt::poll_now(&self.socket, events).is_ok_and(|heard| heard != 0)
    }
}

fn random() -> io::Result<Token> {
    let mut token = Token::default();
    // SAFETY: pointer and length are those of the array.
    let got = unsafe { libc::getrandom(token.as_mut_ptr().cast(), token.len(), 0) };
    if got == token.len() as isize {
        Ok(token)
    } else {
        Err(io::Error::last_os_error())
    }
}
