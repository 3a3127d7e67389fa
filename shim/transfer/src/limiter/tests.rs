use std::time::{Duration, Instant};

use super::{BURST, Limiter};

#[test]
fn the_rate_holds_over_time() {
    let limiter = Limiter::new(1_000_000);
    let start = Instant::now() + Duration::from_secs(1);
    let mut now = start;
    for _ in 0..100 {
        now += limiter.reserve(20_000, now);
    }
    let took = now - start;
    assert!(took + BURST >= Duration::from_secs(2), "{took:?}");
    assert!(took <= Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_pause_gives_one_burst_only() {
    let limiter = Limiter::new(1_000_000);
    let now = Instant::now() + Duration::from_secs(3600);
    assert_eq!(limiter.reserve(50_000, now), Duration::ZERO);
    assert_eq!(limiter.reserve(100_000, now), Duration::from_millis(100));
}

#[test]
fn clones_share_the_limit() {
    let limiter = Limiter::new(1_000);
    let now = Instant::now() + Duration::from_secs(10);
    limiter.reserve(1_000, now);
    assert!(limiter.clone().reserve(1, now) >= Duration::from_millis(900));
}
