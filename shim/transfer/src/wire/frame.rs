//! The typed frames. Each is `kind u8, length u32 LE, payload`.

use super::codec::Put;

/// A BLAKE3 digest.
pub(crate) type Digest = [u8; 32];

/// Seconds and nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// Extended attributes, sorted by name.
pub(crate) type XattrList = Vec<(Vec<u8>, Vec<u8>)>;

/// Everything about an entry except its name, type and content.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    /// Permission bits with setuid, setgid and sticky (07777).
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) atime: Time,
    pub(crate) mtime: Time,
    pub(crate) xattrs: XattrList,
}

/// One frame; borrows from the buffer it was decoded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// End of the stream; digest of every frame before it.
    End { digest: Digest },
    /// A round of a tree begins. `base` 0 means a full round.
    TreeBegin {
        id: &'a [u8],
        session: u64,
        base: u32,
        round: u32,
    },
    /// Move `path` to the staging slot `slot`.
    Park { slot: u64, path: &'a [u8] },
    /// Remove a file, or an empty directory.
    Remove { directory: bool, path: &'a [u8] },
    /// Create a directory.
    MakeDir { path: &'a [u8] },
    /// Move what is in slot `slot` to `path`.
    Unpark { slot: u64, path: &'a [u8] },
    /// Another name for an inode.
    Link { existing: &'a [u8], path: &'a [u8] },
    /// A regular file of `size` bytes; Data and Hole frames and an Attr frame follow.
    File {
        update: bool,
        size: u64,
        path: &'a [u8],
    },
    /// Content of the open file.
    Data { offset: u64, bytes: &'a [u8] },
    /// A hole in the open file.
    Hole { offset: u64, length: u64 },
    /// A symlink (`target`), device node, fifo or socket. `kind` is the S_IFMT part of the mode.
    Node {
        kind: u32,
        device: u64,
        target: &'a [u8],
        path: &'a [u8],
    },
    /// Attributes of `path`.
    Attr {
        attributes: Attributes,
        path: &'a [u8],
    },
    /// End of the round; digest of every frame before it.
    TreeEnd { digest: Digest },
    /// A directory of image files begins.
    ImagesBegin { id: &'a [u8] },
    /// Image file number `file` has this path.
    ImageFile { file: u32, path: &'a [u8] },
    /// Content of an image file.
    ImageData {
        file: u32,
        offset: u64,
        bytes: &'a [u8],
    },
    /// Content of an image file that the receiver has: whole pages from page number `page` on of
    /// the store that came with round `round`.
    ImageKnown {
        file: u32,
        offset: u64,
        round: u32,
        page: u32,
        count: u32,
    },
    /// Content of an image file that the receiver has in its copy of the container's image: `count`
    /// whole pages from byte `from` on of the file `path`, which begins with the container's name.
    /// `digest` is of these pages.
    ImageShared {
        file: u32,
        offset: u64,
        from: u64,
        count: u32,
        digest: Digest,
        path: &'a [u8],
    },
    /// Final size of an image file.
    ImageSize { file: u32, size: u64 },
    /// End of the images; digest of every frame before it.
    ImagesEnd { digest: Digest },
}

impl<'a> Frame<'a> {
    /// Name for messages.
    pub(crate) const fn name(&self) -> &'static str {
        kind_name(self.kind())
    }

    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::End { .. } => 0x01,
            Self::TreeBegin { .. } => 0x10,
            Self::Park { .. } => 0x11,
            Self::Remove { .. } => 0x12,
            Self::MakeDir { .. } => 0x13,
            Self::Unpark { .. } => 0x14,
            Self::Link { .. } => 0x15,
            Self::File { .. } => 0x16,
            Self::Data { .. } => 0x17,
            Self::Hole { .. } => 0x18,
            Self::Node { .. } => 0x19,
            Self::Attr { .. } => 0x1a,
            Self::TreeEnd { .. } => 0x1b,
            Self::ImagesBegin { .. } => 0x20,
            Self::ImageFile { .. } => 0x21,
            Self::ImageData { .. } => 0x22,
            Self::ImageSize { .. } => 0x23,
            Self::ImagesEnd { .. } => 0x24,
            Self::ImageKnown { .. } => 0x25,
            Self::ImageShared { .. } => 0x26,
        }
    }

    /// Whether frames of this kind carry a digest of everything before them.
    pub(crate) const fn carries_digest(kind: u8) -> bool {
        matches!(kind, 0x01 | 0x1b | 0x24)
    }

    /// The digest, in the frames that carry one.
    pub(crate) const fn digest(&self) -> Option<&Digest> {
        match self {
            Self::End { digest } | Self::TreeEnd { digest } | Self::ImagesEnd { digest } => {
                Some(digest)
            }
            _ => None,
        }
    }

    /// Appends the payload to `head`, except for a long tail, which is returned and follows it.
    pub(crate) fn encode(&self, head: &mut Vec<u8>) -> &'a [u8] {
        match *self {
            Self::End { digest } | Self::TreeEnd { digest } | Self::ImagesEnd { digest } => {
                head.extend_from_slice(&digest);
            }
            Self::TreeBegin {
                id,
                session,
                base,
                round,
            } => {
                head.put_u64(session);
                head.put_u32(base);
                head.put_u32(round);
                return id;
            }
            Self::Park { slot, path } | Self::Unpark { slot, path } => {
                head.put_u64(slot);
                return path;
            }
            Self::Remove { directory, path } => {
                head.put_u8(u8::from(directory));
                return path;
            }
            Self::MakeDir { path } => return path,
            Self::Link { existing, path } => {
                head.put_bytes(existing);
                return path;
            }
            Self::File { update, size, path } => {
                head.put_u8(u8::from(update));
                head.put_u64(size);
                return path;
            }
            Self::Data { offset, bytes } => {
                head.put_u64(offset);
                return bytes;
            }
            Self::Hole { offset, length } => {
                head.put_u64(offset);
                head.put_u64(length);
            }
            Self::Node {
                kind,
                device,
                target,
                path,
            } => {
                head.put_u32(kind);
                head.put_u64(device);
                head.put_bytes(target);
                return path;
            }
            Self::Attr {
                ref attributes,
                path,
            } => {
                put_attributes(head, attributes);
                return path;
            }
            Self::ImagesBegin { id } => return id,
            Self::ImageFile { file, path } => {
                head.put_u32(file);
                return path;
            }
            Self::ImageData {
                file,
                offset,
                bytes,
            } => {
                head.put_u32(file);
                head.put_u64(offset);
                return bytes;
            }
            Self::ImageSize { file, size } => {
                head.put_u32(file);
                head.put_u64(size);
            }
            Self::ImageKnown {
                file,
                offset,
                round,
                page,
                count,
            } => {
                head.put_u32(file);
                head.put_u64(offset);
                head.put_u32(round);
                head.put_u32(page);
                head.put_u32(count);
            }
            Self::ImageShared {
                file,
                offset,
                from,
                count,
                digest,
                path,
            } => {
                head.put_u32(file);
                head.put_u64(offset);
                head.put_u64(from);
                head.put_u32(count);
                head.extend_from_slice(&digest);
                return path;
            }
        }
        &[]
    }
}

fn put_time(head: &mut Vec<u8>, time: Time) {
    head.put_u64(time.seconds as u64);
    head.put_u32(time.nanos);
}

fn put_attributes(head: &mut Vec<u8>, attributes: &Attributes) {
    head.put_u32(attributes.mode);
    head.put_u32(attributes.uid);
    head.put_u32(attributes.gid);
    put_time(head, attributes.atime);
    put_time(head, attributes.mtime);
    head.put_u16(attributes.xattrs.len() as u16);
    for (name, value) in &attributes.xattrs {
        head.put_bytes(name);
        head.put_bytes(value);
    }
}

pub(super) const fn kind_name(kind: u8) -> &'static str {
    match kind {
        0x01 => "End",
        0x10 => "TreeBegin",
        0x11 => "Park",
        0x12 => "Remove",
        0x13 => "MakeDir",
        0x14 => "Unpark",
        0x15 => "Link",
        0x16 => "File",
        0x17 => "Data",
        0x18 => "Hole",
        0x19 => "Node",
        0x1a => "Attr",
        0x1b => "TreeEnd",
        0x20 => "ImagesBegin",
        0x21 => "ImageFile",
        0x22 => "ImageData",
        0x23 => "ImageSize",
        0x24 => "ImagesEnd",
        0x25 => "ImageKnown",
        0x26 => "ImageShared",
        _ => "unknown",
    }
}
