//! The pod that a destination asks for: one that runs here, or one that is parked here.

use mycedrive_proto::shim::{Container, DescribeReply};

use super::left;
use super::migration::{Details, Migration};
use crate::app::Shared;
use crate::error::{Error, Result};
use crate::parked::Parked;
use crate::shims::{Shim, runs};

/// A pod with where it is.
#[derive(Debug)]
pub struct Subject {
    /// What it consists of.
    pub pod: DescribeReply,
    /// Where it is.
    pub place: Place,
}

/// Where a pod is.
#[derive(Debug)]
pub enum Place {
    /// A shim has its processes.
    Shim(Shim),
    /// It is an image.
    Parked(Parked),
}

impl Subject {
    /// The pod of that name. One that runs comes before one that is parked.
    pub async fn find(app: &Shared, namespace: &str, name: &str) -> Result<Self> {
        let found = app.shims.find(namespace, name, &app.config.node_name).await;
        let parked = match &found {
            Ok((_, pod)) if runs(pod) => None,
            _ => Parked::find(app, namespace, name),
        };
        match (parked, found) {
            (Some(parked), _) => Self::of_parked(app, parked),
            (None, Ok((shim, pod))) => {
                let place = Place::Shim(shim);
                Ok(Self { pod, place })
            }
            (None, Err(_)) if left::is_left(app, namespace, name) => Err(Error::Refused(format!(
                "the shim of pod {namespace}/{name} died while it was frozen; its image is being \
                 parked on node {}: try again",
                app.config.node_name
            ))),
            (None, Err(error)) => Err(error),
        }
    }

    /// The pod of a migration that was opened.
    pub async fn of(app: &Shared, migration: &Migration) -> Result<Self> {
        let Details {
            parked, sandbox, ..
        } = &migration.details;
        if let Some(id) = parked {
            let parked = Parked::read(app, id)
                .ok_or_else(|| Error::Failed(format!("parked pod {id} is not here any more")))?;
            return Self::of_parked(app, parked);
        }
        let shim = app.shims.connect(sandbox).await?;
        let pod = shim.describe().await?;
        let place = Place::Shim(shim);
        Ok(Self { pod, place })
    }

    fn of_parked(app: &Shared, parked: Parked) -> Result<Self> {
        let pod = parked.description(app)?;
        let place = Place::Parked(parked);
        Ok(Self { pod, place })
    }

    /// Digest of the image that a container was made from.
    pub async fn digest(&self, app: &Shared, container: &Container) -> Result<String> {
        match &self.place {
            Place::Shim(_) => {
                let namespace = &self.pod.containerd_namespace;
                app.digests.of_container(namespace, &container.id).await
            }
            // containerd may have forgotten the container.
            Place::Parked(parked) => {
                parked.digests.get(&container.name).cloned().ok_or_else(|| {
                    let name = &container.name;
                    Error::Failed(format!("parked pod {} has no container {name}", parked.id))
                })
            }
        }
    }

    /// The parked image, when it is one.
    pub fn parked(&self) -> Option<&Parked> {
        match &self.place {
            Place::Shim(_) => None,
            Place::Parked(parked) => Some(parked),
        }
    }
}
