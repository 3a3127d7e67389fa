//! The versions of containerd that nodes can run.

use std::fs;
use std::path::Path;

use crate::image::reference;
use crate::rootfs::{OLD_SUITE, SUITE, Tree};
use crate::{Error, Result};

/// Which containerd nodes run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Containerd {
    /// 2.x, as in the release that nodes are made of.
    #[default]
    #[value(name = "2")]
    V2,
    /// 1.7, from an older release; runc and CRIU stay those of the newer one.
    #[value(name = "1.7")]
    V1_7,
}

/// What of containerd's package is replaced, below /usr/bin.
const PROGRAMS: [&str; 3] = ["containerd", "containerd-shim-runc-v2", "ctr"];

impl Containerd {
    /// The Debian release that it comes from.
    pub fn release(self) -> &'static str {
        match self {
            Self::V2 => SUITE,
            Self::V1_7 => OLD_SUITE,
        }
    }

    /// Makes what is needed for it, if it is not there yet.
    pub(crate) fn ensure(self) -> Result<()> {
        match self {
            Self::V2 => Ok(()),
            Self::V1_7 => Tree::Containerd1.ensure().map(drop),
        }
    }

    /// Puts its programs into a node's root.
    pub(super) fn install(self, root: &Path) -> Result<()> {
        if self == Self::V2 {
            return Ok(());
        }
        let from = Tree::Containerd1.ensure()?.join("usr/bin");
        let to = root.join("usr/bin");
        fs::create_dir_all(&to).map_err(Error::file("make", &to))?;
        for program in PROGRAMS {
            let to = to.join(program);
            fs::copy(from.join(program), &to).map_err(Error::file("copy to", &to))?;
        }
        Ok(())
    }

    /// Its configuration, as an operator would have it before MyceDrive is installed.
    pub(super) fn config(self) -> String {
        match self {
            Self::V2 => format_3(),
            Self::V1_7 => format_2(),
        }
    }
}

/// Format 3: containerd 2.x.
fn format_3() -> String {
    let pause = reference("pause");
    let runtime = "plugins.'io.containerd.cri.v1.runtime'";
    format!(
        r#"version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{pause}"

[{runtime}]
  # Nodes may lack CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true

[{runtime}.containerd]
  default_runtime_name = "runc"

[{runtime}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[{runtime}.cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "/etc/cni/net.d"
"#
    )
}

/// Format 2: containerd 1.x.
fn format_2() -> String {
    let pause = reference("pause");
    let cri = "plugins.'io.containerd.grpc.v1.cri'";
    format!(
        r#"version = 2

[{cri}]
  sandbox_image = "{pause}"
  # Nodes may lack CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true

[{cri}.containerd]
  default_runtime_name = "runc"

[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[{cri}.cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
"#
    )
}
