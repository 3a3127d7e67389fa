//! Requests to the helper, with descriptors.

use crate::sys::{self, Errno, Fd, address};
use core::ffi::c_int;
use core::mem::size_of;
use mycedrive_dmtcp_wire::{BATCH, MAX_MESSAGE, Reply, Request};

/// How long the helper may take for an answer (seconds): it reads at most [`BATCH`] sockets.
const PATIENCE: i64 = 30;

const HEADER: usize = size_of::<libc::cmsghdr>();
/// Room for a control message with [`BATCH`] descriptors, in units of 8 bytes.
const CONTROL: usize = (HEADER + BATCH * size_of::<c_int>()).div_ceil(8);

/// A connection to the helper.
pub(crate) struct Transport(Fd);

/// Descriptors that came with a reply. They are the receiver's to close.
pub(crate) struct Descriptors {
    pub(crate) fds: [c_int; BATCH],
    pub(crate) count: usize,
}

impl Descriptors {
    fn close(&self) {
        for fd in self.fds.iter().take(self.count) {
            sys::close(*fd);
        }
    }
}

impl Transport {
    /// `path` ends with a zero byte.
    pub(crate) fn connect(path: &[u8]) -> sys::Result<Transport> {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        let socket = sys::socket(libc::AF_UNIX, kind, 0)?;
        // SAFETY: all zeroes are a valid sockaddr_un.
        let mut to: libc::sockaddr_un = unsafe { core::mem::zeroed() };
        to.sun_family = libc::AF_UNIX as libc::sa_family_t;
        if path.len() > to.sun_path.len() {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        for (to, from) in to.sun_path.iter_mut().zip(path) {
            *to = *from as libc::c_char;
        }
        let time = libc::timeval {
            tv_sec: PATIENCE,
            tv_usec: 0,
        };
        for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
            let arguments = [
                socket.raw() as usize,
                libc::SOL_SOCKET as usize,
                option as usize,
                address(&raw const time),
                size_of::<libc::timeval>(),
                0,
            ];
            // SAFETY: the pointer and length are those of a live timeval.
            sys::check(unsafe { sys::call(libc::SYS_setsockopt, arguments) })?;
        }
        let length = size_of::<libc::sockaddr_un>();
        // SAFETY: the pointer and length are those of a live address.
        unsafe {
            sys::call3(
                libc::SYS_connect,
                socket.raw() as usize,
                address(&raw const to),
                length,
            )
        }?;
        Ok(Transport(socket))
    }

    /// Give the descriptor number `fd` free, if the connection has it: a socket of the program
    /// belongs there.
    pub(crate) fn make_room(&mut self, fd: c_int) -> sys::Result<()> {
        if self.0.raw() == fd {
            let moved = sys::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0)?;
            self.0 = Fd::from_raw(moved as usize);
        }
        Ok(())
    }

    /// One request and its reply; descriptors that come along are closed.
    pub(crate) fn ask(&self, request: &Request, fds: &[c_int]) -> sys::Result<Reply> {
        self.ask_for(request, fds).map(|(reply, descriptors)| {
            descriptors.close();
            reply
        })
    }

    /// One request and its reply, with the descriptors that come along.
    pub(crate) fn ask_for(
        &self,
        request: &Request,
        fds: &[c_int],
    ) -> sys::Result<(Reply, Descriptors)> {
        self.send(request, fds)?;
        self.receive()
    }

    /// Ask, and wait as long as it takes.
    pub(crate) fn ask_patiently(&self, request: &Request) -> sys::Result<Reply> {
        self.send(request, &[])?;
        loop {
            match self.receive() {
                Ok((reply, descriptors)) => {
                    descriptors.close();
                    return Ok(reply);
                }
                Err(Errno(libc::EAGAIN)) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn send(&self, request: &Request, fds: &[c_int]) -> sys::Result<()> {
        let packet = request.encode();
        let bytes = packet.bytes();
        let part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut control = [0u64; CONTROL];
        let used = match fds {
            [] => 0,
            _ if fds.len() > BATCH => return Err(Errno(libc::EMSGSIZE)),
            _ => write_control(&mut control, fds),
        };
        let message = header(&part, &mut control, used);
        let arguments = (
            self.0.raw() as usize,
            address(&raw const message),
            libc::MSG_NOSIGNAL as usize,
        );
        // SAFETY: the header points to live buffers with their lengths.
        let sent = unsafe { sys::call3(libc::SYS_sendmsg, arguments.0, arguments.1, arguments.2) }?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(Errno(libc::EMSGSIZE))
        }
    }

    fn receive(&self) -> sys::Result<(Reply, Descriptors)> {
        let mut bytes = [0u8; MAX_MESSAGE];
        let part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        let mut control = [0u64; CONTROL];
        let room = size_of_val(&control);
        let mut message = header(&part, &mut control, room);
        let (fd, pointer) = (self.0.raw() as usize, address(&raw mut message));
        let flags = libc::MSG_CMSG_CLOEXEC as usize;
        let length = loop {
            // SAFETY: the header points to live buffers with their lengths.
            match unsafe { sys::call3(libc::SYS_recvmsg, fd, pointer, flags) } {
                Err(Errno(libc::EINTR)) => {}
                other => break other?,
            }
        };
        let descriptors = read_control(&control, message.msg_controllen);
        let whole = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
        let packet = bytes.get(..length).filter(|b| whole && !b.is_empty());
        if let Some(reply) = packet.and_then(|packet| Reply::decode(packet).ok()) {
            return Ok((reply, descriptors));
        }
        descriptors.close();
        Err(Errno(libc::EPROTO))
    }
}

fn header(part: &libc::iovec, control: &mut [u64; CONTROL], used: usize) -> libc::msghdr {
    // SAFETY: all zeroes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = core::ptr::from_ref(part).cast_mut();
    message.msg_iovlen = 1;
    if used > 0 {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = used;
    }
    message
}

/// One control message (cmsg(3)): length, level and type, then the descriptors.
fn write_control(control: &mut [u64; CONTROL], fds: &[c_int]) -> usize {
    let length = HEADER + size_of_val(fds);
    let head = libc::cmsghdr {
        cmsg_len: length,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    // SAFETY: CONTROL has room for the header, a multiple of 8 bytes, and BATCH descriptors, and the
    // caller gives no more.
    unsafe {
        control.as_mut_ptr().cast::<libc::cmsghdr>().write(head);
        let to = control.as_mut_ptr().add(HEADER / 8).cast::<c_int>();
        core::ptr::copy_nonoverlapping(fds.as_ptr(), to, fds.len());
    }
    length.next_multiple_of(8)
}

fn read_control(control: &[u64; CONTROL], length: usize) -> Descriptors {
    let mut descriptors = Descriptors {
        fds: [-1; BATCH],
        count: 0,
    };
    if length < HEADER {
        return descriptors;
    }
    // SAFETY: the array begins with a header that the kernel has written.
    let head = unsafe { control.as_ptr().cast::<libc::cmsghdr>().read() };
    if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS {
        let bytes = head.cmsg_len.min(length).saturating_sub(HEADER);
        descriptors.count = (bytes / size_of::<c_int>()).min(BATCH);
        // SAFETY: `count` descriptors lie behind the header, within the array.
        unsafe {
            let from = control.as_ptr().add(HEADER / 8).cast::<c_int>();
            let to = descriptors.fds.as_mut_ptr();
            core::ptr::copy_nonoverlapping(from, to, descriptors.count);
        }
    }
    descriptors
}
