//! Packets with descriptors (unix(7)).

use mycedrive_dmtcp_wire::{BATCH, MAX_MESSAGE, Reply, Request};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The next request, and the descriptors that came with it. `None` when the peer is gone.
pub(super) fn receive(socket: BorrowedFd) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
    let mut bytes = [0; MAX_MESSAGE];
    let mut control = cmsg_space!([RawFd; BATCH]);
    let (length, flags, fds) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let fd = socket.as_raw_fd();
        let got = recvmsg::<()>(
            fd,
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let mut fds = Vec::new();
        // Without room for all of them the kernel gives some, and says so in the flags.
        for message in got.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(all) = message {
                // SAFETY: the kernel has just opened these for this process.
                fds.extend(
                    all.into_iter()
                        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                );
            }
        }
        (got.bytes, got.flags, fds)
    };
    if length == 0 {
        return Ok(None);
    }
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(ErrorKind::InvalidData.into());
    }
    let packet = bytes.get(..length).unwrap_or_default();
    let request = Request::decode(packet).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
    Ok(Some((request, fds)))
}

pub(super) fn send(socket: BorrowedFd, reply: &Reply, fds: &[RawFd]) -> io::Result<()> {
    let packet = reply.encode();
    let parts = [IoSlice::new(packet.bytes())];
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &parts, control, flags, None)?;
    Ok(())
}
