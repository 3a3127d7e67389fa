//! Digests of the images that containers were made from, asked of containerd.
//!
//! What the CRI plugin recorded when it made the container comes first: the digest of the
//! image's configuration, which names the content exactly and does not change when a tag moves.
//! Without that record (a container that `ctr` made) it is the digest that the container's
//! image name points at now.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::error::{Error, Result};

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod api {
    pub mod containers {
        tonic::include_proto!("containerd.services.containers.v1");
    }
    pub mod images {
        tonic::include_proto!("containerd.services.images.v1");
    }
}

use api::containers::containers_client::ContainersClient;
use api::containers::{Container, GetContainerRequest};
use api::images::GetImageRequest;
use api::images::images_client::ImagesClient;

/// How long containerd may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Where the CRI plugin keeps what it knows of a container.
const CRI_METADATA: &str = "io.cri-containerd.container.metadata";

/// Asks containerd's API.
#[derive(Debug, Clone)]
pub struct Digests {
    socket: PathBuf,
}

impl Digests {
    /// containerd's API socket; nothing is opened yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Digest (`sha256:...`) of the image that a container was made from. `namespace` is
    /// containerd's ("k8s.io").
    pub async fn of_container(&self, namespace: &str, container_id: &str) -> Result<String> {
        timeout(LIMIT, self.ask(namespace, container_id))
            .await
            .map_err(|_| self.failed(format!("no answer within {} s", LIMIT.as_secs())))?
    }

    /// Whether containerd answers at all.
    pub async fn reachable(&self) -> Result<()> {
        timeout(LIMIT, self.connect())
            .await
            .map_err(|_| self.failed(format!("no answer within {} s", LIMIT.as_secs())))?
            .map(drop)
    }

    async fn ask(&self, namespace: &str, id: &str) -> Result<String> {
        let channel = self.connect().await?;
        let request = self.request(namespace, GetContainerRequest { id: id.to_owned() })?;
        let container = ContainersClient::new(channel.clone())
            .get(request)
            .await
            .map_err(|status| self.failed(format!("container {id}: {}", status.message())))?
            .into_inner()
            .container
            .unwrap_or_default();
        if let Some(digest) = recorded(&container) {
            return Ok(digest);
        }
        let name = container.image;
        if name.is_empty() {
            return Err(self.failed(format!("container {id} was not made from an image")));
        }
        let request = self.request(namespace, GetImageRequest { name: name.clone() })?;
        let digest = ImagesClient::new(channel)
            .get(request)
            .await
            .map_err(|status| self.failed(format!("image {name}: {}", status.message())))?
            .into_inner()
            .image
            .and_then(|image| image.target)
            .map(|target| target.digest)
            .unwrap_or_default();
        if is_digest(&digest) {
            Ok(digest)
        } else {
            Err(self.failed(format!("image {name} has no digest")))
        }
    }

    fn request<T>(&self, namespace: &str, message: T) -> Result<tonic::Request<T>> {
        let value = MetadataValue::try_from(namespace)
            .map_err(|_| self.failed(format!("{namespace:?} is not a namespace")))?;
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("containerd-namespace", value);
        Ok(request)
    }

    async fn connect(&self) -> Result<Channel> {
        let socket = self.socket.clone();
        Endpoint::from_static("http://containerd")
            .connect_with_connector(service_fn(move |_: Uri| dial(socket.clone())))
            .await
            .map_err(|error| self.failed(words(&error)))
    }

    fn failed(&self, message: String) -> Error {
        Error::Containerd {
            socket: self.socket.clone(),
            message,
        }
    }
}

async fn dial(socket: impl AsRef<Path>) -> std::io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(socket).await.map(TokioIo::new)
}

/// The innermost cause says what happened.
fn words(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// What the CRI plugin recorded: `{"Version":"v1","Metadata":{...,"ImageRef":"sha256:..."}}`.
fn recorded(container: &Container) -> Option<String> {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(rename = "Metadata")]
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "ImageRef")]
        image: String,
    }
    let json = &container.extensions.get(CRI_METADATA)?.value;
    let versioned: Versioned = serde_json::from_slice(json).ok()?;
    Some(versioned.metadata.image).filter(|digest| is_digest(digest))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}
