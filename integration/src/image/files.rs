//! What is in the layers of images.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::list::{Image, Set};
use super::{make_dir, path_text, write};
use crate::rootfs::{CACHE, Tree, fingerprint, lock_cache, remove_tree};
use crate::run::{capture, run};
use crate::{Error, Result};

/// `memcached`, `postgres` and so on are not set up by their packages here.
const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/:/bin/sh
postgres:x:70:70:postgres:/data:/bin/sh
redis:x:999:999:redis:/data:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/sh
";
const GROUP: &str = "root:x:0:\nwww-data:x:33:\npostgres:x:70:\nredis:x:999:\nnogroup:x:65534:\n";

/// Parts of packages that no image needs.
const UNUSED: [&str; 6] = [
    "usr/lib/systemd",
    "usr/lib/x86_64-linux-gnu/systemd",
    "usr/share/i18n",
    "usr/share/zoneinfo",
    "var/lib/dpkg",
    "var/cache",
];

/// Programs that packages do not have under this name: link, pattern of its target.
const LINKS: [(&str, &str); 3] = [
    ("usr/bin/java", "usr/lib/jvm/default-java/bin/java"),
    ("usr/bin/postgres", "usr/lib/postgresql/*/bin/postgres"),
    ("usr/bin/initdb", "usr/lib/postgresql/*/bin/initdb"),
];

const MOSQUITTO: &str = "listener 1883\nallow_anonymous true\nuser root\npersistence false\n";
const NGINX: &str = "\
daemon off;
user www-data www-data;
worker_processes 2;
pid /tmp/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    keepalive_requests 1000000000;
    server {
        listen 8080;
        listen [::]:8080;
        location / { return 200 \"ok\\n\"; }
    }
}
";
const PG_HBA: &str = "local all all trust\nhost all all all trust\n";

const GO: &str = include_str!("programs/counter.go");
const C: &str = include_str!("programs/counter.c");
const JAVA: &str = include_str!("programs/Counter.java");
const NODE: &str = include_str!("programs/counter.js");

/// All of what is compiled or copied from here, for the name of an archive.
pub(super) const SOURCES: [&str; 6] = [GO, C, JAVA, NODE, NGINX, COMPILE];

/// Compiles in /src of the build tree, where no package has made its links.
const COMPILE: &str = "
cd /usr/bin; [ -e ld ] || ln -s *-linux-gnu-ld.bfd ld
cd /src
musl-gcc -static -O2 -Wall -Werror -o counter-musl counter.c
CGO_ENABLED=0 GOCACHE=/tmp/go GO111MODULE=off HOME=/tmp go build -o counter-go counter.go
/usr/lib/jvm/default-java/bin/javac -d . Counter.java
";

/// Directory with the programs that are compiled for a set; `None` if it has none.
pub(super) fn compiled(set: &Set) -> Result<Option<PathBuf>> {
    if set.tree != Tree::Programs {
        return Ok(None);
    }
    let name = format!(
        "compiled-{:016x}",
        fingerprint([GO, C, JAVA, COMPILE].concat().as_bytes())
    );
    let result = Path::new(CACHE).join(name);
    if result.is_dir() {
        return Ok(Some(result));
    }
    let tree = Tree::Build.ensure()?;
    let _lock = lock_cache()?;
    tracing::info!("compiling programs for images");
    let source = tree.join("src");
    remove_tree(&source)?;
    make_dir(&source)?;
    for (name, text) in [("counter.go", GO), ("counter.c", C), ("Counter.java", JAVA)] {
        write(&source.join(name), text.as_bytes())?;
    }
    let script = "mount -t proc proc \"$1/proc\"; exec chroot \"$1\" /bin/sh -euc \"$2\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]);
    command.args(["/bin/sh", "-euc", script, "sh"]);
    command.arg(&tree).arg(COMPILE);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    capture(&mut command)?.ok()?;
    fs::rename(&source, &result).map_err(Error::file("rename", &source))?;
    Ok(Some(result))
}

/// Files of the shared layer.
pub(super) fn base(tree: &Path, scratch: &Path) -> Result<PathBuf> {
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
    for (link, pattern) in LINKS {
        if let Some(target) = first_match(&files, pattern) {
            let link = files.join(link);
            symlink(&target, &link).map_err(Error::file("link", &link))?;
        }
    }
    // Some packages leave the links to their libraries to ldconfig(8), which is also quicker with a cache.
    capture(Command::new("/sbin/ldconfig").arg("-r").arg(&files))?.ok()?;
    write(&files.join("etc/passwd"), PASSWD.as_bytes())?;
    write(&files.join("etc/group"), GROUP.as_bytes())?;
    for dir in [
        "data",
        "tmp",
        "root",
        "var/cache",
        "var/log/nginx",
        "var/lib/nginx",
    ] {
        make_dir(&files.join(dir))?;
    }
    let tmp = files.join("tmp");
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777))
        .map_err(Error::file("set the mode of", &tmp))?;
    Ok(files)
}

/// The path in the image of the first file that fits a pattern with one `*` in it, or none.
fn first_match(files: &Path, pattern: &str) -> Option<PathBuf> {
    let found = match pattern.split_once("/*/") {
        None => PathBuf::from(pattern),
        Some((before, after)) => fs::read_dir(files.join(before))
            .ok()?
            .filter_map(|entry| Some(Path::new(before).join(entry.ok()?.file_name()).join(after)))
            .find(|path| files.join(path).exists())?,
    };
    files
        .join(&found)
        .exists()
        .then(|| Path::new("/").join(found))
}

/// Files of an image's own layer.
pub(super) fn own(
    image: &Image,
    tree: &Path,
    compiled: Option<&Path>,
    scratch: &Path,
) -> Result<PathBuf> {
    let files = scratch.join(image.name);
    make_dir(&files.join("etc"))?;
    write(&files.join("etc/image"), image.name.as_bytes())?;
    let copy = |from: PathBuf, to: &str| {
        let to = files.join(to);
        if let Some(dir) = to.parent() {
            make_dir(dir)?;
        }
        fs::copy(&from, &to)
            .map(drop)
            .map_err(Error::file("copy to", &to))
    };
    let compiled = |name: &str| compiled.unwrap_or(tree).join(name);
    match image.name {
        "pause" => copy(tree.join("usr/bin/busybox"), "bin/busybox")?,
        "mosquitto" => write(&files.join("etc/mosquitto.conf"), MOSQUITTO.as_bytes())?,
        "nginx" => write(&files.join("etc/nginx-image.conf"), NGINX.as_bytes())?,
        "postgres" => {
            const ID: u32 = 70;
            write(&files.join("etc/pg_hba.conf"), PG_HBA.as_bytes())?;
            let data = files.join("data");
            make_dir(&data)?;
            fs::set_permissions(&data, fs::Permissions::from_mode(0o700))
                .map_err(Error::file("set the mode of", &data))?;
            std::os::unix::fs::chown(&data, Some(ID), Some(ID))
                .map_err(Error::file("change the owner of", &data))?;
        }
        "node" => {
            make_dir(&files.join("srv"))?;
            write(&files.join("srv/counter.js"), NODE.as_bytes())?;
        }
        "java" => copy(compiled("Counter.class"), "srv/Counter.class")?,
        "go" => copy(compiled("counter-go"), "counter-go")?,
        "musl" => copy(compiled("counter-musl"), "counter-musl")?,
        _ => {}
    }
    Ok(files)
}
