//! Container images, written as one OCI archive that `ctr images import` reads.
//!
//! The images of a set (see [`list`]) share one layer of Debian packages, but for those that need none; a
//! small second layer makes their digests differ. Layers are not compressed: they never leave the machine.

mod files;
mod list;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

pub use list::Images;
use list::{Image, Set};

use crate::rootfs::{CACHE, fingerprint, lock_cache, remove_tree};
use crate::run::{capture, run};
use crate::{Error, Result};

/// Change this when what an image contains changes without a change of packages.
const REVISION: &str = "3";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Full name of one of the images: `redis` gives `localhost/redis:1`; other names stay as they are.
pub(crate) fn reference(name: &str) -> String {
    if name.contains(['/', ':']) {
        name.to_owned()
    } else {
        format!("localhost/{name}:1")
    }
}

/// A layer or other content of the archive.
struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.size })
    }
}

/// The archive with a set's images, made now if it is not there yet.
pub(crate) fn ensure_archive(set: &Set) -> Result<PathBuf> {
    let tree = set.tree.ensure()?;
    let compiled = files::compiled(set)?;
    let description = format!("{REVISION} {:?} {}", set.images, files::SOURCES.concat());
    let name = format!(
        "{}-{:016x}.oci.tar",
        set.tree.cache_name(),
        fingerprint(description.as_bytes())
    );
    let archive = Path::new(CACHE).join(name);
    let _lock = lock_cache()?;
    if archive.is_file() {
        return Ok(archive);
    }
    tracing::info!("making container images");
    let scratch = Path::new(CACHE).join("partial-images");
    remove_tree(&scratch)?;
    let partial = build(set, &tree, compiled.as_deref(), &scratch)?;
    fs::rename(&partial, &archive).map_err(Error::file("rename", &partial))?;
    remove_tree(&scratch)?;
    Ok(archive)
}

fn build(set: &Set, tree: &Path, compiled: Option<&Path>, scratch: &Path) -> Result<PathBuf> {
    let layout = scratch.join("layout");
    make_dir(&layout.join("blobs/sha256"))?;
    let base = layer(&layout, &files::base(tree, scratch)?)?;
    let mut manifests = Vec::new();
    for image in set.images {
        let own = layer(&layout, &files::own(image, tree, compiled, scratch)?)?;
        let layers = if image.alone {
            vec![&own]
        } else {
            vec![&base, &own]
        };
        manifests.push(manifest(&layout, image, &layers)?);
    }
    write(
        &layout.join("oci-layout"),
        json!({ "imageLayoutVersion": "1.0.0" })
            .to_string()
            .as_bytes(),
    )?;
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    write(&layout.join("index.json"), index.to_string().as_bytes())?;
    let archive = scratch.join("images.tar");
    pack(&layout, &archive, &[])?;
    Ok(archive)
}

fn layer(layout: &Path, files: &Path) -> Result<Blob> {
    let archive = layout.join("layer");
    pack(
        files,
        &archive,
        &[
            "--exclude=./dev/*",
            "--exclude=./proc/*",
            "--exclude=./sys/*",
        ],
    )?;
    add_blob(layout, &archive)
}

fn manifest(layout: &Path, image: &Image, layers: &[&Blob]) -> Result<Value> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": image.command,
            "User": image.user,
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| &layer.digest).collect::<Vec<_>>() },
    });
    let config = add_json(layout, &config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG),
        "layers": layers.iter().map(|layer| layer.descriptor(LAYER)).collect::<Vec<_>>(),
    });
    let mut descriptor = add_json(layout, &manifest)?.descriptor(MANIFEST);
    descriptor["annotations"] = json!({ "io.containerd.image.name": reference(image.name) });
    descriptor["platform"] = json!({ "architecture": architecture, "os": "linux" });
    Ok(descriptor)
}

fn add_json(layout: &Path, value: &Value) -> Result<Blob> {
    let file = layout.join("json");
    write(&file, value.to_string().as_bytes())?;
    add_blob(layout, &file)
}

/// Moves a file to its place by digest.
fn add_blob(layout: &Path, file: &Path) -> Result<Blob> {
    let sum = run("sha256sum", &["--", &path_text(file)])?.ok()?;
    let hex = sum.split_whitespace().next().unwrap_or_default().to_owned();
    let size = fs::metadata(file)
        .map_err(Error::file("look at", file))?
        .len();
    let target = layout.join("blobs/sha256").join(&hex);
    fs::rename(file, &target).map_err(Error::file("rename", file))?;
    Ok(Blob {
        digest: format!("sha256:{hex}"),
        size,
    })
}

/// The same tree always gives the same archive.
fn pack(dir: &Path, archive: &Path, options: &[&str]) -> Result<()> {
    let mut command = Command::new("tar");
    command
        .args(["--create", "--numeric-owner", "--sort=name", "--mtime=@0"])
        .args(options);
    command
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(dir)
        .arg(".");
    capture(&mut command)?.ok().map(drop)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    // A package may have a link there, which must not be followed out of the tree.
    let _ = fs::remove_file(path);
    fs::write(path, content).map_err(Error::file("write", path))
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::file("make", path))
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
