//! Links of several rates, as a sender sees them.

use std::time::Duration;

use super::{Adapter, Level};

const MILLISECOND: Duration = Duration::from_millis(1);
const BLOCK: u64 = 200_000;

/// So many blocks, each with so many milliseconds of work and of waiting.
fn after(blocks: usize, from: Level, compressing: u32, waiting: u32) -> Level {
    let mut adapter = Adapter::new(from);
    let mut level = from;
    for _ in 0..blocks {
        level = adapter.next(BLOCK, MILLISECOND * compressing, MILLISECOND * waiting);
    }
    level
}

#[test]
fn a_slow_link_gets_dense_blocks() {
    // 200 kB in 400 ms: 4 Mbit/s.
    assert_eq!(after(2, Level::Fast, 1, 399), Level::Dense);
    // 200 kB in 16 ms: 100 Mbit/s.
    assert_eq!(after(2, Level::Fast, 1, 15), Level::Light);
}

#[test]
fn a_fast_link_that_is_waited_for_gets_fast_blocks() {
    // 200 kB in 2 ms: 100 MB/s.
    for from in [Level::Stored, Level::Fast, Level::Light, Level::Dense] {
        assert_eq!(after(20, from, 0, 2), Level::Fast, "from {from:?}");
    }
}

#[test]
fn blocks_that_keep_the_link_waiting_become_lighter_step_by_step() {
    assert_eq!(after(15, Level::Dense, 20, 0), Level::Dense);
    assert_eq!(after(16, Level::Dense, 20, 0), Level::Light);
    assert_eq!(after(32, Level::Dense, 20, 0), Level::Fast);
    assert_eq!(after(90, Level::Dense, 20, 0), Level::Stored);
}

#[test]
fn queues_that_take_the_first_bytes_do_not_pass_for_a_fast_link() {
    let mut adapter = Adapter::new(Level::Light);
    for _ in 0..10 {
        assert_eq!(
            adapter.next(BLOCK, MILLISECOND, Duration::ZERO),
            Level::Light
        );
    }
    // Now they are full: 200 kB in 300 ms.
    adapter.next(BLOCK, MILLISECOND, MILLISECOND * 300);
    assert_eq!(
        adapter.next(BLOCK, MILLISECOND, MILLISECOND * 300),
        Level::Dense
    );
}

#[test]
fn a_level_that_fits_stays() {
    assert_eq!(after(50, Level::Light, 8, 8), Level::Light);
}
