//! A TCP connection: read, and made again.

use super::address;
use super::saved::Ended;
use super::segment::{self, Says, Segment};
use super::sockopt::{
    NO_QUEUE, RECEIVE_QUEUE, REPAIR_OFF_SILENTLY, REPAIR_ON, SEND_QUEUE, TCP_REPAIR_WINDOW,
    poll_now, set_tcp, tcp,
};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How far the connection has been closed. The numbers are the kernel's (net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    Established = 1,
    /// Our FIN was sent and not acknowledged.
    FinWait1 = 4,
    /// Our FIN was acknowledged.
    FinWait2 = 5,
    /// The peer's FIN has arrived.
    CloseWait = 8,
    /// The peer's FIN has arrived, then ours was sent.
    LastAck = 9,
    /// Both FINs were sent, ours was not acknowledged.
    Closing = 11,
}

impl Phase {
    pub(super) fn from_number(number: u8) -> Option<Phase> {
        use Phase::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck};
        [Established, FinWait1, FinWait2, CloseWait, LastAck, Closing]
            .into_iter()
            .find(|phase| *phase as u8 == number)
    }

    /// Sequence numbers that our FIN has taken.
    fn sent_fin(self) -> u32 {
        match self {
            Phase::Established | Phase::CloseWait => 0,
            Phase::FinWait1 | Phase::FinWait2 | Phase::LastAck | Phase::Closing => 1,
        }
    }

    /// Sequence numbers that the peer's FIN has taken.
    fn received_fin(self) -> u32 {
        match self {
            Phase::Established | Phase::FinWait1 | Phase::FinWait2 => 0,
            Phase::CloseWait | Phase::LastAck | Phase::Closing => 1,
        }
    }
}

/// One direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    /// Sequence number after the last byte and the FIN, if there was one.
    pub(super) end: u32,
    /// Received and not read by the program, or written and not acknowledged by the peer.
    pub(super) bytes: Vec<u8>,
}

/// RFC 7323, section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scales {
    pub(super) send: u8,
    pub(super) receive: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) phase: Phase,
    /// The program has shut down reading.
    pub(super) reading_shut: bool,
    pub(super) receive: Queue,
    pub(super) send: Queue,
    /// How many of the last bytes of `send` were never sent.
    pub(super) unsent: u32,
    /// `struct tcp_repair_window`: snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup.
    pub(super) window: [u32; 5],
    pub(super) mss: u32,
    pub(super) scales: Option<Scales>,
    pub(super) sack: bool,
    /// Our clock for the timestamps option.
    pub(super) timestamp: Option<u32>,
}

/// net/tcp_states.h: no connection.
const CLOSED: u8 = 7;

/// `tcpi_options` (linux/tcp.h).
const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const WINDOW_SCALE: u8 = 4;

/// Kinds of TCP options (IANA), as `TCP_REPAIR_OPTIONS` wants them.
const OPTION_MSS: u32 = 2;
const OPTION_WINDOW: u32 = 3;
const OPTION_SACK: u32 = 4;
const OPTION_TIMESTAMP: u32 = 8;

/// Bytes for one send in repair mode.
const PIECE: usize = 16 << 10;

/// How long a segment over loopback may take.
const PATIENCE: Duration = Duration::from_secs(5);

nix::ioctl_read_bad!(bytes_unread, libc::FIONREAD, libc::c_int);
nix::ioctl_read_bad!(bytes_unacknowledged, libc::TIOCOUTQ, libc::c_int);
// linux/sockios.h: SIOCOUTQNSD.
nix::ioctl_read_bad!(bytes_unsent, 0x894b, libc::c_int);

/// The first bytes of `struct tcp_info` (linux/tcp.h).
pub(super) struct Info([u8; 32]);

impl Info {
    pub(super) fn of(socket: impl AsFd) -> io::Result<Info> {
        tcp(socket, libc::TCP_INFO).map(Info)
    }

    /// net/tcp_states.h.
    pub(super) fn state(&self) -> u8 {
        self.0[0]
    }

    fn options(&self) -> u8 {
        self.0[5]
    }

    fn scales(&self) -> Scales {
        Scales {
            send: self.0[6] & 15,
            receive: self.0[6] >> 4,
        }
    }

    /// Of a listener: how many connections wait to be accepted, and how many may.
    pub(super) fn backlog(&self) -> (u32, u32) {
        let [.., waiting, most] = self.0.as_chunks::<4>().0 else {
            return (0, 0);
        };
        (u32::from_ne_bytes(*waiting), u32::from_ne_bytes(*most))
    }
}

/// Read a connection. Repair mode is on afterwards, whether it succeeded or not.
pub(super) fn save(socket: BorrowedFd, info: &Info, phase: Phase) -> io::Result<Connection> {
    set_tcp(socket, libc::TCP_REPAIR, &REPAIR_ON)?;
    let missing = || io::Error::from(io::ErrorKind::NotConnected);
    let unread = count(socket, |fd, n| {
        // SAFETY: the pointer is to a live number.
        unsafe { bytes_unread(fd, n) }
    })?;
    let unacknowledged = count(socket, |fd, n| {
        // SAFETY: the pointer is to a live number.
        unsafe { bytes_unacknowledged(fd, n) }
    })?;
    let unsent = count(socket, |fd, n| {
        // SAFETY: the pointer is to a live number.
        unsafe { bytes_unsent(fd, n) }
    })?;
    // The counts contain our FIN while it is on the way.
    let fin = phase.sent_fin() as usize;
    let receive = queue(socket, RECEIVE_QUEUE, unread)?;
    let send = queue(socket, SEND_QUEUE, unacknowledged.saturating_sub(fin))?;
    let connection = Connection {
        local: address::local(socket)?.ok_or_else(missing)?,
        peer: address::peer(socket)?.ok_or_else(missing)?,
        phase,
        reading_shut: phase.received_fin() == 0 && hears_end(socket)?,
        receive,
        unsent: unsent.saturating_sub(fin).min(send.bytes.len()) as u32,
        send,
        window: tcp(socket, TCP_REPAIR_WINDOW)?,
        mss: tcp::<u32>(socket, libc::TCP_MAXSEG)?,
        scales: (info.options() & WINDOW_SCALE != 0).then(|| info.scales()),
        sack: info.options() & SACK != 0,
        timestamp: match info.options() & TIMESTAMPS {
            0 => None,
            _ => Some(tcp(socket, libc::TCP_TIMESTAMP)?),
        },
    };
    set_tcp(socket, libc::TCP_REPAIR_QUEUE, &NO_QUEUE)?;
    Ok(connection)
}

fn count(
    socket: BorrowedFd,
    ask: impl Fn(i32, &mut libc::c_int) -> nix::Result<libc::c_int>,
) -> io::Result<usize> {
    let mut number = 0;
    ask(socket.as_raw_fd(), &mut number)?;
    Ok(usize::try_from(number).unwrap_or_default())
}

/// Look at a queue without taking anything out of it.
fn queue(socket: BorrowedFd, which: i32, length: usize) -> io::Result<Queue> {
    set_tcp(socket, libc::TCP_REPAIR_QUEUE, &which)?;
    let mut bytes = vec![0; length];
    if length > 0 {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let got = recv(socket.as_raw_fd(), &mut bytes, flags)?;
        if got != length {
            let text = format!("{got} of {length} bytes in queue {which}");
            return Err(io::Error::other(text));
        }
    }
    Ok(Queue {
        end: tcp(socket, libc::TCP_QUEUE_SEQ)?,
        bytes,
    })
}

fn hears_end(socket: BorrowedFd) -> io::Result<bool> {
    Ok(poll_now(socket, libc::POLLRDHUP)? & libc::POLLRDHUP != 0)
}

/// Make the connection on a fresh socket. Repair mode is on afterwards.
pub(super) fn restore(socket: BorrowedFd, it: &Connection) -> io::Result<()> {
    set_tcp(socket, libc::TCP_REPAIR, &REPAIR_ON)?;
    let start = |queue: &Queue, fin: u32| {
        let length = queue.bytes.len() as u32;
        queue.end.wrapping_sub(fin).wrapping_sub(length)
    };
    let sequences = [
        (RECEIVE_QUEUE, start(&it.receive, it.phase.received_fin())),
        (SEND_QUEUE, start(&it.send, it.phase.sent_fin())),
    ];
    for (queue, sequence) in sequences {
        set_tcp(socket, libc::TCP_REPAIR_QUEUE, &queue)?;
        set_tcp(socket, libc::TCP_QUEUE_SEQ, &sequence)?;
    }
    address::bind_to(socket, it.local)?;
    // In repair mode nothing is sent: the connection is simply there.
    address::connect_to(socket, it.peer)?;
    for option in negotiated(it) {
        set_tcp(socket, libc::TCP_REPAIR_OPTIONS, &option)?;
    }
    if let Some(timestamp) = it.timestamp {
        set_tcp(socket, libc::TCP_TIMESTAMP, &timestamp)?;
    }
    fill(socket, RECEIVE_QUEUE, &it.receive.bytes)?;
    let sent = it.send.bytes.len() - (it.unsent as usize).min(it.send.bytes.len());
    let (sent, unsent) = it.send.bytes.split_at(sent);
    // Repair mode takes bytes in this queue for bytes that have been sent.
    fill(socket, SEND_QUEUE, sent)?;
    set_tcp(socket, TCP_REPAIR_WINDOW, &before_fin(it))?;
    if !unsent.is_empty() {
        // What was never sent must not count as sent. The lock drops what goes out now.
        set_tcp(socket, libc::TCP_REPAIR, &REPAIR_OFF_SILENTLY)?;
        write_all(socket, unsent)?;
    }
    close_halves(socket, it)?;
    set_tcp(socket, libc::TCP_REPAIR, &REPAIR_ON)?;
    set_tcp(socket, TCP_REPAIR_WINDOW, &it.window)?;
    set_tcp(socket, libc::TCP_REPAIR_QUEUE, &NO_QUEUE)?;
    if it.reading_shut {
        shutdown(socket.as_raw_fd(), Shutdown::Read)?;
    }
    Ok(())
}

fn negotiated(it: &Connection) -> Vec<[u32; 2]> {
    let mut options = vec![[OPTION_MSS, it.mss]];
    if let Some(Scales { send, receive }) = it.scales {
        let both = u32::from(send) | u32::from(receive) << 16;
        options.push([OPTION_WINDOW, both]);
    }
    if it.sack {
        options.push([OPTION_SACK, 0]);
    }
    if it.timestamp.is_some() {
        options.push([OPTION_TIMESTAMP, 0]);
    }
    options
}

/// The window as it is valid before the peer's FIN has arrived: the kernel checks `rcv_wup`.
fn before_fin(it: &Connection) -> [u32; 5] {
    let [snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup] = it.window;
    let fin = it.phase.received_fin();
    let after = rcv_wup == it.receive.end;
    let rcv_wup = if after {
        rcv_wup.wrapping_sub(fin)
    } else {
        rcv_wup
    };
    let after = snd_wl1 == it.receive.end;
    let snd_wl1 = if after {
        snd_wl1.wrapping_sub(fin)
    } else {
        snd_wl1
    };
    [snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup]
}

fn fill(socket: BorrowedFd, queue: i32, bytes: &[u8]) -> io::Result<()> {
    set_tcp(socket, libc::TCP_REPAIR_QUEUE, &queue)?;
    write_all(socket, bytes)
}

fn write_all(socket: BorrowedFd, bytes: &[u8]) -> io::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let mut rest = bytes;
    while !rest.is_empty() {
        let piece = rest.get(..PIECE).unwrap_or(rest);
        let taken = send(socket.as_raw_fd(), piece, flags)?;
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(())
}

/// Let the FINs pass that have passed before, in their order.
fn close_halves(socket: BorrowedFd, it: &Connection) -> io::Result<()> {
    let ours = || shutdown(socket.as_raw_fd(), Shutdown::Write).map_err(io::Error::from);
    let unacknowledged = it.send.bytes.len() as u32 + it.phase.sent_fin();
    let (first, second) = (it.send.end.wrapping_sub(unacknowledged), it.send.end);
    let theirs = || inject(it, Says::Finished, first);
    match it.phase {
        Phase::Established => return Ok(()),
        Phase::FinWait1 => ours()?,
        Phase::FinWait2 => {
            ours()?;
            inject(it, Says::Acknowledged, second)?;
        }
        Phase::CloseWait => theirs()?,
        Phase::LastAck => {
            theirs()?;
            ours()?;
        }
        Phase::Closing => {
            ours()?;
            theirs()?;
        }
    }
    wait_for(socket, it.phase as u8)
}

/// Segments over loopback arrive at once, nearly.
fn wait_for(socket: BorrowedFd, wanted: u8) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = Info::of(socket)?.state();
        if state == wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            let text = format!("state {state} after the peer's segment, not {wanted}");
            return Err(io::Error::other(text));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A segment as from the peer, without data.
fn inject(it: &Connection, says: Says, acknowledges: u32) -> io::Result<()> {
    let shift = it.scales.map_or(0, |s| u32::from(s.send));
    segment::inject(&Segment {
        from: it.peer,
        to: it.local,
        sequence: it.receive.end.wrapping_sub(it.phase.received_fin()),
        acknowledges,
        says,
        window: u16::try_from(it.window[1] >> shift).unwrap_or(u16::MAX),
    })
}

/// What is left of a connection that is over; `None` if there was none.
pub(super) fn ended(socket: BorrowedFd) -> io::Result<Option<Ended>> {
    let heard = poll_now(socket, libc::POLLRDHUP)?;
    if heard & libc::POLLRDHUP == 0 {
        return Ok(None);
    }
    let unread = count(socket, |fd, n| {
        // SAFETY: the pointer is to a live number.
        unsafe { bytes_unread(fd, n) }
    })?;
    let mut bytes = vec![0; unread];
    let by_reset = heard & libc::POLLERR != 0;
    if unread > 0 {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let got = recv(socket.as_raw_fd(), &mut bytes, flags)?;
        bytes.truncate(got);
    }
    Ok(Some(Ended { bytes, by_reset }))
}

/// Sequence numbers of a connection that exists only to end.
const FIRST: u32 = 1000;

/// Let a connection with nobody end as the old one has ended. Repair mode is off afterwards.
pub(super) fn end_again(socket: BorrowedFd, domain: i32, it: &Ended) -> io::Result<()> {
    let loopback: IpAddr = match domain {
        libc::AF_INET => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    };
    set_tcp(socket, libc::TCP_REPAIR, &REPAIR_ON)?;
    for queue in [RECEIVE_QUEUE, SEND_QUEUE] {
        set_tcp(socket, libc::TCP_REPAIR_QUEUE, &queue)?;
        set_tcp(socket, libc::TCP_QUEUE_SEQ, &FIRST)?;
    }
    // The kernel chooses a port; nobody is at the peer's, and nothing is sent to it.
    address::bind_to(socket, (loopback, 0).into())?;
    let missing = || io::Error::from(io::ErrorKind::AddrNotAvailable);
    let local = address::local(socket)?.ok_or_else(missing)?;
    let peer = (loopback, 1).into();
    address::connect_to(socket, peer)?;
    fill(socket, RECEIVE_QUEUE, &it.bytes)?;
    set_tcp(socket, libc::TCP_REPAIR_QUEUE, &SEND_QUEUE)?;
    let say = |says, sequence: u32, acknowledges: u32| {
        segment::inject(&Segment {
            from: peer,
            to: local,
            sequence,
            acknowledges,
            says,
            window: 1000,
        })
    };
    let end = FIRST.wrapping_add(it.bytes.len() as u32);
    if it.by_reset {
        say(Says::Reset, end, FIRST)?;
    } else {
        say(Says::Finished, end, FIRST)?;
        wait_for(socket, Phase::CloseWait as u8)?;
        shutdown(socket.as_raw_fd(), Shutdown::Write)?;
        say(Says::Acknowledged, end.wrapping_add(1), FIRST + 1)?;
    }
    wait_for(socket, CLOSED)?;
    set_tcp(socket, libc::TCP_REPAIR, &REPAIR_OFF_SILENTLY)
}

/// The first sequence number of an attempt to connect. Repair mode is on afterwards.
pub(super) fn attempt(socket: BorrowedFd) -> io::Result<u32> {
    set_tcp(socket, libc::TCP_REPAIR, &REPAIR_ON)?;
    set_tcp(socket, libc::TCP_REPAIR_QUEUE, &SEND_QUEUE)?;
    let next: u32 = tcp(socket, libc::TCP_QUEUE_SEQ)?;
    set_tcp(socket, libc::TCP_REPAIR_QUEUE, &NO_QUEUE)?;
    Ok(next.wrapping_sub(1))
}

/// Begin to connect as it was begun before: a SYN that has arrived already is recognised by its
/// sequence number.
pub(super) fn attempt_again(
    socket: BorrowedFd,
    local: SocketAddr,
    peer: SocketAddr,
    first: u32,
) -> io::Result<()> {
    set_tcp(socket, libc::TCP_REPAIR, &REPAIR_ON)?;
    set_tcp(socket, libc::TCP_REPAIR_QUEUE, &SEND_QUEUE)?;
    set_tcp(socket, libc::TCP_QUEUE_SEQ, &first)?;
    set_tcp(socket, libc::TCP_REPAIR_QUEUE, &NO_QUEUE)?;
    address::bind_to(socket, local)?;
    // Outside repair mode connecting sends a SYN. The lock drops this one; it is repeated.
    set_tcp(socket, libc::TCP_REPAIR, &REPAIR_OFF_SILENTLY)?;
    match address::connect_to(socket, peer) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        other => other,
    }
}
