//! `mycedrive restore` and `mycedrive inspect`.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use super::args::KeyFile;
use super::output::{json, line, print};
use crate::archive::sealed::{Key, KeyError, Protection};
use crate::archive::store::Store;
use crate::archive::{Archive, ArchiveError, Contents, source};
use crate::config::Config;
use crate::destination::{fits, restore_annotation};
use crate::error::{Error, Result};
use crate::units::show_bytes;

/// Who can read a new archive, of the command's options.
pub(super) fn protection(
    recipients: Vec<String>,
    passphrase_file: Option<&Path>,
) -> Result<Protection> {
    match passphrase_file {
        Some(path) => read(path, Protection::passphrase),
        None if recipients.is_empty() => Ok(Protection::None),
        None => {
            let protection = Protection::Recipients(recipients);
            // Here already: what was given by mistake is not sent on.
            let checked = protection.check();
            checked.map_err(|problem| Error::Refused(problem.to_string()))?;
            Ok(protection)
        }
    }
}

/// What opens an archive, of the command's options.
fn key(files: &KeyFile) -> Result<Option<Key>> {
    match (&files.identity, &files.passphrase_file) {
        (Some(path), _) => read(path, Key::identities).map(Some),
        (None, Some(path)) => read(path, Key::passphrase).map(Some),
        (None, None) => Ok(None),
    }
}

/// Reads a key's file, which may be a pipe.
fn read<T>(path: &Path, parse: fn(File) -> std::result::Result<T, KeyError>) -> Result<T> {
    let file = File::open(path).map_err(KeyError::Read);
    file.and_then(parse).map_err(|problem| Error::Key {
        path: path.to_owned(),
        problem,
    })
}

/// An error about a file.
fn of(file: &Path) -> impl FnOnce(ArchiveError) -> Error {
    let path = file.to_owned();
    move |problem| Error::Archive { path, problem }
}

/// Reads a whole archive and stores nothing.
fn survey(file: &Path, key: Option<&Key>) -> Result<Contents> {
    Archive::open(file, key)
        .and_then(Archive::survey)
        .map_err(of(file))
}

/// Shows what is in an archive.
pub(super) fn inspect(file: &Path, key_file: &KeyFile, as_json: bool) -> Result<()> {
    let contents = survey(file, key(key_file)?.as_ref())?;
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
    key_file: &KeyFile,
) -> Result<()> {
    let key = key(key_file)?;
    let contents = survey(file, key.as_ref())?;
    fits(config, &contents.header.manifest()).await?;
    let namespace = namespace.unwrap_or_else(|| contents.header.namespace.clone());
    let name = match name {
        Some(name) => name,
        None => file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
    };
    let mut archive = source(file, key.as_ref()).map_err(of(file))?;
    let path = Store::of(config, &namespace)?.take(&mut archive, &name)?;
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
    let mut needs = vec![header.architecture.clone()];
    if header.uses("criu") {
        needs.push(format!("CRIU {} or newer", header.criu_version));
    }
    if header.uses("dmtcp") {
        needs.push(format!("DMTCP {}", header.dmtcp_version));
    }
    needs.push(format!("CPU with {}", header.cpu_features.join(" ")));
    add("needs", &needs.join(", "));
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
