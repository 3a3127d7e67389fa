//! A daemon of its own, as a process that can be killed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mycedrive_node::pki::{CaRequest, NodeRequest, issue, make_ca};
use mycedrive_proto::node::{ArriveReply, ArriveRequest, LeaveRequest};
use mycedrive_proto::node_ttrpc::NodeClient;
use mycedrive_proto::shim::Container;
use ttrpc::context::with_duration;

/// A node: its folder, its port, its daemon.
pub struct Node {
    pub dir: PathBuf,
    pub port: u16,
    daemon: Mutex<Option<Child>>,
}

impl Node {
    /// Keys from the CA in `root`, a configuration, and a daemon that answers.
    pub async fn new(root: &Path, name: &str, more: &str) -> Self {
        let dir = root.join(name);
        let ca = root.join("ca");
        if !ca.exists() {
            make_ca(&CaRequest {
                out: ca.clone(),
                name: "test".to_owned(),
                days: 2,
                force: false,
            })
            .unwrap();
        }
        issue(&NodeRequest {
            ca,
            name: name.to_owned(),
            addresses: vec!["127.0.0.1".to_owned()],
            out: dir.join("pki"),
            days: 2,
            force: false,
        })
        .unwrap();
        // A port that was free a moment ago.
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        for folder in ["run", "fault", "bin", "state"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let show = dir.display();
        let config = format!(
            "node_name = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\n\
             advertise = \"127.0.0.1:{port}\"\npki_dir = \"{show}/pki\"\n\
             run_dir = \"{show}/run\"\nstate_dir = \"{show}/state\"\n\
             image_dir = \"{show}/images\"\n\
             [containerd]\nsocket = \"{show}/containerd.sock\"\n\
             [migration]\nlink_lost_after = \"2s\"\n{more}\n\
             [log]\nlevel = \"debug,h2=info,hyper=info,tower=info,rustls=info\"\n"
        );
        std::fs::write(dir.join("config.toml"), config).unwrap();
        let criu = dir.join("bin/criu");
        std::fs::write(&criu, "#!/bin/sh\necho 'Version: 4.2'\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&criu, mode).unwrap();
        super::fake::containerd(&dir.join("containerd.sock"));
        let node = Self {
            dir,
            port,
            daemon: Mutex::new(None),
        };
        node.start().await;
        node
    }

    /// Starts the daemon and waits until it answers.
    pub async fn start(&self) {
        let path = std::env::var("PATH").unwrap_or_default();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_mycedrive"))
            .arg("--config")
            .arg(self.dir.join("config.toml"))
            .arg("serve")
            .env("PATH", format!("{}:{path}", self.dir.join("bin").display()))
            .env("MYCEDRIVE_FAULT_DIR", self.dir.join("fault"))
            .env_remove("MYCEDRIVE_RUN_DIR")
            .env_remove("MYCEDRIVE_LOG")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        *self.daemon.lock().unwrap() = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.client().await.is_none() {
            assert!(Instant::now() < deadline, "no daemon: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGKILL, unless it died already.
    pub fn kill(&self) {
        if let Some(mut child) = self.daemon.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether the daemon ended by itself (a fault point killed it).
    pub fn died(&self) -> bool {
        match &mut *self.daemon.lock().unwrap() {
            Some(child) => child.try_wait().unwrap().is_some(),
            None => true,
        }
    }

    /// Its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Arms a fault point.
    pub fn arm(&self, point: &str, order: &str) {
        std::fs::write(self.dir.join("fault").join(point), order).unwrap();
    }

    async fn client(&self) -> Option<NodeClient> {
        let socket = format!("unix://{}/run/node.sock", self.dir.display());
        ttrpc::r#async::Client::connect(&socket)
            .await
            .ok()
            .map(NodeClient::new)
    }

    /// A Start as the shim asks: again when the daemon is not there.
    pub async fn arrive(
        &self,
        shim: &super::fake::Shim,
        container: &Container,
        annotations: &[(&str, String)],
        limit: Duration,
    ) -> ArriveReply {
        let pod = shim.pod();
        let request = ArriveRequest {
            sandbox_id: pod.sandbox_id,
            containerd_namespace: pod.containerd_namespace,
            pod_namespace: pod.pod_namespace,
            pod_name: pod.pod_name,
            pod_uid: "uid".to_owned(),
            annotations: annotations
                .iter()
                .map(|(name, value)| (format!("mycedrive.io/{name}"), value.clone()))
                .collect(),
            container: protobuf::MessageField::some(container.clone()),
            netns: pod.netns,
            timeout_ms: limit.as_millis() as u64,
            ..ArriveRequest::default()
        };
        let deadline = Instant::now() + limit + Duration::from_secs(30);
        loop {
            if let Some(client) = self.client().await {
                let context = with_duration(limit + Duration::from_secs(5));
                match client.arrive(context, &request).await {
                    Ok(reply) => return reply,
                    Err(error) => eprintln!("arrive: {error}"),
                }
            }
            assert!(Instant::now() < deadline, "no answer: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the operator's command says.
    pub async fn command(&self, arguments: &[&str]) -> String {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_mycedrive"))
            .arg("--config")
            .arg(self.dir.join("config.toml"))
            .args(arguments)
            .env_remove("MYCEDRIVE_RUN_DIR")
            .output()
            .await
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The pod goes.
    pub async fn leave(&self, sandbox: &str, container: &str, pod_gone: bool) {
        let request = LeaveRequest {
            sandbox_id: sandbox.to_owned(),
            container_id: container.to_owned(),
            pod_gone,
            ..LeaveRequest::default()
        };
        let client = self.client().await.unwrap();
        client
            .leave(with_duration(Duration::from_secs(5)), &request)
            .await
            .unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.dir.display(), self.log());
        }
    }
}
