//! The `imports` of a configuration file.

use toml_edit::{DocumentMut, Item, Value};

use super::tree::get;
use crate::root::Root;

/// Patterns of a file's `imports`, made absolute. containerd 1.x looks for a
/// relative pattern with wildcards in its working directory, so in files that
/// 1.x can read (version 2) such a pattern does not count.
pub fn patterns(doc: &DocumentMut, file: &str, version: u32) -> Vec<String> {
    let dir = file.rsplit_once('/').map_or("", |(dir, _)| dir);
    get(doc, &["imports"])
        .and_then(Item::as_array)
        .map(|list| {
            list.iter()
                .filter_map(Value::as_str)
                .filter(|pattern| {
                    version >= 3 || pattern.starts_with('/') || !pattern.contains('*')
                })
                .map(|pattern| {
                    if pattern.starts_with('/') {
                        pattern.to_owned()
                    } else {
                        format!("{dir}/{pattern}")
                    }
                })
                .collect()
        })
        .unwrap_or_default()
}

/// The directory in which a file called `name` would be imported, if the
/// patterns have one. A pattern with a wildcard in a directory is not used.
pub fn directory_for(patterns: &[String], name: &str) -> Option<String> {
    patterns.iter().find_map(|pattern| {
        let (dir, last) = pattern.rsplit_once('/')?;
        let plain = !dir.is_empty() && !dir.contains(['*', '?', '[', '\\']);
        let safe = !dir.split('/').any(|part| part == ".." || part == ".");
        (plain && safe && last.contains(['*', '?']) && matches(last, name)).then(|| dir.to_owned())
    })
}

/// The files that the patterns name now, in containerd's order.
pub fn files(root: &Root, patterns: &[String]) -> Vec<String> {
    let mut files = Vec::new();
    for pattern in patterns {
        let Some((dir, last)) = pattern.rsplit_once('/') else {
            continue;
        };
        for name in root.list(dir).unwrap_or_default() {
            let path = format!("{dir}/{name}");
            if matches(last, &name) && root.is_file(&path) && !files.contains(&path) {
                files.push(path);
            }
        }
    }
    files
}

/// Shell-like match of one file name; only `*` and `?` are special.
fn matches(pattern: &str, name: &str) -> bool {
    fn go(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                go(&pattern[1..], name) || (!name.is_empty() && go(pattern, &name[1..]))
            }
            (Some(b'?'), Some(_)) => go(&pattern[1..], &name[1..]),
            (Some(wanted), Some(found)) if wanted == found => go(&pattern[1..], &name[1..]),
            _ => false,
        }
    }
    // Bounded: a hostile pattern must not cost exponential time.
    pattern.bytes().filter(|b| *b == b'*').count() <= 4 && go(pattern.as_bytes(), name.as_bytes())
}

#[cfg(test)]
mod tests;
