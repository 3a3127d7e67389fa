use super::Rng;

#[test]
fn the_sequence_of_a_seed_never_changes() {
    // The published test vector of SplitMix64 for the seed 1234567.
    let mut rng = Rng::new(1_234_567);
    assert_eq!(rng.next(), 6_457_827_717_110_365_317);
    assert_eq!(rng.next(), 3_203_168_211_198_807_973);
}
