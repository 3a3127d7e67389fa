use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use super::api::containers::containers_server::{Containers, ContainersServer};
use super::api::containers::{Extension, GetContainerResponse};
use super::api::images::images_server::{Images, ImagesServer};
use super::api::images::{Descriptor, GetImageResponse, Image};
use super::*;

const RECORDED: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const TAGGED: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Answers as containerd does.
struct Fake;

fn namespace<T>(request: &Request<T>) -> &str {
    request
        .metadata()
        .get("containerd-namespace")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

#[tonic::async_trait]
impl Containers for Fake {
    async fn get(
        &self,
        request: Request<GetContainerRequest>,
    ) -> Result<Response<GetContainerResponse>, Status> {
        if namespace(&request) != "k8s.io" {
            return Err(Status::failed_precondition("namespace is required"));
        }
        let id = request.into_inner().id;
        let mut container = Container {
            id: id.clone(),
            image: "example/redis:1".to_owned(),
            ..Container::default()
        };
        match id.as_str() {
            "cri" => {
                let json = format!(
                    "{{\"Version\":\"v1\",\"Metadata\":{{\"ID\":\"cri\",\"ImageRef\":\"{RECORDED}\"}}}}"
                );
                container.extensions.insert(
                    CRI_METADATA.to_owned(),
                    Extension {
                        type_url: "github.com/containerd/cri/pkg/store/container/Metadata".into(),
                        value: json.into_bytes(),
                    },
                );
            }
            "ctr" => {}
            "bare" => container.image.clear(),
            _ => return Err(Status::not_found(format!("container {id}: not found"))),
        }
        Ok(Response::new(GetContainerResponse {
            container: Some(container),
        }))
    }
}

#[tonic::async_trait]
impl Images for Fake {
    async fn get(
        &self,
        request: Request<GetImageRequest>,
    ) -> Result<Response<GetImageResponse>, Status> {
        let name = request.into_inner().name;
        Ok(Response::new(GetImageResponse {
            image: Some(Image {
                name,
                target: Some(Descriptor {
                    digest: TAGGED.to_owned(),
                    ..Descriptor::default()
                }),
            }),
        }))
    }
}

#[tokio::test]
async fn asks_containerd() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("containerd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(ContainersServer::new(Fake))
            .add_service(ImagesServer::new(Fake))
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    let digests = Digests::new(socket);
    digests.reachable().await.unwrap();
    let of = async |namespace, id| {
        digests
            .of_container(namespace, id)
            .await
            .map_err(|error| error.to_string())
    };
    assert_eq!(of("k8s.io", "cri").await, Ok(RECORDED.to_owned()));
    assert_eq!(of("k8s.io", "ctr").await, Ok(TAGGED.to_owned()));
    assert!(of("k8s.io", "bare").await.unwrap_err().contains("image"));
    assert!(
        of("k8s.io", "none")
            .await
            .unwrap_err()
            .contains("not found")
    );
    assert!(of("other", "cri").await.unwrap_err().contains("namespace"));
}

#[tokio::test]
async fn says_which_socket_does_not_answer() {
    let error = Digests::new("/nonexistent/c.sock".into())
        .of_container("k8s.io", "x")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nonexistent/c.sock"), "{error}");
    assert!(error.contains("No such file"), "{error}");
}
