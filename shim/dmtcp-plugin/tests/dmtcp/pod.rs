//! A pod as the shim makes it, without containers: a network namespace with a coordinator, a
//! helper and programs under DMTCP.

use crate::support::Net;
use mycedrive_connection::repair::{Held, Helper, HelperOptions};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub const LONG: Duration = Duration::from_secs(120);

/// Where DMTCP is; `None`, said aloud, where the tests cannot run.
pub fn dmtcp() -> Option<PathBuf> {
    let prefix = std::env::var_os("DMTCP").unwrap_or("/opt/dmtcp".into());
    let prefix = PathBuf::from(prefix);
    if !prefix.join("bin/dmtcp_launch").exists() {
        eprintln!("skipped: no DMTCP in {} (set DMTCP)", prefix.display());
        return None;
    }
    (!crate::support::unable()).then_some(prefix)
}

/// Whether a program is there; says so if not.
pub fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    let has = found.unwrap().status.success();
    if !has {
        eprintln!("skipped: no {program}");
    }
    has
}

/// What programs find at the same place before and after: in a container, mounts.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ckpt", "tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Folder(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn images(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path().join("ckpt")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|e| e == "dmtcp"))
            .collect()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

pub struct Pod<'a> {
    pub net: &'a Net,
    pub helper: Option<Helper>,
    folder: &'a Folder,
    prefix: PathBuf,
    port: u16,
}

impl<'a> Pod<'a> {
    /// With a coordinator that nobody has joined.
    pub fn new(net: &'a Net, folder: &'a Folder, prefix: &Path) -> Pod<'a> {
        let port = 7779;
        let mut pod = Pod {
            net,
            helper: None,
            folder,
            prefix: prefix.to_owned(),
            port,
        };
        pod.start_helper();
        pod.spawn(
            "dmtcp_coordinator",
            &["--coord-port", "7779", "--stale-timeout", "-1"],
        );
        let deadline = Instant::now() + LONG;
        while !pod.command(&["--status"]).0 {
            assert!(Instant::now() < deadline, "no coordinator");
            sleep(Duration::from_millis(50));
        }
        pod
    }

    pub fn start_helper(&mut self) {
        self.helper = None;
        let belongs = Box::new(|_| true);
        let net = self.lock_handle();
        let helper = Helper::new(HelperOptions { net, belongs });
        helper
            .listen(&self.folder.path().join("helper.sock"))
            .unwrap();
        self.helper = Some(helper);
    }

    pub fn helper(&self) -> &Helper {
        self.helper.as_ref().unwrap()
    }

    /// The network, with the coordinator's port open on loopback.
    pub fn lock_handle(&self) -> mycedrive_connection::PodNet {
        self.net.pod().with_loopback_port(self.port)
    }

    fn spawn(&self, program: &str, arguments: &[&str]) {
        let path = self.prefix.join("bin").join(program);
        let mut command = Command::new(path);
        let log = self.folder.path().join(format!("{program}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("MYCEDRIVE_HELPER", self.folder.path().join("helper.sock"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0);
        let mut child = self.net.run(move || command.spawn().unwrap());
        // Its end is nobody's business; the test looks at what it serves.
        std::thread::spawn(move || child.wait());
    }

    /// Ask the coordinator; whether it answered, and what.
    pub fn command(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(self.prefix.join("bin/dmtcp_command"));
        command.args(["--coord-port", "7779"]).args(arguments);
        let output = self.net.run(move || command.output().unwrap());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text)
    }

    fn arguments(&self) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        [
            "--coord-host",
            "127.0.0.1",
            "--coord-port",
            "7779",
            "--join-coordinator",
            "--ckptdir",
            &path("ckpt"),
            "--tmpdir",
            &path("tmp"),
        ]
        .map(str::to_owned)
        .into()
    }

    pub fn launch(&self, program: &[&str]) {
        let plugin = plugin();
        let own = self.arguments();
        let mut arguments: Vec<&str> = own.iter().map(String::as_str).collect();
        arguments.extend(["--no-gzip", "--with-plugin", &plugin]);
        arguments.extend(program);
        self.spawn("dmtcp_launch", &arguments);
    }

    /// How many processes take part.
    pub fn peers(&self) -> usize {
        let (_, status) = self.command(&["--status"]);
        let line = status
            .lines()
            .find_map(|l| l.trim().strip_prefix("NUM_PEERS="));
        line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    }

    /// Ask for a checkpoint, and wait until all images are written and all processes are held.
    pub fn checkpoint(&self) -> Held {
        for old in self.folder.images() {
            fs::remove_file(old).unwrap();
        }
        let peers = self.peers();
        assert!(self.command(&["--checkpoint"]).0);
        self.helper().wait_suspended(peers, LONG).unwrap();
        assert_eq!(self.folder.images().len(), 0);
        self.helper().write();
        let held = self.helper().wait_held(LONG).unwrap();
        assert_eq!(held.processes, peers);
        assert_eq!(self.folder.images().len(), peers);
        held
    }

    pub fn restart(&self) {
        let own = self.arguments();
        let mut arguments: Vec<&str> = own.iter().map(String::as_str).collect();
        let images = self.folder.images();
        arguments.extend(images.iter().map(|path| path.to_str().unwrap()));
        self.spawn("dmtcp_restart", &arguments);
    }

    /// Kill all programs, and the coordinator.
    pub fn kill(&self) {
        let ours = fs::metadata(self.net.path()).unwrap().ino();
        let own = std::process::id();
        loop {
            let mut found = false;
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                let Some(pid) = entry
                    .file_name()
                    .to_str()
                    .and_then(|n| n.parse::<u32>().ok())
                else {
                    continue;
                };
                let theirs = fs::metadata(entry.path().join("ns/net")).map(|m| m.ino());
                if pid != own && theirs.is_ok_and(|theirs| theirs == ours) {
                    let pid = nix::unistd::Pid::from_raw(pid as i32);
                    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                    found = true;
                }
            }
            if !found {
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        let text =
            |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        text("dmtcp_launch.log") + &text("dmtcp_restart.log") + &text("dmtcp_coordinator.log")
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// The library, freshly built: cargo builds no library of this kind for a test.
pub fn plugin() -> String {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        // TARGET/PROFILE/deps/TEST
        let profile = test.ancestors().nth(2).unwrap();
        let target = profile.parent().unwrap();
        let release = profile.ends_with("release").then_some("--release");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "mycedrive-dmtcp"])
            .args(release)
            .arg("--target-dir")
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success());
        profile.join("libmycedrive_dmtcp.so")
    });
    built.to_str().unwrap().to_owned()
}

/// The interpreter itself, where the name leads to a script.
pub fn python() -> String {
    let script = ["-c", "import sys; print(sys.executable)"];
    let output = Command::new("python3").args(script).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
