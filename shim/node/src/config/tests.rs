use std::path::Path;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("c.toml")).map_err(|error| error.to_string())
}

#[test]
fn documented_defaults_are_the_defaults() {
    assert_eq!(parse(DOCUMENTED), Ok(Config::default()));
    assert_eq!(parse(""), Ok(Config::default()));
}

#[test]
fn every_key_is_documented_with_a_comment() {
    let lines: Vec<&str> = DOCUMENTED.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(lines[at - 1].starts_with('#'), "{line} has no comment");
        }
    }
}

#[test]
fn completes_what_depends_on_the_machine() {
    let config = Config::default().completed(Some("/tmp/run".into()), "node-a");
    assert_eq!(config.node_name, "node-a");
    assert_eq!(config.advertise, "node-a:7843");
    assert_eq!(config.journal_dir, Path::new("/var/lib/mycedrive/journal"));
    assert_eq!(config.image_dir, Path::new("/tmp/run/images"));
    assert_eq!(config.node_socket(), Path::new("/tmp/run/node.sock"));
}

#[test]
fn errors_name_file_line_key_and_what_is_allowed() {
    let unknown = parse("listen = \"0.0.0.0:1\"\nlisten_on = \"x\"\n").unwrap_err();
    assert!(unknown.starts_with("c.toml:2: listen_on:"), "{unknown}");
    assert!(unknown.contains("expected one of"), "{unknown}");
    assert!(unknown.contains("\"node_name\""), "{unknown}");

    let policy = parse("[migration]\n\nlink_lost = \"dunno\"\n").unwrap_err();
    assert!(
        policy.starts_with("c.toml:3: migration.link_lost:"),
        "{policy}"
    );
    assert!(policy.contains("prefer-source"), "{policy}");

    let time = parse("[migration]\nmax_downtime = \"fast\"\n").unwrap_err();
    assert!(
        time.starts_with("c.toml:2: migration.max_downtime:"),
        "{time}"
    );
    assert!(time.contains("300ms"), "{time}");

    let listen = parse("listen = \"localhost\"").unwrap_err();
    assert!(listen.contains("c.toml:1: listen:"), "{listen}");
    assert!(listen.contains("0.0.0.0:7843"), "{listen}");

    let path = parse("run_dir = \"run\"").unwrap_err();
    assert!(
        path.contains("run_dir") && path.contains("absolute"),
        "{path}"
    );

    let prefix = parse("dmtcp_prefix = \"dmtcp\"").unwrap_err();
    assert!(prefix.contains("dmtcp_prefix"), "{prefix}");
    assert_eq!(parse("").unwrap().dmtcp_prefix(), None);

    let syntax = parse("listen = \n").unwrap_err();
    assert!(syntax.starts_with("c.toml:1"), "{syntax}");

    let number = parse("[migration]\nmax_rounds = -1\n").unwrap_err();
    assert!(
        number.contains("c.toml:2: migration.max_rounds"),
        "{number}"
    );
}

#[test]
fn a_named_file_must_exist() {
    let missing = Config::load(Some(Path::new("/nonexistent/c.toml"))).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/c.toml"));
}

/// `MYCEDRIVE_UPDATE_DOCS=1 cargo test -p mycedrive-node documentation` writes it anew.
#[test]
fn documentation_is_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = markdown(DOCUMENTED);
    if std::env::var_os("MYCEDRIVE_UPDATE_DOCS").is_some() {
        fs::write(&file, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), page);
}
