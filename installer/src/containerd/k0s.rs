//! k0s: merges `/etc/k0s/containerd.d/*.toml` into what it generates, as long
//! as `/etc/k0s/containerd.toml` carries its mark.

use super::block::Inherited;
use super::edit::drop_in;
use super::plain::{plan_file, read};
use super::tree::{has_handler, parse, version};
use super::{DROP_IN, Handler, Plan, Wanted};
use crate::error::{Error, Result};
use crate::root::Root;

const CONFIG: &str = "/etc/k0s/containerd.toml";
const DROP_INS: &str = "/etc/k0s/containerd.d";
const GENERATED: &str = "/run/k0s/containerd-cri.toml";
const MARK: &str = "k0s_managed=true";

pub(super) fn plan(root: &Root, handler: &Handler, asked: Option<u32>) -> Result<Plan> {
    let config = root.follow(CONFIG).and_then(|path| read(root, &path))?;
    if let Some(text) = &config
        && !text.contains(MARK)
    {
        return plan_file(root, CONFIG, handler, asked.unwrap_or(2));
    }
    let own = format!("{DROP_INS}/{DROP_IN}");
    let mut number = asked;
    let mut inherited = Inherited::default();
    let mut seen = vec![GENERATED.to_owned(), CONFIG.to_owned()];
    let names = root.list(DROP_INS)?;
    seen.extend(
        names
            .iter()
            .filter(|name| super::has_extension(name, "toml") && *name != DROP_IN)
            .map(|name| format!("{DROP_INS}/{name}")),
    );
    // Only a reader of the merged file knows what a pod gets under `runc`.
    for path in seen {
        let Some(text) = root.follow(&path).and_then(|path| read(root, &path))? else {
            continue;
        };
        let doc = parse(&path, &text)?;
        if path != GENERATED && has_handler(&doc) {
            return Ok(Plan {
                files: Vec::new(),
                notes: vec![format!("{path} already defines the handler")],
            });
        }
        let found = version(&path, &doc)?;
        number = number.or(found);
        if path == GENERATED {
            inherited = Inherited::from(&doc, found.unwrap_or(2));
        }
    }
    let number = number.ok_or_else(|| Error::ConfigVersion {
        path: own.clone(),
        problem: "cannot tell whether this k0s has containerd 1.7 (version 2) or 2.x (version 3), \
                  and a wrong version keeps containerd from starting; start k0s once before, or \
                  pass --config-version 2 or 3"
            .to_owned(),
    })?;
    Ok(Plan {
        files: vec![Wanted {
            path: own,
            // k0s merges, so its own runc stays.
            text: drop_in(number, handler, &inherited, false),
        }],
        notes: vec!["k0s merges the drop-in at its next start".to_owned()],
    })
}

pub(super) fn files() -> Vec<String> {
    vec![
        format!("{DROP_INS}/{DROP_IN}"),
        GENERATED.to_owned(),
        CONFIG.to_owned(),
    ]
}
