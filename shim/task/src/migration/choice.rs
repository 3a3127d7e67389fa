//! Which engine carries a container that is made.

use std::path::Path;
use std::str::FromStr;

use mycedrive_engine::{EngineError, EngineKind};
use tracing::info;

use super::{node_config, target};
use crate::container::{Carrier, Container, Without};
use crate::error::{Error, Result};
use crate::pod::Pod;
use crate::spec::Spec;

/// The annotation, on a pod.
const ANNOTATION: &str = "mycedrive.io/engine";

/// What a pod, or a node, wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// The first that can carry the program.
    #[default]
    Auto,
    /// This one or none.
    Only(EngineKind),
    /// None.
    None,
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            other => EngineKind::from_str(other).map(Self::Only).map_err(|_| {
                format!(
                    "{other:?} is not an engine: \"auto\", \"dmtcp\", \"criu\" and \"none\" are"
                )
            }),
        }
    }
}

impl Wish {
    /// Of the pod, else of the node.
    fn of(pod: &Pod, spec: &Spec) -> Result<Self> {
        let annotation = spec.annotation(ANNOTATION).map(str::to_owned).or_else(|| {
            let facts = pod.facts()?;
            facts.annotations.get(ANNOTATION).cloned()
        });
        match annotation {
            Some(text) => text
                .parse()
                .map_err(|problem| Error::Invalid(format!("annotation {ANNOTATION}: {problem}"))),
            None => Ok(Self::of_node(&node_config::text())),
        }
    }

    /// The key `engine` of the node's configuration. The daemon refuses a file with a value that
    /// is none; here that counts as if the key were not there.
    fn of_node(config: &str) -> Self {
        node_config::value(config, "engine")
            .and_then(|value| value.parse().ok())
            .unwrap_or_default()
    }

    /// What is tried, in order. Pods go to CRIU first, unless they ask for DMTCP.
    fn candidates(self, is_pod: bool) -> &'static [EngineKind] {
        use EngineKind::{Criu, Dmtcp};
        match self {
            Self::Auto if is_pod => &[Criu, Dmtcp],
            Self::Only(Criu) => &[Criu],
            // What DMTCP cannot carry goes to the other one.
            Self::Auto | Self::Only(Dmtcp) => &[Dmtcp, Criu],
            Self::None => &[],
        }
    }
}

/// Chooses for a container whose program is about to be made from its image, and changes its
/// spec. The root file system is mounted.
pub async fn choose(pod: &Pod, container: &Container) -> Result<()> {
    let plain = Spec::load(&container.bundle)?;
    let wish = Wish::of(pod, &container.spec)?;
    let is_pod = pod.facts().is_some_and(|facts| facts.is_kubernetes);
    let mut carrier = Carrier::default();
    let mut reasons = Vec::new();
    if wish == Wish::None {
        reasons.push(format!(
            "{ANNOTATION} or the node's configuration asks for none"
        ));
    }
    for kind in wish.candidates(is_pod) {
        let mut spec = plain.clone();
        let engine = pod.migration.engine(*kind);
        match try_one(kind, &*engine, container, &mut spec).await {
            Ok(()) => {
                spec.save(&container.bundle)?;
                if *kind == EngineKind::Dmtcp {
                    let criu = pod.migration.engine(EngineKind::Criu);
                    carrier.without = Some(Without {
                        spec: plain,
                        engine: installed(EngineKind::Criu).then_some(criu),
                    });
                }
                carrier.engine = Some(engine);
                break;
            }
            // What a pod must not do is for no engine to overlook.
            Err(error @ EngineError::ReservedAnnotation { .. }) => return Err(error.into()),
            // That a node lacks what it need not have is no reason to tell of.
            Err(EngineError::Missing { .. })
                if wish == Wish::Auto && *kind == EngineKind::Dmtcp => {}
            Err(error) => reasons.push(format!("not {}: {error}", kind.name())),
        }
    }
    carrier.why = reasons.join("; ");
    let name = carrier.engine.as_ref().map(|engine| engine.kind().name());
    info!(id = %container.id, engine = name, why = carrier.why, "engine chosen");
    container.set_carrier(carrier);
    Ok(())
}

async fn try_one(
    kind: &EngineKind,
    engine: &dyn mycedrive_engine::Engine,
    container: &Container,
    spec: &mut Spec,
) -> std::result::Result<(), EngineError> {
    if !installed(*kind) {
        // Says what to install.
        engine.capabilities().await?;
    }
    engine.prepare(&target(container), spec.json_mut()).await
}

/// Whether an engine's program is there; without running it, as each container's start would.
fn installed(kind: EngineKind) -> bool {
    match kind {
        EngineKind::Criu => std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| folder.join("criu").is_file())
        }),
        EngineKind::Dmtcp => true,
    }
}

/// The engine that made an image, for a container that is restored from it.
pub async fn choose_for_image(pod: &Pod, container: &Container, image: &Path) -> Result<()> {
    let kind = EngineKind::of_image(image);
    let engine = pod.migration.engine(kind);
    if kind == EngineKind::Criu {
        let mut spec = Spec::load(&container.bundle)?;
        engine.prepare(&target(container), spec.json_mut()).await?;
        spec.save(&container.bundle)?;
    }
    container.set_carrier(Carrier {
        engine: Some(engine),
        why: "its image was made by it".to_owned(),
        without: None,
    });
    Ok(())
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
