use super::*;

#[test]
fn names_are_read_back() {
    let sets = [
        ImageSet::Whole { base: 0 },
        ImageSet::Whole { base: 7 },
        ImageSet::Memory { round: 3, base: 2 },
    ];
    for set in sets {
        assert_eq!(ImageSet::parse(&set.to_string()).unwrap(), set);
    }
}

#[test]
fn other_names_are_refused() {
    for name in [
        "",
        "images/",
        "images/1/2",
        "images/-1",
        "memory/1",
        "memory/1/1",
        "memory/1/2",
        "memory/1/0/0",
        "memory/x/0",
        "memory/4294967296/0",
        "other/1",
    ] {
        assert!(ImageSet::parse(name).is_err(), "{name:?}");
    }
}
