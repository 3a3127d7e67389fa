//! Container images, written as one OCI archive that `ctr images import` reads.
//!
//! All but `pause` share one layer of Debian packages; a small second layer makes their digests differ.
//! Layers are not compressed: they never leave the machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::rootfs::{CACHE, Tree, fingerprint, lock_cache, remove_tree};
use crate::run::{capture, run};
use crate::{Error, Result};

/// Change this when what an image contains changes without a change of packages.
const REVISION: &str = "1";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
/// Parts of packages that no image needs.
const UNUSED: [&str; 6] = [
    "usr/lib/systemd",
    "usr/lib/x86_64-linux-gnu/systemd",
    "usr/share/i18n",
    "usr/share/zoneinfo",
    "var/lib/dpkg",
    "var/cache",
];

/// An image and what it runs by default.
struct Image {
    name: &'static str,
    command: &'static [&'static str],
}

const IMAGES: [Image; 5] = [
    Image {
        name: "pause",
        command: &["/bin/busybox", "sleep", "1000000000"],
    },
    Image {
        name: "busybox",
        command: &["/bin/sleep", "1000000000"],
    },
    Image {
        name: "python",
        command: &["/usr/bin/python3"],
    },
    Image {
        name: "mosquitto",
        command: &["/usr/sbin/mosquitto", "-c", "/etc/mosquitto.conf"],
    },
    Image {
        name: "redis",
        command: &[
            "/usr/bin/redis-server",
            "--protected-mode",
            "no",
            "--save",
            "",
            "--dir",
            "/data",
        ],
    },
];

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

/// The archive with all images, made now if it is not there yet.
pub(crate) fn ensure_archive() -> Result<PathBuf> {
    let tree = Tree::Image.ensure()?;
    let description = IMAGES
        .iter()
        .flat_map(|image| image.command.iter())
        .fold(REVISION.to_owned(), |a, b| a + b);
    let name = format!(
        "{}-{:016x}.oci.tar",
        Tree::Image.cache_name(),
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
    let partial = build(&tree, &scratch)?;
    fs::rename(&partial, &archive).map_err(Error::file("rename", &partial))?;
    remove_tree(&scratch)?;
    Ok(archive)
}

fn build(tree: &Path, scratch: &Path) -> Result<PathBuf> {
    let layout = scratch.join("layout");
    make_dir(&layout.join("blobs/sha256"))?;
    let base = layer(&layout, &base_files(tree, scratch)?)?;
    let mut manifests = Vec::new();
    for image in &IMAGES {
        let own = layer(&layout, &own_files(image, tree, scratch)?)?;
        let layers = if image.name == "pause" {
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

/// Files of the shared layer.
fn base_files(tree: &Path, scratch: &Path) -> Result<PathBuf> {
    let files = scratch.join("base");
    capture(Command::new("cp").args(["-a", "--"]).arg(tree).arg(&files))?.ok()?;
    for unused in UNUSED {
        remove_tree(&files.join(unused))?;
    }
    let applets = run(&path_text(&files.join("usr/bin/busybox")), &["--list"])?.ok()?;
    for applet in applets.lines() {
        let link = files.join("usr/bin").join(applet);
        if !link.exists()
            && !files.join("usr/sbin").join(applet).exists()
            && link.symlink_metadata().is_err()
        {
            symlink("busybox", &link).map_err(Error::file("link", &link))?;
        }
    }
    write(&files.join("etc/passwd"), PASSWD.as_bytes())?;
    write(&files.join("etc/group"), GROUP.as_bytes())?;
    for dir in ["data", "tmp", "root", "var/cache"] {
        make_dir(&files.join(dir))?;
    }
    Ok(files)
}

/// Files of an image's own layer.
fn own_files(image: &Image, tree: &Path, scratch: &Path) -> Result<PathBuf> {
    let files = scratch.join(image.name);
    make_dir(&files.join("etc"))?;
    write(&files.join("etc/image"), image.name.as_bytes())?;
    match image.name {
        "pause" => {
            make_dir(&files.join("bin"))?;
            let target = files.join("bin/busybox");
            fs::copy(tree.join("usr/bin/busybox"), &target)
                .map_err(Error::file("copy to", &target))?;
        }
        "mosquitto" => {
            let config = "listener 1883\nallow_anonymous true\nuser root\npersistence false\n";
            write(&files.join("etc/mosquitto.conf"), config.as_bytes())?;
        }
        _ => {}
    }
    Ok(files)
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
mod tests {
    use super::reference;

    #[test]
    fn short_names_become_full() {
        assert_eq!(reference("redis"), "localhost/redis:1");
        assert_eq!(reference("example/redis:2"), "example/redis:2");
    }
}
