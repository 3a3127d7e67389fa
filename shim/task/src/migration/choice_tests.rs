use super::*;

#[test]
fn wishes_are_read() {
    assert_eq!("auto".parse(), Ok(Wish::Auto));
    assert_eq!("criu".parse(), Ok(Wish::Only(EngineKind::Criu)));
    assert_eq!("dmtcp".parse(), Ok(Wish::Only(EngineKind::Dmtcp)));
    assert_eq!("none".parse(), Ok(Wish::None));
    let problem = Wish::from_str("CRIU").unwrap_err();
    assert!(
        problem.contains("CRIU") && problem.contains("dmtcp"),
        "{problem}"
    );
}

#[test]
fn the_node_has_a_default() {
    let of = Wish::of_node;
    assert_eq!(of(""), Wish::Auto);
    assert_eq!(
        of("node_name = \"a\"\nengine = \"criu\" # always\n"),
        Wish::Only(EngineKind::Criu)
    );
    assert_eq!(of("engine='none'"), Wish::None);
    // Another table's key, and values that are none.
    assert_eq!(of("[migration]\nengine = \"none\"\n"), Wish::Auto);
    assert_eq!(of("engine = 7\n"), Wish::Auto);
    assert_eq!(of("# engine = \"none\"\n"), Wish::Auto);
}
