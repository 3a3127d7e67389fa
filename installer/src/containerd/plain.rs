//! containerd as a service of its own.

use super::block::Inherited;
use super::edit::{Unsaid, add_handler, drop_in};
use super::tree::{cri_disabled, has_handler, parse, plugin, runtime, version};
use super::{DROP_IN, HANDLER, Handler, Plan, Wanted, imports, tree};
use crate::error::Result;
use crate::root::{CONFIG_LIMIT, Root};
use crate::versions::Versions;

const CONFIG: &str = "/etc/containerd/config.toml";
const CONF_D: &str = "/etc/containerd/conf.d";

pub(super) fn plan(
    root: &Root,
    handler: &Handler,
    asked: Option<u32>,
    versions: Versions,
) -> Result<Plan> {
    let fresh = asked.unwrap_or(match versions.containerd_major {
        Some(major) if major >= 2 => 3,
        // Version 2 is read by every containerd from 1.3 to 2.x.
        _ => 2,
    });
    plan_file(root, CONFIG, handler, fresh)
}

/// Plans the handler for a main configuration file at `config`.
pub(super) fn plan_file(root: &Root, config: &str, handler: &Handler, fresh: u32) -> Result<Plan> {
    let main = root.follow(config)?;
    let Some(text) = read(root, &main)? else {
        return Ok(Plan {
            files: vec![Wanted {
                text: add_handler(&main, &new_file(root, fresh), handler, Unsaid::New(fresh))?,
                path: main,
            }],
            notes: vec![format!(
                "{config} did not exist; it now has version {fresh}"
            )],
        });
    };
    let doc = parse(&main, &text)?;
    let mut notes = Vec::new();
    if cri_disabled(&doc) {
        notes.push(format!(
            "{config} switches CRI off (disabled_plugins): Kubernetes cannot use this containerd \
             until that is removed"
        ));
    }
    let number = version(&main, &doc)?;
    let patterns = imports::patterns(&doc, config, number.unwrap_or(2));
    let in_main = [2, 3].iter().any(|v| runtime(&doc, *v, HANDLER).is_some());
    match number {
        Some(number) if number >= 3 && !in_main => {
            if let Some(dir) = imports::directory_for(&patterns, DROP_IN) {
                let wanted = drop_in_file(root, &dir, &doc, number, handler, &patterns)?;
                return Ok(Plan {
                    files: vec![wanted],
                    notes,
                });
            }
        }
        Some(2) if !in_main => {
            // containerd 1.x takes the plugin's whole section from the last
            // imported file that has one; that is where the handler must be.
            if let Some(path) = last_with_plugin(root, &patterns)? {
                let text = read(root, &path)?.unwrap_or_default();
                notes.push(format!(
                    "{config} imports {path}, which has the CRI section that counts"
                ));
                return Ok(Plan {
                    files: vec![Wanted {
                        text: add_handler(&path, &text, handler, Unsaid::Imported(2))?,
                        path,
                    }],
                    notes,
                });
            }
        }
        _ => {}
    }
    Ok(Plan {
        files: vec![Wanted {
            text: add_handler(&main, &text, handler, Unsaid::New(fresh))?,
            path: main,
        }],
        notes,
    })
}

/// A drop-in; where another imported file already defines the handler, that
/// file is completed instead.
fn drop_in_file(
    root: &Root,
    dir: &str,
    main: &toml_edit::DocumentMut,
    number: u32,
    handler: &Handler,
    patterns: &[String],
) -> Result<Wanted> {
    let own = format!("{dir}/{DROP_IN}");
    let mut inherited = Inherited::from(main, number);
    for path in imports::files(root, patterns) {
        if path == own {
            continue;
        }
        let path = root.follow(&path)?;
        let Some(text) = read(root, &path)? else {
            continue;
        };
        let doc = parse(&path, &text)?;
        if has_handler(&doc) {
            return Ok(Wanted {
                text: add_handler(&path, &text, handler, Unsaid::Imported(number))?,
                path,
            });
        }
        if runtime(&doc, number, "runc").is_some() {
            inherited = Inherited::from(&doc, number);
        }
    }
    Ok(Wanted {
        path: own,
        text: drop_in(number, handler, &inherited, false),
    })
}

fn last_with_plugin(root: &Root, patterns: &[String]) -> Result<Option<String>> {
    let mut found = None;
    for path in imports::files(root, patterns) {
        let path = root.follow(&path)?;
        if let Some(text) = read(root, &path)? {
            let doc = parse(&path, &text)?;
            if tree::get(&doc, &["plugins", plugin(2)]).is_some() {
                found = Some(path);
            }
        }
    }
    Ok(found)
}

fn new_file(root: &Root, fresh: u32) -> String {
    let imports = if fresh >= 3 && root.is_dir(CONF_D) {
        format!("imports = [\"{CONF_D}/*.toml\"]\n")
    } else {
        String::new()
    };
    format!("# Written by mycedrive-installer.\nversion = {fresh}\n{imports}")
}

/// The text of a configuration file; `None` if it is absent.
pub(crate) fn read(root: &Root, path: &str) -> Result<Option<String>> {
    Ok(root.read(path, CONFIG_LIMIT)?.map(|bytes| {
        String::from_utf8(bytes).unwrap_or_else(|error| {
            // Not UTF-8: the parser refuses it with the place.
            String::from_utf8_lossy(error.as_bytes()).into_owned() + "\n= not UTF-8"
        })
    }))
}

pub(super) fn files(root: &Root) -> Vec<String> {
    let mut files = vec![CONFIG.to_owned()];
    if let Ok(Some(text)) = root.follow(CONFIG).and_then(|path| read(root, &path))
        && let Ok(doc) = parse(CONFIG, &text)
    {
        files.extend(imports::files(root, &imports::patterns(&doc, CONFIG, 3)));
    }
    files
}
