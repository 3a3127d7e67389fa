//! `docs/configuration.md`, made from the documented defaults.

use std::fmt::Write as _;

/// The page for people: a section for each table, a row for each key. `documented` is
/// `default.toml`: comments, then the key they are about.
pub fn markdown(documented: &str) -> String {
    let mut page = String::from(
        "# Configuration of the node daemon\n\n\
         `/etc/mycedrive/config.toml`. Every key is optional, unknown keys are errors. \
         `mycedrive config` prints this as a file to start from, `mycedrive config --check` checks \
         one. This page is made from `shim/node/src/default.toml`; a test keeps it up to date.\n\n\
         In the environment, `MYCEDRIVE_RUN_DIR` comes before `run_dir` and `MYCEDRIVE_LOG` before \
         `log.level`.\n",
    );
    page.push_str("\n## Top level\n");
    heading(&mut page);
    let mut comment: Vec<&str> = Vec::new();
    for line in documented.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some(name) = line.strip_prefix('[') {
            let _ = write!(page, "\n## `[{}]`\n", name.trim_end_matches(']'));
            heading(&mut page);
        } else if let Some((key, value)) = line.split_once(" = ") {
            let _ = writeln!(page, "| `{key}` | `{value}` | {} |", comment.join(" "));
            comment.clear();
        } else {
            comment.clear();
        }
    }
    page
}

fn heading(page: &mut String) {
    page.push_str("\n| key | default | what it does |\n| --- | --- | --- |\n");
}
