//! Saved sockets as bytes: little-endian; lists and byte strings begin with their length (4 bytes).

use crate::{Error, Result};

pub(crate) fn number(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn bytes(to: &mut Vec<u8>, value: &[u8]) {
    number(to, value.len() as u32);
    to.extend_from_slice(value);
}

/// Takes apart what may come from another node: never reads behind the end.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self {
            rest: input,
            length: input.len(),
        }
    }

    pub(crate) fn error(&self, what: &'static str) -> Error {
        let at = self.length - self.rest.len();
        Error::Saved { what, at }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) =
            (self.rest.split_first_chunk()).ok_or_else(|| self.error("cut short"))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn number(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn signed(&mut self) -> Result<i32> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(self.error("neither yes nor no")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>> {
        let length = self.number()? as usize;
        let split = self.rest.split_at_checked(length);
        let (head, rest) = split.ok_or_else(|| self.error("cut short"))?;
        self.rest = rest;
        Ok(head.to_vec())
    }

    /// Memory is taken as elements are found, not as they are announced.
    pub(crate) fn list<T>(&mut self, element: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.number()?;
        (0..count).map(|_| element(self)).collect::<Result<_>>()
    }

    pub(crate) fn maybe<T>(&mut self, read: impl Fn(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(crate) fn end(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error("bytes after the end"))
        }
    }
}
