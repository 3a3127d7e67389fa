use super::*;

#[test]
fn only_flags_that_matter_are_compared() {
    let text = "processor : 0\nflags\t\t: fpu avx2 sse4_2 constant_tsc avx2\n";
    assert_eq!(chosen(text), ["avx2", "sse4_2"]);
    assert!(chosen("").is_empty());
}
