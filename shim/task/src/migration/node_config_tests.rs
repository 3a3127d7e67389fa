use super::*;

#[test]
fn keys_of_the_top_level_are_read() {
    let config = "# dmtcp_prefix = \"/no\"\nnode_name = \"a\"\ndmtcp_prefix = '/srv/a = #b' # here\n\
                  [migration]\nmax_downtime = \"1s\"\n";
    assert_eq!(value(config, "node_name"), Some("a"));
    assert_eq!(dmtcp_prefix(config), Some(PathBuf::from("/srv/a = #b")));
    assert_eq!(value(config, "max_downtime"), None);
    assert_eq!(value(config, "listen"), None);
}

#[test]
fn what_is_no_path_is_not_there() {
    for config in [
        "",
        "dmtcp_prefix = \"\"",
        "dmtcp_prefix = 7",
        "dmtcp_prefix = \"dmtcp\"",
        "dmtcp_prefix = \"",
    ] {
        assert_eq!(dmtcp_prefix(config), None, "{config}");
    }
}
