//! zstd itself reads what is stored.

use super::{BLOCK, put};

#[test]
fn zstd_gives_the_bytes_back() {
    for size in [1, 255, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 1_000_001] {
        let bytes: Vec<u8> = (0..size).map(|at| (at * 7 / 3) as u8).collect();
        let mut frame = Vec::new();
        put(&mut frame, &bytes);
        assert!(
            frame.len() < size + 40,
            "{size} bytes became {}",
            frame.len()
        );
        assert_eq!(zstd::bulk::decompress(&frame, size).unwrap(), bytes);
        let streamed = zstd::stream::decode_all([&frame[..], &frame[..]].concat().as_slice());
        assert_eq!(streamed.unwrap(), [bytes.clone(), bytes].concat());
    }
}
