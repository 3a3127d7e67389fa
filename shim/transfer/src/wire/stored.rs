//! Bytes as a zstd frame without compression (RFC 8878, section 3.1.1): for links that are faster
//! than any compressor.

/// First bytes of a frame, as a little-endian number.
const MAGIC: u32 = 0xfd2f_b528;
/// Frame_Header_Descriptor: the content's size in four bytes, which is the window's as well.
const DESCRIPTOR: u8 = 0b1010_0000;
/// Most bytes of a block.
const BLOCK: usize = 128 << 10;

/// Appends `bytes`, fewer than 4 GiB and at least one, to `out` as one frame.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.push(DESCRIPTOR);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    let mut blocks = bytes.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        let last = u32::from(blocks.peek().is_none());
        // Block_Type 0 (raw) is in the two bits after the lowest.
        let head = ((block.len() as u32) << 3) | last;
        out.extend_from_slice(&head.to_le_bytes()[..3]);
        out.extend_from_slice(block);
    }
}

#[cfg(test)]
mod tests;
