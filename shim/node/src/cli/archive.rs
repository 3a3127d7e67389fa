//! `mycedrive restore` and `mycedrive inspect`.

use std::fmt::Write as _;
use std::path::Path;

use super::output::{json, line, print};
use crate::archive::store::Store;
use crate::archive::{Archive, Contents};
use crate::config::Config;
use crate::destination::{fits, restore_annotation};
use crate::error::{Error, Result};
use crate::units::show_bytes;

/// Reads a whole archive and stores nothing.
fn survey(file: &Path) -> Result<Contents> {
    Archive::open(file)
        .and_then(Archive::survey)
        .map_err(|problem| Error::Archive {
            path: file.to_owned(),
            problem,
        })
}

/// Shows what is in an archive.
pub(super) fn inspect(file: &Path, as_json: bool) -> Result<()> {
    let contents = survey(file)?;
    if as_json {
        json(&contents)
    } else {
        print(&text(&contents))
    }
}

/// Checks an archive and puts it where pods are restored from.
pub(super) async fn restore(
    config: &Config,
    file: &Path,
    namespace: Option<String>,
    name: Option<String>,
) -> Result<()> {
    let contents = survey(file)?;
    fits(config, &contents.header.manifest()).await?;
    let namespace = namespace.unwrap_or_else(|| contents.header.namespace.clone());
    let name = match name {
        Some(name) => name,
        None => file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
    };
    let path = Store::of(config, &namespace)?.take(file, &name)?;
    line(&format!(
        "{} is checked; it is restored by the annotation\n  {}",
        path.display(),
        restore_annotation(&name)
    ))
}

fn text(contents: &Contents) -> String {
    let header = &contents.header;
    let mut text = String::new();
    // Writing to a string does not fail.
    let mut add = |key: &str, value: &str| {
        let _ = writeln!(text, "{key:<24} {value}");
    };
    add("pod", &format!("{}/{}", header.namespace, header.pod));
    add(
        "made",
        &format!("{} s after 1970, on {}", header.created, header.node),
    );
    add(
        "needs",
        &format!(
            "{}, CRIU {} or newer, CPU with {}",
            header.architecture,
            header.criu_version,
            header.cpu_features.join(" ")
        ),
    );
    add("kernel", &header.kernel);
    for container in &header.containers {
        let state = match container.exit_code {
            None => "running".to_owned(),
            Some(code) => format!("ended with {code}"),
        };
        add(
            "container",
            &format!(
                "{}, {state}, {}, image {} {}",
                container.name, container.engine, container.image, container.image_digest
            ),
        );
        add("  allowed", &container.confinement);
    }
    for (name, counts) in &contents.sections {
        let mut what = format!("{}, {} files", show_bytes(counts.bytes), counts.files);
        for (count, of) in [(counts.devices, "devices"), (counts.setuid, "setuid")] {
            if count > 0 {
                let _ = write!(what, ", {count} {of}");
            }
        }
        add(name, &what);
    }
    add("digests", "all right; they do not say who made it");
    text
}
