use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

fn event() -> PodEvent {
    PodEvent {
        namespace: "shop".to_owned(),
        pod: "redis-0".to_owned(),
        uid: "u-1".to_owned(),
        warning: true,
        reason: "NotMigratable",
        message: "no engine".to_owned(),
        at_once: false,
    }
}

/// A server that answers each request with the next of `answers`; what it was asked comes back.
async fn server(answers: &'static [&'static str]) -> (Access, tokio::task::JoinHandle<String>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut stream = acceptor.accept(tcp).await.unwrap();
        let mut asked = Vec::new();
        for answer in answers {
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                let mut piece = [0; 4096];
                let count = stream.read(&mut piece).await.unwrap();
                request.extend_from_slice(&piece[..count]);
            }
            asked.extend(request);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        String::from_utf8(asked).unwrap()
    });
    let access = Access {
        server: format!("https://127.0.0.1:{port}"),
        ca: certificate.pem().into_bytes(),
        identity: Identity::Token("secret".to_owned()),
    };
    (access, serving)
}

#[tokio::test]
async fn events_are_created_once() {
    let (access, serving) = server(&[
        "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}",
    ])
    .await;
    let mut client = Client::dial(&access).await.unwrap();
    client.create(&event(), "node-a").await.unwrap();
    client.create(&event(), "node-a").await.unwrap();
    let asked = serving.await.unwrap();
    for part in [
        "POST /api/v1/namespaces/shop/events HTTP/1.1",
        "authorization: Bearer secret",
        "\"reason\":\"NotMigratable\"",
        "\"host\":\"node-a\"",
    ] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
}

#[tokio::test]
async fn a_refusal_says_why() {
    let (access, serving) = server(&[
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 27\r\n\r\n{\"message\":\"not your pod\"}\n",
    ])
    .await;
    let mut client = Client::dial(&access).await.unwrap();
    let error = client.create(&event(), "node-a").await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("403") && error.contains("not your pod"),
        "{error}"
    );
    serving.await.unwrap();
}

#[tokio::test]
async fn another_server_is_not_talked_to() {
    let (mut access, _serving) = server(&[]).await;
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    access.ca = params.self_signed(&key).unwrap().pem().into_bytes();
    assert!(Client::dial(&access).await.is_err());
    access.server = "http://127.0.0.1:1".to_owned();
    let error = Client::dial(&access).await.err().unwrap().to_string();
    assert!(error.contains("not https"), "{error}");
}
