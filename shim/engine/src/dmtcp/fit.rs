//! Whether DMTCP can carry a container's program, and which libraries the image lacks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::fatal;
use super::installed::{Installation, needs_glibc, others};
use crate::preflight::elf::{self, Elf};
use crate::preflight::image::{Image, node_library};
use crate::preflight::program::Program;
use crate::spec;

/// Programs that run under DMTCP but do not survive a checkpoint, or cannot be restored from it, by
/// the name of the file.
const KNOWN: [(&str, &str); 5] = [
    (
        "nginx",
        "its workers inherit sockets and memory that DMTCP does not restore",
    ),
    (
        "postgres",
        "its processes share memory in a way that DMTCP does not restore",
    ),
    (
        "beam.smp",
        "Erlang's runtime does not survive DMTCP's signals",
    ),
    (
        "java",
        "DMTCP writes an image of the Java virtual machine that it cannot restore",
    ),
    (
        "postmaster",
        "its processes share memory in a way that DMTCP does not restore",
    ),
];

/// A program that can be carried.
#[derive(Debug)]
pub(super) struct Fit {
    /// Libraries of the node that the container needs, by the name they are asked for.
    pub libraries: BTreeMap<String, PathBuf>,
    /// The program's name.
    pub name: String,
    /// The image's glibc.
    pub glibc: (u32, u32),
    /// What the program is known by.
    pub digest: String,
}

/// Reads the program of a spec in its mounted root file system. The error says why not.
pub(super) fn fit(spec: &Value, root: &Path, installed: &Installation) -> Result<Fit, String> {
    namespaces(spec)?;
    let image = Image::open(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let program = Program::of(spec, &image)?;
    loadable(&program)?;
    if let Some(reason) = fatal::reason(&program.digest) {
        return Err(reason);
    }
    let name = program.name();
    if let Some(reason) = known(&name) {
        return Err(format!("{name}: {reason}"));
    }
    let libc = image
        .library("libc.so.6")
        .and_then(|file| Elf::read(file).ok())
        .ok_or("no glibc was found in its image")?;
    let have = elf::glibc(&libc.defines).unwrap_or((0, 0));
    enough_glibc(have, installed.glibc, "DMTCP as installed here")?;
    Ok(Fit {
        libraries: libraries(&image, installed, have)?,
        name,
        glibc: have,
        digest: program.digest,
    })
}

/// Why a program of this name would not survive a checkpoint, if that is known.
pub(super) fn known(name: &str) -> Option<&'static str> {
    let of_name = KNOWN.iter().find(|(known, _)| *known == name);
    of_name.map(|(_, reason)| *reason)
}

fn namespaces(spec: &Value) -> Result<(), String> {
    if spec::namespace(spec, "pid") != Some(None) {
        return Err("it has no pid namespace of its own".to_owned());
    }
    if spec::namespace(spec, "network").is_none() {
        return Err("it uses the host's network".to_owned());
    }
    if spec::namespace(spec, "user").is_some() {
        return Err("it has a user namespace".to_owned());
    }
    Ok(())
}

/// What the loader must do for DMTCP: preload its library.
fn loadable(program: &Program) -> Result<(), String> {
    let path = program.path.display();
    if program.elf.machine != elf::own_machine() {
        return Err(format!("{path} is made for another kind of processor"));
    }
    if program.elf.go {
        return Err(format!(
            "{path} is a Go program, which calls the kernel past the C library"
        ));
    }
    let Some(loader) = &program.elf.interpreter else {
        return Err(format!(
            "{path} is statically linked, so nothing can be preloaded"
        ));
    };
    if loader.contains("musl") {
        return Err(format!("{path} uses musl; DMTCP needs glibc"));
    }
    if program.privileged {
        return Err(format!(
            "{path} gives rights to those who run it, so the loader ignores preloads"
        ));
    }
    Ok(())
}

fn enough_glibc(have: (u32, u32), want: (u32, u32), who: &str) -> Result<(), String> {
    if have >= want {
        return Ok(());
    }
    Err(format!(
        "its image has glibc {}.{}; {who} needs {}.{}",
        have.0, have.1, want.0, want.1
    ))
}

/// Those of DMTCP's libraries that the image does not have, or has too old.
fn libraries(
    image: &Image,
    installed: &Installation,
    glibc: (u32, u32),
) -> Result<BTreeMap<String, PathBuf>, String> {
    let places = [installed.prefix.join("lib"), installed.prefix.join("lib64")];
    let mut wanted: Vec<(String, BTreeSet<String>)> =
        installed.libraries.clone().into_iter().collect();
    let mut found = BTreeMap::new();
    while let Some((name, versions)) = wanted.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let own = image.library(&name).and_then(|file| Elf::read(file).ok());
        if own
            .as_ref()
            .is_some_and(|own| own.defines.is_superset(&versions))
        {
            continue;
        }
        let path = node_library(&name, &places).ok_or_else(|| {
            format!("neither its image nor this node has {name}, which DMTCP needs")
        })?;
        let library = File::open(&path)
            .and_then(Elf::read)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        enough_glibc(
            glibc,
            needs_glibc(&library),
            &format!("{name} of this node"),
        )?;
        // The program may use it too, and must find in it all that its own has.
        if own.is_some_and(|own| !library.defines.is_superset(&own.defines)) {
            return Err(format!(
                "its image's {name} and this node's do not replace each other"
            ));
        }
        wanted.extend(others(&library));
        found.insert(name, path);
    }
    Ok(found)
}
