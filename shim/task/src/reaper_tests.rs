use super::{ended, exited, expect, table, watch};

// Pids above the kernel's maximum, so that no real process is meant.
const EARLY: i32 = 0x4100_0001;
const LATE: i32 = 0x4100_0002;
const NOBODY: i32 = 0x4100_0003;

#[tokio::test]
async fn an_exit_before_the_pid_is_known_is_kept() {
    let expecting = expect();
    ended(EARLY, 7);
    let exit = exited(watch(EARLY)).await;
    assert_eq!(exit.code, 7);
    drop(expecting);
}

#[tokio::test]
async fn an_exit_reaches_all_watchers() {
    let (first, second) = (watch(LATE), watch(LATE));
    ended(LATE, 137);
    assert_eq!(exited(first).await.code, 137);
    assert_eq!(exited(second).await.code, 137);
}

#[tokio::test]
async fn exits_nobody_expects_are_forgotten() {
    {
        let _expecting = expect();
        ended(NOBODY, 1);
    }
    // Another test may hold an Expecting; then the entry may still be there.
    let table = table();
    assert!(table.expecting > 0 || !table.unclaimed.contains_key(&NOBODY));
}
