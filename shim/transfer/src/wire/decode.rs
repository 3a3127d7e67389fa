//! Frames from bytes.

use super::codec::Cursor;
use super::frame::{Attributes, Frame, Time, XattrList, kind_name};
use super::{MAX_DATA, MAX_PATH};
use crate::error::{Error, Result};

impl<'a> Frame<'a> {
    /// Decodes a payload.
    pub(crate) fn decode(kind: u8, payload: &'a [u8]) -> Result<Self> {
        let mut c = Cursor::new(kind_name(kind), payload);
        let frame = match kind {
            0x01 => Self::End { digest: c.array()? },
            0x10 => {
                let (session, base, round) = (c.u64()?, c.u32()?, c.u32()?);
                Self::TreeBegin {
                    id: name(&mut c)?,
                    session,
                    base,
                    round,
                }
            }
            0x11 => Self::Park {
                slot: c.u64()?,
                path: path(&mut c)?,
            },
            0x12 => Self::Remove {
                directory: flag(&mut c)?,
                path: path(&mut c)?,
            },
            0x13 => Self::MakeDir {
                path: path(&mut c)?,
            },
            0x14 => Self::Unpark {
                slot: c.u64()?,
                path: path(&mut c)?,
            },
            0x15 => Self::Link {
                existing: limited(c.bytes()?)?,
                path: path(&mut c)?,
            },
            0x16 => Self::File {
                update: flag(&mut c)?,
                size: c.u64()?,
                path: path(&mut c)?,
            },
            0x17 => Self::Data {
                offset: c.u64()?,
                bytes: data(&mut c)?,
            },
            0x18 => Self::Hole {
                offset: c.u64()?,
                length: c.u64()?,
            },
            0x19 => {
                let (kind, device) = (c.u32()?, c.u64()?);
                let target = limited(c.bytes()?)?;
                Self::Node {
                    kind,
                    device,
                    target,
                    path: path(&mut c)?,
                }
            }
            0x1a => Self::Attr {
                attributes: attributes(&mut c)?,
                path: path(&mut c)?,
            },
            0x1b => Self::TreeEnd { digest: c.array()? },
            0x20 => Self::ImagesBegin { id: name(&mut c)? },
            0x21 => Self::ImageFile {
                file: c.u32()?,
                path: path(&mut c)?,
            },
            0x22 => Self::ImageData {
                file: c.u32()?,
                offset: c.u64()?,
                bytes: data(&mut c)?,
            },
            0x23 => Self::ImageSize {
                file: c.u32()?,
                size: c.u64()?,
            },
            0x24 => Self::ImagesEnd { digest: c.array()? },
            0x25 => Self::ImageKnown {
                file: c.u32()?,
                offset: c.u64()?,
                round: c.u32()?,
                page: c.u32()?,
                count: c.u32()?,
            },
            0x26 => Self::ImageShared {
                file: c.u32()?,
                offset: c.u64()?,
                from: c.u64()?,
                count: c.u32()?,
                digest: c.array()?,
                path: path(&mut c)?,
            },
            _ => return Err(Error::UnknownFrame { kind }),
        };
        c.end()?;
        Ok(frame)
    }
}

/// Longest name of a tree or image set.
pub(crate) const MAX_NAME: usize = 255;
/// Most extended attributes of one entry (the kernel lists at most 64 KiB of names).
const MAX_XATTRS: u16 = 8192;

fn name<'a>(c: &mut Cursor<'a>) -> Result<&'a [u8]> {
    let bytes = c.rest();
    if bytes.is_empty() || bytes.len() > MAX_NAME || std::str::from_utf8(bytes).is_err() {
        return Err(c.bad("the name is empty, longer than 255 bytes or not UTF-8"));
    }
    Ok(bytes)
}

fn path<'a>(c: &mut Cursor<'a>) -> Result<&'a [u8]> {
    limited(c.rest())
}

fn limited(path: &[u8]) -> Result<&[u8]> {
    if path.len() > MAX_PATH {
        let (size, limit) = (path.len() as u64, MAX_PATH as u64);
        return Err(Error::TooLarge {
            what: "a path",
            size,
            limit,
        });
    }
    Ok(path)
}

fn data<'a>(c: &mut Cursor<'a>) -> Result<&'a [u8]> {
    let bytes = c.rest();
    if bytes.len() > MAX_DATA {
        return Err(c.bad("too much data in one frame"));
    }
    Ok(bytes)
}

fn flag(c: &mut Cursor<'_>) -> Result<bool> {
    match c.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(c.bad("a flag is neither 0 nor 1")),
    }
}

fn time(c: &mut Cursor<'_>) -> Result<Time> {
    let time = Time {
        seconds: c.u64()? as i64,
        nanos: c.u32()?,
    };
    if time.nanos >= 1_000_000_000 {
        return Err(c.bad("a time has a second or more in its nanoseconds"));
    }
    Ok(time)
}

fn attributes(c: &mut Cursor<'_>) -> Result<Attributes> {
    let (mode, uid, gid) = (c.u32()?, c.u32()?, c.u32()?);
    if mode & !0o7777 != 0 {
        return Err(c.bad("mode bits outside 07777"));
    }
    let (atime, mtime) = (time(c)?, time(c)?);
    let count = c.u16()?;
    if count > MAX_XATTRS {
        return Err(c.bad("too many extended attributes"));
    }
    let mut xattrs = XattrList::new();
    for _ in 0..count {
        let name = c.bytes()?;
        if name.is_empty() || name.len() > MAX_NAME || name.contains(&0) {
            return Err(c.bad("an extended attribute's name is empty, too long or has a NUL"));
        }
        xattrs.push((name.to_vec(), c.bytes()?.to_vec()));
    }
    Ok(Attributes {
        mode,
        uid,
        gid,
        atime,
        mtime,
        xattrs,
    })
}
