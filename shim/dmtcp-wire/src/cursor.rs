//! Reading and writing one packet.

use crate::{BATCH, Ids, MAX_MESSAGE, Malformed, Packet, SocketId};

pub(crate) struct Writer(Packet);

impl Writer {
    pub(crate) fn new(tag: u8) -> Writer {
        Writer(Packet {
            bytes: [0; MAX_MESSAGE],
            length: 0,
        })
        .bytes(&[tag])
    }

    /// The longest message fits: `BATCH` ids, their number and a tag.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Writer {
        const { assert!(1 + 2 + 4 * BATCH <= MAX_MESSAGE) };
        let end = self.0.length + bytes.len();
        if let Some(room) = self.0.bytes.get_mut(self.0.length..end) {
            room.copy_from_slice(bytes);
            self.0.length = end;
        }
        self
    }

    pub(crate) fn ids(self, ids: &Ids) -> Writer {
        let count = ids.as_slice().len() as u16;
        ids.as_slice()
            .iter()
            .fold(self.bytes(&count.to_le_bytes()), |w, id| {
                w.bytes(&id.to_le_bytes())
            })
    }

    pub(crate) fn done(self) -> Packet {
        self.0
    }
}

pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Reader<'a>, Malformed> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Malformed);
        }
        Ok(Reader(bytes))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn short(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn ids(&mut self) -> Result<Ids, Malformed> {
        let mut ids = Ids::new();
        for _ in 0..self.short()? {
            let id: SocketId = self.array().map(SocketId::from_le_bytes)?;
            ids.push(id).map_err(|_| Malformed)?;
        }
        Ok(ids)
    }

    pub(crate) fn end<T>(self, message: T) -> Result<T, Malformed> {
        if self.0.is_empty() {
            Ok(message)
        } else {
            Err(Malformed)
        }
    }
}
