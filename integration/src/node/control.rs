//! Services, programs, images and fault points of a running node.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::create::FAULTS;
use super::{Node, timed_out};
use crate::host::binary_dir;
use crate::init::{self, CONTROL};
use crate::run::last_lines;
use crate::{Error, Result};

const SERVICE_TIME: Duration = Duration::from_secs(15);
/// Where the image archive is for a moment during an import.
const ARCHIVE: &str = "/srv/images.tar";

impl Node {
    /// Waits until a condition holds, looking every 20 ms.
    pub fn wait_for(
        &self,
        what: &str,
        time: Duration,
        mut done: impl FnMut() -> bool,
    ) -> Result<()> {
        let until = Instant::now() + time;
        while !done() {
            if Instant::now() > until {
                return Err(timed_out(
                    format!("{what} on {}", self.name()),
                    time.as_secs(),
                    "",
                ));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until containerd answers.
    pub fn wait_ready(&self) -> Result<()> {
        let until = Instant::now() + SERVICE_TIME;
        loop {
            let Err(error) = self.cri().and_then(|cri| cri.version()) else {
                return Ok(());
            };
            if Instant::now() > until {
                let detail = format!(
                    "{error}; its log ends with\n{}",
                    last_lines(&self.log("containerd"), 10)
                );
                let what = format!("an answer of containerd on {}", self.name());
                return Err(timed_out(what, SERVICE_TIME.as_secs(), &detail));
            }
            sleep(Duration::from_millis(30));
        }
    }

    /// Imports an archive of images for CRI; the file is linked or copied into the node first.
    pub(crate) fn import_images(&self, archive: &Path) -> Result<()> {
        let inside = self.path(ARCHIVE);
        fs::copy(archive, &inside).map_err(Error::file("copy to", &inside))?;
        let done = self
            .exec(&[
                "ctr",
                "--namespace",
                "k8s.io",
                "images",
                "import",
                "--local",
                ARCHIVE,
            ])?
            .ok();
        fs::remove_file(&inside).map_err(Error::file("remove", &inside))?;
        done.map(drop)
    }

    /// Pid of a service within the node; `None` if it does not run.
    pub fn service_pid(&self, service: &str) -> Option<i32> {
        let file = self.path(CONTROL).join(format!("{service}.pid"));
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// Stops a service (SIGTERM) until [`Node::start_service`], and waits for its end.
    pub fn stop_service(&self, service: &str) -> Result<()> {
        let file = self.down_file(service);
        fs::write(&file, "").map_err(Error::file("write", &file))?;
        self.wait_for(&format!("the end of {service}"), SERVICE_TIME, || {
            self.service_pid(service).is_none()
        })
    }

    /// Lets a service run again, and waits for its start.
    pub fn start_service(&self, service: &str) -> Result<()> {
        let file = self.down_file(service);
        if file.exists() {
            fs::remove_file(&file).map_err(Error::file("remove", &file))?;
        }
        self.wait_for(&format!("the start of {service}"), SERVICE_TIME, || {
            self.service_pid(service).is_some()
        })
    }

    /// Kills a service (SIGKILL); pid 1 starts it again after 0.3 s.
    pub fn kill_service(&self, service: &str) -> Result<()> {
        let pid = self.service_pid(service).ok_or_else(|| Error::Unknown {
            kind: "running service",
            name: service.to_owned(),
            hint: format!("see `cargo testbed logs {} {service}`", self.name()),
        })?;
        self.exec(&["kill", "-KILL", &pid.to_string()])?.ok()?;
        self.wait_for(&format!("the end of {service}"), SERVICE_TIME, || {
            self.service_pid(service) != Some(pid)
        })
    }

    /// Installs newly built programs into the node. Running shims keep the old one; the daemon is
    /// started again.
    pub fn install_programs(&self) -> Result<()> {
        init::install(&self.root(), &binary_dir()?)?;
        if self.service_pid("mycedrive").is_some() {
            self.kill_service("mycedrive")?;
        }
        Ok(())
    }

    /// Arms a fault point of the node's daemon and shims: `kill`, `error` or `pause`.
    pub fn arm_fault(&self, point: &str, action: &str) -> Result<()> {
        let dir = self.path(FAULTS);
        fs::create_dir_all(&dir).map_err(Error::file("make", &dir))?;
        let (partial, file) = (dir.join(".new"), dir.join(point));
        fs::write(&partial, action).map_err(Error::file("write", &partial))?;
        fs::rename(&partial, &file).map_err(Error::file("rename", &partial))
    }

    /// Has the fault point not been reached yet (or is it holding a `pause`)?
    pub fn fault_armed(&self, point: &str) -> bool {
        self.path(FAULTS).join(point).exists()
    }

    /// Does something wait at a `pause` of the fault point?
    pub fn fault_reached(&self, point: &str) -> bool {
        self.path(FAULTS).join(format!("{point}.reached")).exists()
    }

    /// Disarms all fault points; what waits at one goes on.
    pub fn disarm_faults(&self) -> Result<()> {
        let dir = self.path(FAULTS);
        if dir.is_dir() {
            fs::remove_dir_all(&dir).map_err(Error::file("remove", &dir))?;
        }
        Ok(())
    }

    fn down_file(&self, service: &str) -> std::path::PathBuf {
        self.path(CONTROL).join(format!("{service}.down"))
    }
}
