use super::*;

const NUMBER: u64 = 3;
const START: u64 = NUMBER * BLOCK;

fn marks() -> Marks {
    Marks::new().unwrap()
}

fn bytes() -> Vec<u8> {
    (0..BLOCK).map(|at| (at * 7 % 251) as u8).collect()
}

fn whole() -> Vec<(u64, u64)> {
    vec![(START, START + BLOCK)]
}

#[test]
fn every_byte_and_every_place_counts() {
    let (marks, bytes) = (marks(), bytes());
    let mark = marks.of_block(&whole(), NUMBER, &bytes);
    assert_eq!(mark, marks.of_block(&whole(), NUMBER, &bytes.clone()));
    for at in [0, 1, 4095, 4096, 30_000, bytes.len() - 1] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert_ne!(mark, marks.of_block(&whole(), NUMBER, &other), "{at}");
    }
    // Zeros are not a hole, and where a hole is makes a difference.
    let zeros = vec![0; BLOCK as usize];
    let holes: Vec<Vec<(u64, u64)>> = vec![
        vec![],
        whole(),
        vec![(START, START + 4096)],
        vec![(START + 4096, START + 8192)],
        vec![(START, START + 2048), (START + 2048, START + 4096)],
        vec![(START, START + 4096), (START + 8192, START + BLOCK)],
    ];
    let seen: Vec<Mark> = holes
        .iter()
        .map(|pieces| marks.of_block(pieces, NUMBER, &zeros))
        .collect();
    for (at, mark) in seen.iter().enumerate() {
        assert!(!seen[..at].contains(mark), "{:?}", holes[at]);
    }
}

#[test]
fn a_change_shows_in_its_piece_only() {
    let (marks, bytes) = (marks(), bytes());
    let before = marks.of_pieces(&whole(), NUMBER, &bytes);
    let mut other = bytes;
    other[5 * PIECE + 17] ^= 0x80;
    let after = marks.of_pieces(&whole(), NUMBER, &other);
    for (at, (before, after)) in before.iter().zip(after.iter()).enumerate() {
        assert_eq!(before != after, at == 5, "{at}");
    }
}

#[test]
fn a_piece_without_data_is_zeros() {
    let (marks, bytes) = (marks(), bytes());
    let prints = marks.of_pieces(&[(START + 4096, START + 8192)], NUMBER, &bytes);
    assert_eq!(prints[0], Mark::default());
    assert_ne!(prints[1], Mark::default());
}

#[test]
fn keys_are_of_each_sender() {
    let bytes = bytes();
    let of = |marks: &Marks| marks.of_block(&whole(), NUMBER, &bytes);
    assert_ne!(of(&marks()), of(&marks()));
    assert_eq!(format!("{:?}", marks()), "Marks(..)");
}
