//! k3s and RKE2: the configuration is generated at each start.
//!
//! With containerd 2 they use `config-v3.toml.tmpl`, else `config.toml.tmpl`
//! with the version 2 schema; with containerd 1.7 only the latter. Newer ones
//! also import `config-v3.toml.d/*.toml`; the generated file says so.

use super::block::Inherited;
use super::edit::{drop_in, template};
use super::plain::read;
use super::tree::{has_handler, parse, version};
use super::{DROP_IN, Distribution, Handler, Plan, Wanted, imports};
use crate::error::Result;
use crate::root::Root;

const BASE: &str = "{{ template \"base\" . }}\n";

fn dir(distribution: Distribution) -> &'static str {
    match distribution {
        Distribution::Rke2 => "/var/lib/rancher/rke2/agent/etc/containerd",
        _ => "/var/lib/rancher/k3s/agent/etc/containerd",
    }
}

fn template_path(distribution: Distribution, version: u32) -> String {
    let name = if version >= 3 {
        "config-v3.toml.tmpl"
    } else {
        "config.toml.tmpl"
    };
    format!("{}/{name}", dir(distribution))
}

pub(super) fn plan(
    root: &Root,
    distribution: Distribution,
    handler: &Handler,
    asked: Option<u32>,
) -> Result<Plan> {
    let mut plan = Plan::default();
    let generated = format!("{}/config.toml", dir(distribution));
    let mut versions: Vec<u32> = asked.into_iter().collect();
    if let Some(text) = root.follow(&generated).and_then(|path| read(root, &path))? {
        let doc = parse(&generated, &text)?;
        let number = version(&generated, &doc)?.unwrap_or(2);
        let drop_in_dir =
            imports::directory_for(&imports::patterns(&doc, &generated, number), DROP_IN);
        if let Some(dir) = drop_in_dir.filter(|_| number >= 3 && asked.is_none()) {
            let path = format!("{dir}/{DROP_IN}");
            // A handler that comes from a template stays there.
            if root.is_file(&path) || !has_handler(&doc) {
                let inherited = Inherited::from(&doc, number);
                plan.files.push(Wanted {
                    path,
                    text: drop_in(number, handler, &inherited, false),
                });
                return Ok(plan);
            }
        }
        if versions.is_empty() {
            versions.push(number);
        }
    }
    if versions.is_empty() {
        // Never started. Templates that are there decide; without one, both
        // are written: a new release takes the first, an old one the second.
        versions = [3, 2]
            .into_iter()
            .filter(|version| root.is_file(&template_path(distribution, *version)))
            .collect();
        if versions.is_empty() {
            versions = vec![3, 2];
        }
    }
    for version in versions {
        let path = root.follow(&template_path(distribution, version))?;
        let text = read(root, &path)?.unwrap_or_else(|| BASE.to_owned());
        match template(&text, version, handler) {
            Some(text) => plan.files.push(Wanted { path, text }),
            None => plan.notes.push(format!(
                "{path} already defines the handler; make sure that it sets pod_annotations"
            )),
        }
    }
    plan.notes.push(format!(
        "{} generates its containerd configuration at its next start",
        distribution.name()
    ));
    Ok(plan)
}

pub(super) fn files(distribution: Distribution) -> Vec<String> {
    let dir = dir(distribution);
    vec![
        format!("{dir}/config-v3.toml.d/{DROP_IN}"),
        template_path(distribution, 3),
        template_path(distribution, 2),
        format!("{dir}/config.toml"),
    ]
}
