//! The bytes of [`Saved`].

use super::cut::Link;
use super::record::{Bound, Half, MOST, Saved, SocketFile};
use super::{Kind, queue};
use crate::Result;
use crate::bytes::{Reader, bytes, number};

const MAGIC: &[u8; 8] = b"MYCEUNIX";
const VERSION: u16 = 1;
/// Bytes that an address has room for, with the zero that ends a path (unix(7)).
const LONGEST_NAME: usize = 107;
/// Longest path.
const LONGEST_PATH: usize = 4096;
/// Longest name of a container.
const LONGEST_CONTAINER: usize = 255;

pub(super) fn encode(saved: &Saved) -> Vec<u8> {
    let mut to = Vec::new();
    to.extend_from_slice(MAGIC);
    to.extend_from_slice(&VERSION.to_le_bytes());
    number(&mut to, saved.halves.len() as u32);
    for one in &saved.halves {
        half(&mut to, one);
    }
    to
}

fn half(to: &mut Vec<u8>, half: &Half) {
    number(to, half.inode);
    number(to, half.kind.number() as u32);
    number(to, half.peer);
    number(to, half.inner as u32);
    match &half.link {
        Link::Pair => to.push(0),
        Link::Receiver {
            container,
            inner,
            fd,
        } => {
            to.push(1);
            bytes(to, container.as_bytes());
            number(to, *inner as u32);
            number(to, *fd as u32);
        }
    }
    to.push(u8::from(half.bound.is_some()));
    if let Some(bound) = &half.bound {
        bytes(to, &bound.name);
        to.push(u8::from(bound.file.is_some()));
        if let Some(file) = &bound.file {
            to.push(u8::from(file.folder.is_some()));
            if let Some(folder) = &file.folder {
                bytes(to, folder);
            }
            number(to, file.mode);
            number(to, file.owner);
            number(to, file.group);
            to.push(u8::from(file.removed));
        }
    }
    to.push(u8::from(half.peer_ids.is_some()));
    if let Some((user, group)) = half.peer_ids {
        number(to, user);
        number(to, group);
    }
    number(to, half.unread.len() as u32);
    for message in &half.unread {
        bytes(to, message);
    }
}

pub(super) fn decode(input: &[u8]) -> Result<Saved> {
    let mut from = Reader::new(input);
    if from.array()? != *MAGIC {
        return Err(from.error("not a file of unix sockets"));
    }
    if u16::from_le_bytes(from.array()?) != VERSION {
        return Err(from.error("made by another version"));
    }
    let halves = from.list(Reader::half)?;
    if halves.len() > MOST {
        return Err(from.error("too many sockets"));
    }
    from.end()?;
    Ok(Saved { halves })
}

impl Reader<'_> {
    fn half(&mut self) -> Result<Half> {
        let inode = self.number()?;
        let kind = self.signed()?;
        let kind = Kind::of_number(kind).ok_or_else(|| self.error("no kind of socket"))?;
        let peer = self.number()?;
        let inner = self.positive()?;
        let link = match self.array()? {
            [0] => Link::Pair,
            [1] if kind == Kind::Datagram => Link::Receiver {
                container: String::from_utf8(self.short(LONGEST_CONTAINER)?)
                    .map_err(|_| self.error("not a name of a container"))?,
                inner: self.positive()?,
                fd: self.signed()?,
            },
            _ => return Err(self.error("no kind of connection")),
        };
        let bound = self.maybe(Self::bound)?;
        if bound.is_some() && kind != Kind::Datagram {
            return Err(self.error("a name for a socket that gets none"));
        }
        let peer_ids = self.maybe(|from| Ok((from.number()?, from.number()?)))?;
        let unread = self.list(|from| from.short(queue::LARGEST))?;
        Ok(Half {
            inode,
            kind,
            peer,
            link,
            inner,
            bound,
            peer_ids,
            unread,
        })
    }

    fn bound(&mut self) -> Result<Bound> {
        let name = self.short(LONGEST_NAME)?;
        let file = self.maybe(|from| {
            Ok(SocketFile {
                folder: from.maybe(Self::path)?,
                mode: from.number()? & 0o7777,
                owner: from.number()?,
                group: from.number()?,
                removed: from.flag()?,
            })
        })?;
        let is_path = name.first().is_some_and(|first| *first != 0) && !name.contains(&0);
        let is_abstract = name.first() == Some(&0);
        if (file.is_some() && is_path) || (file.is_none() && is_abstract) {
            Ok(Bound { name, file })
        } else {
            Err(self.error("not a name of a socket"))
        }
    }

    fn path(&mut self) -> Result<Vec<u8>> {
        let path = self.short(LONGEST_PATH)?;
        if path.starts_with(b"/") && !path.contains(&0) {
            Ok(path)
        } else {
            Err(self.error("not an absolute path"))
        }
    }

    fn positive(&mut self) -> Result<i32> {
        match self.signed()? {
            number @ 1.. => Ok(number),
            _ => Err(self.error("not a pid")),
        }
    }

    fn short(&mut self, longest: usize) -> Result<Vec<u8>> {
        let bytes = self.bytes()?;
        if bytes.len() <= longest {
            Ok(bytes)
        } else {
            Err(self.error("too long"))
        }
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
