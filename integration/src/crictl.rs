//! `crictl` on nodes. Debian has no package of it: it is taken from where this machine has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::host::program;
use crate::{Error, Node, Result};

const REGISTRY: &str = include_str!("crictl/registry.py");
const CONFIG: &str = "runtime-endpoint: unix:///run/containerd/containerd.sock
image-endpoint: unix:///run/containerd/containerd.sock
timeout: 60
";
/// Directory of a node with what is put there for `crictl`.
const DIRECTORY: &str = "/srv/crictl";
/// A registry that is just started is asked this often.
const TRIES: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(50);

/// `crictl` of this machine's `PATH`.
pub fn crictl() -> Option<PathBuf> {
    program("crictl")
}

impl Node {
    /// Puts the machine's `crictl`, as [`crictl`] found it, into the node, with its configuration.
    pub fn install_crictl(&self, from: &Path) -> Result<()> {
        let to = self.path("/usr/local/bin/crictl");
        fs::copy(from, &to).map_err(Error::file("copy to", &to))?;
        self.write("/etc/crictl.yaml", CONFIG)
    }

    /// Starts a registry of the node's own images at `localhost`, port 80, and gives an image of the node
    /// the name by which it is pulled from there; answers with that. CRI pulls the image of a container
    /// that it restores, even if the node has it. [`Self::stop_images`] ends it.
    pub fn serve_image(&self, image: &str) -> Result<String> {
        self.sh(&format!("mkdir -p {DIRECTORY}"))?;
        self.write(&format!("{DIRECTORY}/registry.py"), REGISTRY)?;
        self.stop_images()?;
        self.sh(&format!(
            "cd {DIRECTORY}; setsid python3 registry.py >registry.log 2>&1 </dev/null & echo $! >{DIRECTORY}/pid"
        ))?;
        for _ in 0..TRIES {
            let ask = "exec 3<>/dev/tcp/127.0.0.1/80";
            if self.exec(&["bash", "-c", ask])?.success() {
                let name = "ctr -n k8s.io images ls";
                let digest =
                    self.sh(&format!("{name} | awk '$1 == \"{image}\" {{ print $3 }}'"))?;
                let plain = image.rsplit_once(':').map_or(image, |(plain, _)| plain);
                let full = format!("{plain}@{digest}");
                self.sh(&format!("ctr -n k8s.io images tag --force {image} {full}"))?;
                return Ok(full);
            }
            std::thread::sleep(BETWEEN);
        }
        Err(Error::Unknown {
            kind: "registry",
            name: "localhost".to_owned(),
            hint: self.sh(&format!("cat {DIRECTORY}/registry.log"))?,
        })
    }

    /// Ends the registry of [`Self::serve_image`].
    pub fn stop_images(&self) -> Result<()> {
        self.sh(&format!(
            "test ! -e {DIRECTORY}/pid || kill $(cat {DIRECTORY}/pid) 2>/dev/null || true; rm -f {DIRECTORY}/pid"
        ))
        .map(drop)
    }

    /// Writes a file of the node.
    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path(path);
        fs::write(&path, text).map_err(Error::file("write", &path))
    }
}
