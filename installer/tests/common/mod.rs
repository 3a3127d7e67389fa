//! Trees for the tests, made on the spot, and a picture of a whole tree.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use mycedrive_installer::install::Options;
use mycedrive_installer::root::Root;
use mycedrive_installer::transaction::Steps;
use mycedrive_installer::{Error, Result, install, uninstall};
use tempfile::TempDir;

pub const DEFAULT_1_6: &str = include_str!("../fixtures/containerd-1.6-default.toml");
pub const DEFAULT_2_1: &str = include_str!("../fixtures/containerd-2.1-default.toml");

/// A configuration as people write it: other runtimes, comments, odd spacing.
pub const CUSTOM_2: &str = r#"# managed by hand, do not tidy
version = 2   # containerd 1.7

[plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "example/pause:3.9" # mirrored

  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
	# a tab, on purpose
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc]
      runtime_type = "io.containerd.runsc.v1"   # gVisor

[metrics]
address = "127.0.0.1:1338"
# the last line has no newline"#;

pub const MAIN_3: &str = r#"version = 3
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = true
"#;

/// In memory where possible: the installer syncs every write.
pub fn temporary() -> TempDir {
    TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .unwrap()
}

pub struct Tree {
    dir: TempDir,
    from: TempDir,
}

impl Tree {
    /// A bare Debian-like tree with systemd.
    pub fn new() -> Self {
        let tree = Self {
            dir: temporary(),
            from: temporary(),
        };
        for name in ["containerd-shim-mycedrive-v2", "mycedrive"] {
            let path = tree.from.path().join(name);
            fs::write(&path, format!("\x7fELF {name}")).unwrap();
        }
        tree.file("usr/lib/systemd/systemd", "");
        tree.dir("etc/systemd/system");
        tree.dir("usr/local/bin");
        tree.dir("var/lib");
        tree.file("etc/passwd", "root:x:0:0::/root:/bin/sh\n");
        tree
    }

    /// With Debian's containerd of this version in dpkg's database.
    pub fn debian(containerd: &str) -> Self {
        let tree = Self::new();
        tree.file("usr/bin/containerd", "");
        let status = format!(
            "Package: base-files\nStatus: install ok installed\nVersion: 12\n\n\
             Package: containerd\nStatus: install ok installed\nVersion: {containerd}\n\n"
        );
        tree.file("var/lib/dpkg/status", &status);
        tree
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.path().join(path.trim_start_matches('/'))
    }

    pub fn dir(&self, path: &str) {
        fs::create_dir_all(self.at(path)).unwrap();
    }

    pub fn file(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn link(&self, path: &str, target: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    pub fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    pub fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok()
    }

    pub fn add_program(&self, name: &str) {
        fs::write(self.from.path().join(name), name).unwrap();
    }

    pub fn root(&self) -> Root {
        Root::open(self.path()).unwrap()
    }

    pub fn options(&self) -> Options {
        Options::new(self.from.path())
    }

    pub fn install(&self) -> Result<install::Outcome> {
        self.install_with(&mut mycedrive_installer::transaction::NoFaults)
    }

    pub fn install_with(&self, steps: &mut dyn Steps) -> Result<install::Outcome> {
        install::install(&self.root(), &self.options(), steps)
    }

    pub fn uninstall(&self) -> Result<uninstall::Outcome> {
        self.uninstall_with(&mut mycedrive_installer::transaction::NoFaults)
    }

    pub fn uninstall_with(&self, steps: &mut dyn Steps) -> Result<uninstall::Outcome> {
        uninstall::uninstall(&self.root(), false, steps)
    }

    /// Everything in the tree: kind, mode, owner and content of every path.
    pub fn picture(&self) -> BTreeMap<PathBuf, String> {
        picture(self.path())
    }
}

pub fn picture(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut picture = BTreeMap::new();
    let mut todo = vec![top.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            String::from("directory")
        } else if meta.is_file() {
            String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
        } else {
            String::from("special")
        };
        let line = format!("{:o} {}:{} {content}", meta.mode(), meta.uid(), meta.gid());
        picture.insert(path.strip_prefix(top).unwrap().to_path_buf(), line);
    }
    picture
}

/// Fails at one step; `dead` stands for the machine dying there.
pub struct FailAt {
    pub step: usize,
    pub dies: bool,
    pub hit: Option<String>,
}

impl FailAt {
    pub fn new(step: usize, dies: bool) -> Self {
        Self {
            step,
            dies,
            hit: None,
        }
    }
}

impl Steps for FailAt {
    fn before(&mut self, number: usize, step: &str) -> Result<()> {
        if number == self.step {
            self.hit = Some(step.to_owned());
            return Err(Error::Injected { step: number });
        }
        Ok(())
    }

    fn dead(&self) -> bool {
        self.dies && self.hit.is_some()
    }
}

/// Every kind of node, by name.
pub fn nodes() -> Vec<(&'static str, Tree)> {
    let mut nodes = Vec::new();

    let tree = Tree::debian("1.6.20~ds1-1+deb12u3");
    nodes.push(("debian 12, no configuration", tree));

    let tree = Tree::debian("1.6.20~ds1-1+deb12u3");
    tree.file("etc/containerd/config.toml", DEFAULT_1_6);
    tree.mode("etc/containerd/config.toml", 0o640);
    nodes.push(("debian 12, default dump", tree));

    let tree = Tree::debian("1.7.24~ds1-6");
    tree.file("etc/containerd/config.toml", CUSTOM_2);
    tree.file("etc/criu/runc.conf", "# ours\ntcp-established");
    tree.mode("etc/criu/runc.conf", 0o600);
    nodes.push(("debian 13, by hand", tree));

    let tree = Tree::debian("1.7.24~ds1-6");
    tree.file(
        "etc/containerd/config.toml",
        "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n",
    );
    tree.file(
        "etc/containerd/conf.d/cri.toml",
        "[plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = \"/x\"\n",
    );
    nodes.push(("debian 13, imported section without version", tree));

    let tree = Tree::debian("2.1.9~ds1-1");
    nodes.push(("forky, no configuration", tree));

    let tree = Tree::debian("2.1.9~ds1-1");
    tree.file("etc/containerd/config.toml", DEFAULT_2_1);
    tree.add_program("mycedrive-init");
    tree.add_program("libmycedrive_dmtcp_plugin.so");
    nodes.push(("forky, default dump, with plugin and init", tree));

    let tree = Tree::debian("2.1.9~ds1-1");
    tree.file("etc/containerd/config.toml", MAIN_3);
    nodes.push(("forky, drop-ins", tree));

    let tree = Tree::new();
    tree.file("usr/local/bin/k3s", "");
    tree.dir("etc/rancher/k3s");
    nodes.push(("k3s, never started", tree));

    let tree = Tree::new();
    let dir = "var/lib/rancher/k3s/agent/etc/containerd";
    tree.file(&format!("{dir}/config.toml"), "version = 2\n");
    tree.file(
        &format!("{dir}/config.toml.tmpl"),
        "{{ template \"base\" . }}\n\n# ours\n[debug]\n  level = \"info\"\n",
    );
    nodes.push(("k3s with containerd 1.7 and a template", tree));

    let tree = Tree::new();
    let dir = "var/lib/rancher/rke2/agent/etc/containerd";
    tree.file(&format!("{dir}/config.toml"), "version = 3\n");
    tree.dir("etc/rancher/rke2");
    nodes.push(("RKE2 with containerd 2", tree));

    let tree = Tree::new();
    let dir = "/var/lib/rancher/rke2/agent/etc/containerd";
    let text = format!("version = 3\nimports = [\"{dir}/config-v3.toml.d/*.toml\"]\n");
    tree.file(&format!("{dir}/config.toml"), &text);
    nodes.push(("RKE2 with imports", tree));

    let tree = Tree::new();
    tree.file(
        "etc/k0s/containerd.toml",
        "# k0s_managed=true\nversion = 3\n",
    );
    tree.dir("etc/k0s/containerd.d");
    nodes.push(("k0s", tree));

    let tree = Tree::debian("2.1.9~ds1-1");
    tree.file("srv/containerd.toml", MAIN_3);
    tree.link("etc/containerd/config.toml", "/srv/containerd.toml");
    tree.link("usr/local/bin/mycedrive", "../../bin/old");
    tree.file("usr/local/bin/containerd-shim-mycedrive-v2", "an older one");
    tree.mode("usr/local/bin/containerd-shim-mycedrive-v2", 0o4711);
    tree.file("etc/mycedrive/config.toml", "node_name = \"a\"\n");
    tree.add_program("libmycedrive_dmtcp.so");
    nodes.push(("symlinks and an older installation by hand", tree));

    nodes
}
