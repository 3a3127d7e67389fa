//! The steps of a rule as nf_tables expressions.

use super::super::link::octets;
use super::super::message::Message;
use super::{Step, Verdict, Version};
use std::net::IpAddr;

const LIST_ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;

/// The first of the registers of four bytes each; longer values take the ones that follow.
const REGISTER: u32 = 8;
const VERDICT_REGISTER: u32 = 0;

const META_MARK: u32 = 3;
const META_IN_NAME: u32 = 6;
const META_OUT_NAME: u32 = 7;
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;
const PAYLOAD_NETWORK: u32 = 1;
const PAYLOAD_TRANSPORT: u32 = 2;
const EQUAL: u32 = 0;
const OTHER: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;
const UPDATE: u32 = 1;
/// Offset and length of a field.
type Field = (u32, u32);
const SOURCE_PORT: Field = (0, 2);
const DESTINATION_PORT: Field = (2, 2);
const ICMPV6_TYPE: Field = (0, 1);
/// RFC 9293, section 3.1.
const TCP_FLAGS: Field = (13, 1);
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

impl Version {
    fn source(self) -> Field {
        match self {
            Version::Four => (12, 4),
            Version::Six => (8, 16),
        }
    }

    fn destination(self) -> Field {
        match self {
            Version::Four => (16, 4),
            Version::Six => (24, 16),
        }
    }

    fn protocol(self) -> u8 {
        match self {
            Version::Four => libc::NFPROTO_IPV4 as u8,
            Version::Six => libc::NFPROTO_IPV6 as u8,
        }
    }

    /// Length of a set's key: an address and two ports, each port in four bytes.
    /// How nft(8) shows the key: address, port, port. The kernel only stores it.
    pub(super) fn key_type(self) -> u32 {
        let (address, port) = (if self == Version::Four { 7 } else { 8 }, 13);
        address << 12 | port << 6 | port
    }

    pub(super) fn key(self) -> u32 {
        self.source().1 + 8
    }

    pub(crate) fn of(address: IpAddr) -> Version {
        if address.is_ipv4() {
            Version::Four
        } else {
            Version::Six
        }
    }
}

/// Add the expressions of one step.
pub(super) fn step(m: Message, step: &Step) -> Message {
    match step {
        Step::Mark(mark) => compare(meta(m, META_MARK), EQUAL, &mark.to_ne_bytes()),
        Step::In(name) => compare(meta(m, META_IN_NAME), EQUAL, &interface(name)),
        Step::Out(name) => compare(meta(m, META_OUT_NAME), EQUAL, &interface(name)),
        Step::Icmpv6(from, to) => {
            let m = protocol(family(m, Version::Six), libc::IPPROTO_ICMPV6);
            let m = payload(m, PAYLOAD_TRANSPORT, ICMPV6_TYPE, REGISTER);
            compare(compare(m, AT_LEAST, &[*from]), AT_MOST, &[*to])
        }
        Step::Udp => protocol(m, libc::IPPROTO_UDP),
        Step::TcpFrom(number) => port(m, SOURCE_PORT, *number),
        Step::TcpTo(number) => port(m, DESTINATION_PORT, *number),
        Step::TcpFirst => compare(opening(m), EQUAL, &[SYN]),
        Step::TcpLater => compare(opening(m), OTHER, &[SYN]),
        Step::From(address) => address_in(m, Version::of(*address).source(), *address),
        Step::To(address) => address_in(m, Version::of(*address).destination(), *address),
        Step::SetMark(mark) => {
            let m = immediate(m, &mark.to_ne_bytes());
            expression(m, "meta", |m| {
                m.number_be(2, META_MARK).number_be(3, REGISTER)
            })
        }
        Step::Learn(set, version) => {
            let m = key(
                m,
                *version,
                version.source(),
                [SOURCE_PORT, DESTINATION_PORT],
            );
            expression(m, "dynset", |m| {
                m.string(1, set).number_be(3, UPDATE).number_be(4, REGISTER)
            })
        }
        Step::Known(set, version) => {
            let m = key(
                m,
                *version,
                version.destination(),
                [DESTINATION_PORT, SOURCE_PORT],
            );
            expression(m, "lookup", |m| m.string(1, set).number_be(2, REGISTER))
        }
        Step::SetSource(address) => set_source(m, *address),
        Step::Verdict(verdict) => judge(m, *verdict),
    }
}

/// Load address, peer's port and our port, one after the other.
fn key(m: Message, version: Version, address: Field, [peer, our]: [Field; 2]) -> Message {
    let ports = REGISTER + address.1 / 4;
    let m = payload(family(m, version), PAYLOAD_NETWORK, address, REGISTER);
    let m = payload(m, PAYLOAD_TRANSPORT, peer, ports);
    payload(m, PAYLOAD_TRANSPORT, our, ports + 1)
}

fn set_source(m: Message, address: IpAddr) -> Message {
    let version = Version::of(address);
    let (offset, length) = version.source();
    expression(immediate(m, &octets(address)), "payload", |m| {
        let m = m
            .number_be(5, REGISTER)
            .number_be(2, PAYLOAD_NETWORK)
            .number_be(3, offset)
            .number_be(4, length);
        // The IPv4 header has a checksum of its own, at offset 10; the transport's covers the
        // address in both versions.
        let m = match version {
            Version::Four => m.number_be(6, 1).number_be(7, 10),
            Version::Six => m.number_be(6, 0).number_be(7, 0),
        };
        m.number_be(8, 1)
    })
}

fn address_in(m: Message, field: Field, address: IpAddr) -> Message {
    let m = family(m, Version::of(address));
    compare(
        payload(m, PAYLOAD_NETWORK, field, REGISTER),
        EQUAL,
        &octets(address),
    )
}

fn family(m: Message, version: Version) -> Message {
    compare(meta(m, META_FAMILY), EQUAL, &[version.protocol()])
}

fn protocol(m: Message, number: i32) -> Message {
    compare(meta(m, META_PROTOCOL), EQUAL, &[number as u8])
}

fn port(m: Message, field: Field, number: u16) -> Message {
    let m = protocol(m, libc::IPPROTO_TCP);
    let m = payload(m, PAYLOAD_TRANSPORT, field, REGISTER);
    compare(m, EQUAL, &number.to_be_bytes())
}

/// Of a TCP segment's flags those two that tell whether it asks for a connection.
fn opening(m: Message) -> Message {
    let m = protocol(m, libc::IPPROTO_TCP);
    let m = payload(m, PAYLOAD_TRANSPORT, TCP_FLAGS, REGISTER);
    expression(m, "bitwise", |m| {
        m.number_be(1, REGISTER)
            .number_be(2, REGISTER)
            .number_be(3, 1)
            .nest(4, |m| m.attribute(1, &[SYN | ACK]))
            .nest(5, |m| m.attribute(1, &[0]))
    })
}

/// Interface names are compared over their whole field.
fn interface(name: &str) -> [u8; libc::IFNAMSIZ] {
    let mut field = [0; libc::IFNAMSIZ];
    for (to, from) in field.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    field
}

fn meta(m: Message, key: u32) -> Message {
    expression(m, "meta", |m| m.number_be(2, key).number_be(1, REGISTER))
}

fn payload(m: Message, base: u32, (offset, length): Field, register: u32) -> Message {
    expression(m, "payload", |m| {
        m.number_be(1, register)
            .number_be(2, base)
            .number_be(3, offset)
            .number_be(4, length)
    })
}

fn compare(m: Message, operation: u32, value: &[u8]) -> Message {
    expression(m, "cmp", |m| {
        m.number_be(1, REGISTER)
            .number_be(2, operation)
            .nest(3, |m| m.attribute(1, value))
    })
}

/// Load a constant.
fn immediate(m: Message, value: &[u8]) -> Message {
    expression(m, "immediate", |m| {
        m.number_be(1, REGISTER).nest(2, |m| m.attribute(1, value))
    })
}

fn judge(m: Message, verdict: Verdict) -> Message {
    // The data is a nested verdict with its code.
    expression(m, "immediate", |m| {
        m.number_be(1, VERDICT_REGISTER)
            .nest(2, |m| m.nest(2, |m| m.number_be(1, verdict as u32)))
    })
}

fn expression(m: Message, name: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    m.nest(LIST_ELEMENT, |m| m.string(NAME, name).nest(DATA, fill))
}
