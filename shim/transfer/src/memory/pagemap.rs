//! CRIU's `pagemap-*.img`: which addresses the pages of a `pages-*.img` belong to
//! (criu/include/magic.h, images/pagemap.proto, criu/include/pagemap.h of CRIU 4.2).
//!
//! Two magic numbers, then records: the length as u32 and a protobuf message. The first record is
//! the head, the others are ranges in ascending order.

/// Of all images with a head (`IMG_COMMON_MAGIC`).
const COMMON: u32 = 0x5456_4319;
/// Of this one (`PAGEMAP_MAGIC`).
const PAGEMAP: u32 = 0x5608_4025;

/// The pages are in the parent images.
pub(super) const PARENT: u32 = 1;
/// The pages are in this set's `pages-*.img`, one after the other.
pub(super) const PRESENT: u32 = 1 << 2;

/// Some pages in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) address: u64,
    /// Number of pages.
    pub(super) pages: u64,
    pub(super) flags: u32,
}

/// A file's content.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Pagemap {
    /// The N of `pages-N.img`.
    pub(super) pages_id: u32,
    pub(super) ranges: Vec<Range>,
}

impl Pagemap {
    /// A file without ranges.
    pub(super) const fn new(pages_id: u32) -> Self {
        Self {
            pages_id,
            ranges: Vec::new(),
        }
    }

    /// Adds a page behind all others; joins it with the last range where that is possible.
    pub(super) fn add(&mut self, address: u64, flags: u32) {
        if let Some(last) = self.ranges.last_mut()
            && last.flags == flags
            && last.address + last.pages * super::PAGE as u64 == address
        {
            last.pages += 1;
            return;
        }
        self.ranges.push(Range {
            address,
            pages: 1,
            flags,
        });
    }

    /// The file's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(COMMON.to_le_bytes());
        file.extend(PAGEMAP.to_le_bytes());
        let mut record = Vec::new();
        put_field(&mut record, 1, u64::from(self.pages_id));
        put_record(&mut file, &record);
        for range in &self.ranges {
            record.clear();
            put_field(&mut record, 1, range.address);
            // What older versions of CRIU read; the same number in field 5 is not cut short.
            put_field(&mut record, 2, range.pages & u64::from(u32::MAX));
            put_field(&mut record, 4, u64::from(range.flags));
            put_field(&mut record, 5, range.pages);
            put_record(&mut file, &record);
        }
        file
    }

    /// Reads a file; `None` if it says anything that this does not know.
    pub(super) fn decode(file: &[u8]) -> Option<Self> {
        let mut rest = file;
        if take_u32(&mut rest)? != COMMON || take_u32(&mut rest)? != PAGEMAP {
            return None;
        }
        let mut pagemap = Self::default();
        let mut head = take_record(&mut rest)?;
        while let Some((field, value)) = take_field(&mut head)? {
            if field == 1 {
                pagemap.pages_id = u32::try_from(value).ok()?;
            }
        }
        while !rest.is_empty() {
            pagemap.ranges.push(range(take_record(&mut rest)?)?);
        }
        Some(pagemap)
    }
}

fn range(mut record: &[u8]) -> Option<Range> {
    let (mut address, mut short, mut long, mut parent, mut flags) = (None, None, None, false, None);
    while let Some((field, value)) = take_field(&mut record)? {
        match field {
            1 => address = Some(value),
            2 => short = Some(value),
            3 => parent = value != 0,
            4 => flags = Some(u32::try_from(value).ok()?),
            5 => long = Some(value),
            // A field that says more than this knows.
            _ => return None,
        }
    }
    Some(Range {
        address: address?,
        pages: long.or(short)?,
        flags: flags.unwrap_or(if parent { PARENT } else { PRESENT }),
    })
}

fn put_record(file: &mut Vec<u8>, record: &[u8]) {
    file.extend((record.len() as u32).to_le_bytes());
    file.extend(record);
}

/// A field of wire type 0 (varint), <https://protobuf.dev/programming-guides/encoding/>.
fn put_field(record: &mut Vec<u8>, number: u8, mut value: u64) {
    record.push(number << 3);
    while value >= 0x80 {
        record.push(value as u8 | 0x80);
        value >>= 7;
    }
    record.push(value as u8);
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*number))
}

fn take_record<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_u32(rest)? as usize;
    let (record, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(record)
}

/// The next field; `Some(None)` at the end, `None` if it is not a varint field.
#[allow(clippy::option_option)]
fn take_field(record: &mut &[u8]) -> Option<Option<(u64, u64)>> {
    if record.is_empty() {
        return Some(None);
    }
    let key = take_varint(record)?;
    if key & 7 != 0 {
        return None;
    }
    Some(Some((key >> 3, take_varint(record)?)))
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
