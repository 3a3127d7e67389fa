//! What the plugin does in a process, done by the test: it shows sockets to the helper, is held,
//! and gets sockets back.

use mycedrive_dmtcp_wire::{BATCH, Ids, MAX_MESSAGE, Reply, Request, SocketId, Token};
use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    connect, recvmsg, sendmsg, socket,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

pub struct Process(OwnedFd);

impl Process {
    pub fn connect(path: &Path) -> Process {
        let (family, kind) = (AddressFamily::Unix, SockType::SeqPacket);
        let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        Process(fd)
    }

    /// Send what need not be a request; `None` when the helper has hung up.
    pub fn send_bytes(&self, bytes: &[u8], fds: &[RawFd]) -> Option<Reply> {
        let rights = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        let (parts, flags) = ([IoSlice::new(bytes)], MsgFlags::MSG_NOSIGNAL);
        sendmsg::<()>(self.0.as_raw_fd(), &parts, control, flags, None).ok()?;
        self.receive().map(|(reply, _)| reply)
    }

    fn receive(&self) -> Option<(Reply, Vec<OwnedFd>)> {
        let mut bytes = [0; MAX_MESSAGE];
        let mut control = cmsg_space!([RawFd; BATCH]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let got = recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags).ok()?;
        let mut fds = Vec::new();
        for message in got.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(all) = message {
                // SAFETY: the kernel has just opened them for this process.
                fds.extend(
                    all.into_iter()
                        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                );
            }
        }
        let length = got.bytes;
        (length > 0).then(|| (Reply::decode(&bytes[..length]).unwrap(), fds))
    }

    pub fn ask(&self, request: &Request) -> Reply {
        self.send_bytes(request.encode().bytes(), &[])
            .expect("the helper has hung up")
    }

    /// Show sockets; their numbers and the token.
    pub fn show(&self, sockets: &[&dyn AsFd], held: bool) -> (Vec<SocketId>, Token) {
        assert_eq!(self.ask(&Request::Checkpoint { held }), Reply::Save);
        let mut all = Vec::new();
        for batch in sockets.chunks(BATCH) {
            let count = batch.len() as u16;
            let fds: Vec<_> = batch.iter().map(|s| s.as_fd().as_raw_fd()).collect();
            let request = Request::Sockets { count }.encode();
            match self.send_bytes(request.bytes(), &fds) {
                Some(Reply::Known(ids)) => all.extend_from_slice(ids.as_slice()),
                other => panic!("{other:?}"),
            }
        }
        match self.ask(&Request::Saved) {
            Reply::Token(token) => (all, token),
            other => panic!("{other:?}"),
        }
    }

    /// Get sockets back, in the order of their numbers; `None` for those that are not there.
    pub fn get(&self, token: Token, wanted: &[SocketId]) -> Vec<Option<OwnedFd>> {
        assert_eq!(self.ask(&Request::Restart { token }), Reply::Welcome);
        let mut ids = Ids::new();
        for id in wanted {
            ids.push(*id).unwrap();
        }
        let packet = Request::Want(ids).encode();
        let parts = [IoSlice::new(packet.bytes())];
        sendmsg::<()>(self.0.as_raw_fd(), &parts, &[], MsgFlags::empty(), None).unwrap();
        let Some((Reply::Have(have), fds)) = self.receive() else {
            panic!("no sockets");
        };
        assert_eq!(have.as_slice().len(), fds.len());
        let mut got: Vec<Option<OwnedFd>> = wanted.iter().map(|_| None).collect();
        for (id, fd) in have.as_slice().iter().zip(fds) {
            let at = wanted.iter().position(|wanted| wanted == id).unwrap();
            got[at] = Some(fd);
        }
        got
    }

    /// Wait to be let go.
    pub fn hold(&self) {
        assert_eq!(self.ask(&Request::Held), Reply::Go);
    }
}
