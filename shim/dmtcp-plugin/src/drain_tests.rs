use super::{begin, end, poll, time_of_day};
use libc::timeval;

fn after(time: (i64, i64)) -> (i64, i64) {
    let mut time = timeval {
        tv_sec: time.0,
        tv_usec: time.1,
    };
    time_of_day(&mut time);
    (time.tv_sec, time.tv_usec)
}

/// Waits with nothing to come; how long it was told to.
fn waits(timeout: i32) -> i32 {
    let mut told = 0;
    let result = poll(timeout, |wait| {
        told = wait;
        0
    });
    assert_eq!(result, 0);
    told
}

// One test: the state is the process's.
#[test]
fn only_the_thread_of_a_checkpoint_waits_less() {
    assert_eq!(waits(100), 100);
    assert_eq!(after((5, 999_000)), (5, 999_000));

    begin();
    assert_eq!(poll(100, |_| 3), 3, "news");
    assert_eq!(after((5, 999_000)), (5, 999_000), "nothing was left out");
    assert_eq!(waits(0), 0);
    assert_eq!(waits(-1), -1);
    assert_eq!(waits(100), 1);
    assert_eq!(after((5, 999_000)), (6, 98_000), "99 ms later");
    let other = std::thread::spawn(|| (waits(100), after((5, 0)))).join();
    assert_eq!(other.ok(), Some((100, (5, 0))), "another thread");
    assert_eq!(waits(100), 2);
    for expected in [4, 8, 16, 32, 64, 100, 100] {
        assert_eq!(waits(100), expected);
    }
    end();
    assert_eq!(waits(100), 100);
    assert_eq!(after((5, 0)), (5, 0));

    begin();
    assert_eq!(waits(100), 1, "each checkpoint begins anew");
    end();
}
