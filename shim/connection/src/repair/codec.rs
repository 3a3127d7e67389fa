//! The bytes of [`Saved`]. Little-endian; lists and byte strings begin with their length (4 bytes).

use super::options::{LONGEST, Value, is_carried};
use super::saved::{Ended, Saved, Socket, State};
use super::tcp::{Connection, Phase, Queue, Scales};
use crate::Result;
use crate::bytes::{Reader, bytes, number};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

const MAGIC: &[u8; 8] = b"MYCESOCK";
const VERSION: u16 = 1;

pub(super) fn encode(saved: &Saved) -> Vec<u8> {
    let mut to = Vec::new();
    to.extend_from_slice(MAGIC);
    to.extend_from_slice(&VERSION.to_le_bytes());
    number(&mut to, saved.tokens.len() as u32);
    for token in &saved.tokens {
        to.extend_from_slice(token);
    }
    number(&mut to, saved.sockets.len() as u32);
    for one in &saved.sockets {
        socket(&mut to, one);
    }
    to
}

fn socket(to: &mut Vec<u8>, socket: &Socket) {
    for value in [socket.domain, socket.kind, socket.protocol] {
        number(to, value as u32);
    }
    to.push(u8::from(socket.nonblocking));
    number(to, socket.owner);
    number(to, socket.options.len() as u32);
    for value in &socket.options {
        number(to, value.level as u32);
        number(to, value.name as u32);
        bytes(to, &value.bytes);
    }
    match &socket.state {
        State::Fresh => to.push(FRESH),
        State::Bound(local) => {
            to.push(BOUND);
            address(to, *local);
        }
        State::Listening { local, backlog } => {
            to.push(LISTENING);
            address(to, *local);
            number(to, *backlog);
        }
        State::Connecting { local, peer, first } => {
            to.push(CONNECTING);
            address(to, *local);
            address(to, *peer);
            number(to, *first);
        }
        State::Connected(it) => {
            to.push(CONNECTED);
            connection(to, it);
        }
        State::Ended(ended) => {
            to.push(ENDED);
            to.push(u8::from(ended.by_reset));
            bytes(to, &ended.bytes);
        }
        State::Datagram { local, peer } => {
            to.push(DATAGRAM);
            for end in [local, peer] {
                to.push(u8::from(end.is_some()));
                if let Some(end) = end {
                    address(to, *end);
                }
            }
        }
    }
}

const FRESH: u8 = 0;
const BOUND: u8 = 1;
const LISTENING: u8 = 2;
const CONNECTING: u8 = 3;
const CONNECTED: u8 = 4;
const DATAGRAM: u8 = 5;
const ENDED: u8 = 6;

fn address(to: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            to.push(4);
            to.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            to.push(6);
            to.extend_from_slice(&ip.octets());
        }
    }
    to.extend_from_slice(&address.port().to_le_bytes());
    if let SocketAddr::V6(v6) = address {
        number(to, v6.flowinfo());
        number(to, v6.scope_id());
    }
}

fn connection(to: &mut Vec<u8>, it: &Connection) {
    address(to, it.local);
    address(to, it.peer);
    to.push(it.phase as u8);
    to.push(u8::from(it.reading_shut));
    for queue in [&it.receive, &it.send] {
        number(to, queue.end);
        bytes(to, &queue.bytes);
    }
    number(to, it.unsent);
    for value in it.window {
        number(to, value);
    }
    number(to, it.mss);
    to.push(u8::from(it.scales.is_some()));
    if let Some(Scales { send, receive }) = it.scales {
        to.extend_from_slice(&[send, receive]);
    }
    to.push(u8::from(it.sack));
    to.push(u8::from(it.timestamp.is_some()));
    if let Some(timestamp) = it.timestamp {
        number(to, timestamp);
    }
}

pub(super) fn decode(input: &[u8]) -> Result<Saved> {
    let mut from = Reader::new(input);
    if from.array()? != *MAGIC {
        return Err(from.error("not a file of saved sockets"));
    }
    if u16::from_le_bytes(from.array()?) != VERSION {
        return Err(from.error("made by another version"));
    }
    let tokens = from.list(Reader::array)?;
    let sockets = from.list(Reader::socket)?;
    from.end()?;
    Ok(Saved { tokens, sockets })
}

impl Reader<'_> {
    fn option(&mut self) -> Result<Value> {
        let (level, name) = (self.signed()?, self.signed()?);
        let bytes = self.bytes()?;
        let value = Value { level, name, bytes };
        if value.bytes.len() <= LONGEST && is_carried(&value) {
            Ok(value)
        } else {
            Err(self.error("an option that is not carried"))
        }
    }

    fn socket(&mut self) -> Result<Socket> {
        let (domain, kind, protocol) = (self.signed()?, self.signed()?, self.signed()?);
        if domain != libc::AF_INET && domain != libc::AF_INET6 {
            return Err(self.error("a socket of another family"));
        }
        Ok(Socket {
            domain,
            kind,
            protocol,
            nonblocking: self.flag()?,
            owner: self.number()?,
            options: self.list(Reader::option)?,
            state: self.state()?,
        })
    }

    fn state(&mut self) -> Result<State> {
        let [tag] = self.array()?;
        Ok(match tag {
            FRESH => State::Fresh,
            BOUND => State::Bound(self.address()?),
            LISTENING => State::Listening {
                local: self.address()?,
                backlog: self.number()?,
            },
            CONNECTING => State::Connecting {
                local: self.address()?,
                peer: self.address()?,
                first: self.number()?,
            },
            CONNECTED => State::Connected(Box::new(self.connection()?)),
            ENDED => State::Ended(Ended {
                by_reset: self.flag()?,
                bytes: self.bytes()?,
            }),
            DATAGRAM => State::Datagram {
                local: self.maybe(Reader::address)?,
                peer: self.maybe(Reader::address)?,
            },
            _ => return Err(self.error("an unknown state")),
        })
    }

    fn address(&mut self) -> Result<SocketAddr> {
        match self.array()? {
            [4] => {
                let ip = self.array::<4>()?;
                let port = u16::from_le_bytes(self.array()?);
                Ok((ip, port).into())
            }
            [6] => {
                let ip = Ipv6Addr::from(self.array::<16>()?);
                let port = u16::from_le_bytes(self.array()?);
                let (flow, scope) = (self.number()?, self.number()?);
                Ok(SocketAddrV6::new(ip, port, flow, scope).into())
            }
            _ => Err(self.error("an address of another family")),
        }
    }

    fn connection(&mut self) -> Result<Connection> {
        let (local, peer) = (self.address()?, self.address()?);
        let [phase] = self.array()?;
        let phase = Phase::from_number(phase).ok_or_else(|| self.error("an unknown phase"))?;
        let it = Connection {
            local,
            peer,
            phase,
            reading_shut: self.flag()?,
            receive: self.queue()?,
            send: self.queue()?,
            unsent: self.number()?,
            window: {
                let mut window = [0; 5];
                for value in &mut window {
                    *value = self.number()?;
                }
                window
            },
            mss: self.number()?,
            scales: self.maybe(Reader::scales)?,
            sack: self.flag()?,
            timestamp: self.maybe(Reader::number)?,
        };
        if it.unsent as usize > it.send.bytes.len() {
            return Err(self.error("more unsent bytes than bytes"));
        }
        Ok(it)
    }

    fn queue(&mut self) -> Result<Queue> {
        Ok(Queue {
            end: self.number()?,
            bytes: self.bytes()?,
        })
    }

    fn scales(&mut self) -> Result<Scales> {
        match self.array()? {
            // RFC 7323: at most 14.
            [send @ 0..=14, receive @ 0..=14] => Ok(Scales { send, receive }),
            _ => Err(self.error("a window scale above 14")),
        }
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
