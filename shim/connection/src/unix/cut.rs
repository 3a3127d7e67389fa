//! Which sockets of a container have their other end in another one.

use super::place::{self, Member, Place};
use super::problem::{Problem, show};
use super::{Kind, Socket};
use std::collections::BTreeMap;

/// The sockets that the containers of a pod have open.
#[derive(Clone, Debug, Default)]
pub struct Members {
    open: BTreeMap<String, Open>,
    /// Only one container is looked at, whatever else the pod has.
    alone: bool,
}

#[derive(Clone, Debug)]
struct Open {
    movable: bool,
    sockets: BTreeMap<u32, Place>,
}

impl Members {
    /// Looks at all processes. `alone`: the container is not carried together with its pod.
    pub fn look(members: &[Member], alone: bool) -> Self {
        let open = members.iter().map(|member| {
            let open = Open {
                movable: member.movable,
                sockets: place::open_sockets(&member.processes),
            };
            (member.name.clone(), open)
        });
        Self {
            open: open.collect(),
            alone,
        }
    }

    /// Another container than `own` that has a socket open, and where.
    fn elsewhere(&self, own: &str, inode: u32) -> Option<(&str, bool, Place)> {
        self.open
            .iter()
            .filter(|(name, _)| *name != own)
            .find_map(|(name, open)| {
                Some((name.as_str(), open.movable, *open.sockets.get(&inode)?))
            })
    }
}

/// One end of a connection to another container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Inode of the socket.
    pub inode: u32,
    /// Its semantics.
    pub kind: Kind,
    /// Inode of the other end.
    pub peer: u32,
    /// Who has it.
    pub place: Place,
    /// What the other end is.
    pub link: Link,
    /// Its name.
    pub name: Vec<u8>,
    /// The other end's name.
    pub peer_name: Vec<u8>,
}

/// What the other end of a socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Connected to this one, too.
    Pair,
    /// A datagram socket that is not connected to this one. The engine carries it with its
    /// container.
    Receiver {
        /// The container.
        container: String,
        /// The process that has it, as the container numbers it.
        inner: i32,
        /// The descriptor.
        fd: i32,
    },
}

impl Cut {
    /// Either name, for a message.
    pub(super) fn shown(&self) -> String {
        let name = if self.name.is_empty() {
            &self.peer_name
        } else {
            &self.name
        };
        show(name)
    }
}

/// The ends that container `own` has of connections to others, and what cannot be carried. `table` is
/// the kernel's; `peer_name` asks a socket for the name of its other end, when that is in no table
/// of this pod.
pub fn cut(
    own: &str,
    members: &Members,
    table: &BTreeMap<u32, Socket>,
    peer_name: impl Fn(Place) -> Option<Vec<u8>>,
) -> (Vec<Cut>, Vec<Problem>) {
    let (mut cuts, mut problems) = (Vec::new(), Vec::new());
    let Some(open) = members.open.get(own) else {
        return (cuts, problems);
    };
    for (inode, place) in &open.sockets {
        // A socket of another family, or of another network namespace, whose connections no
        // container of this pod shares.
        let Some(socket) = table.get(inode) else {
            continue;
        };
        let (container, pid) = (own.to_owned(), place.process.pid);
        let peer = socket.peer.and_then(|peer| table.get(&peer));
        let peer_known = peer.map_or(&[][..], |peer| peer.name.as_slice());
        let path = if socket.name.is_empty() {
            show(peer_known)
        } else {
            show(&socket.name)
        };
        if let Some((other, ..)) = members.elsewhere(own, *inode) {
            let other = other.to_owned();
            problems.push(Problem::Shared {
                container,
                pid,
                path,
                other,
            });
            continue;
        }
        let waits = socket
            .waiting
            .iter()
            .find_map(|one| members.elsewhere(own, *one));
        if let Some((other, ..)) = waits {
            let other = other.to_owned();
            problems.push(Problem::NotAccepted {
                container,
                pid,
                path,
                other,
            });
            continue;
        }
        let Some(number) = socket.peer else {
            continue;
        };
        if open.sockets.contains_key(&number) {
            continue;
        }
        if members.alone {
            // CRIU connects such a socket to the name again.
            if socket.kind != Kind::Datagram || peer_known.is_empty() {
                problems.push(Problem::Alone {
                    container,
                    pid,
                    path,
                });
            }
            continue;
        }
        let (Some((other, movable, at)), Some(peer)) = (members.elsewhere(own, number), peer)
        else {
            let name = peer_name(*place).filter(|name| !name.is_empty());
            let path = name.map_or(path, |name| show(&name));
            problems.push(Problem::Outside {
                container,
                pid,
                path,
            });
            continue;
        };
        let other = other.to_owned();
        if !movable {
            problems.push(Problem::OtherEngine {
                container,
                pid,
                path,
                other,
            });
            continue;
        }
        let link = if peer.peer == Some(*inode) {
            Link::Pair
        } else {
            Link::Receiver {
                container: other,
                inner: at.process.inner,
                fd: at.fd,
            }
        };
        cuts.push(Cut {
            inode: *inode,
            kind: socket.kind,
            peer: number,
            place: *place,
            link,
            name: socket.name.clone(),
            peer_name: peer_known.to_vec(),
        });
    }
    (cuts, problems)
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
