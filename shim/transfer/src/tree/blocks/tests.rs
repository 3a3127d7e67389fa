use super::{BLOCK, blocks};

#[test]
fn segments_are_cut_into_blocks() {
    let cut: Vec<_> = blocks(&[(0, 10), (20, BLOCK + 5), (5 * BLOCK, 6 * BLOCK)]).collect();
    assert_eq!(
        cut,
        [
            (0, vec![(0, 10), (20, BLOCK)]),
            (1, vec![(BLOCK, BLOCK + 5)]),
            (5, vec![(5 * BLOCK, 6 * BLOCK)]),
        ]
    );
}

#[test]
fn no_segments_are_no_blocks() {
    assert_eq!(blocks(&[]).count(), 0);
}
