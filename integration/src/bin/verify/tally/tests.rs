use super::Tally;

const OUTPUT: &str = "\
running 3 tests
test one ... ok
test two ... ok

successes:

---- two stdout ----
noise
skipped: not root
skipped: not root


successes:
    one
    two

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s

running 2 tests
test three ... FAILED

failures:

---- three stdout ----
thread panicked

test result: FAILED. 0 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";

#[test]
fn adds_up_and_hides_the_noise_of_success() {
    let mut tally = Tally::default();
    let shown: Vec<&str> = OUTPUT.lines().filter_map(|line| tally.read(line)).collect();
    assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
    assert!(!shown.contains(&"noise"));
    assert!(shown.contains(&"thread panicked"));
}
