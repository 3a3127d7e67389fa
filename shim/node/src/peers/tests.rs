use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Config;
use crate::pki::{CaRequest, NodeRequest, issue, make_ca};

/// A folder with keys of some nodes, and a daemon that answers on loopback.
struct Bench {
    dir: tempfile::TempDir,
    endpoint: String,
    stop: CancellationToken,
}

fn make(dir: &Path, ca: &str, name: &str, addresses: &[&str]) -> PathBuf {
    let authority = dir.join(ca);
    if !authority.exists() {
        make_ca(&CaRequest {
            out: authority.clone(),
            name: ca.to_owned(),
            days: 10,
            force: false,
        })
        .unwrap();
    }
    let out = dir.join(name);
    issue(&NodeRequest {
        ca: authority,
        name: name.to_owned(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        out: out.clone(),
        days: 5,
        force: false,
    })
    .unwrap();
    out
}

impl Bench {
    async fn new(addresses: &[&str]) -> Self {
        Self::with(|dir| make(dir, "ca", "server", addresses)).await
    }

    /// `keys` makes the server's keys in a folder.
    async fn with(keys: impl FnOnce(&Path) -> PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = keys(dir.path());
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let config = Config {
            pki_dir: pki,
            listen: ([127, 0, 0, 1], port).into(),
            state_dir: dir.path().join("state"),
            ..Config::default()
        }
        .completed(Some(dir.path().join("run")), "server");
        let stop = CancellationToken::new();
        tokio::spawn(crate::serve::serve_until(
            config,
            stop.clone().cancelled_owned(),
        ));
        let bench = Self {
            endpoint: format!("127.0.0.1:{port}"),
            dir,
            stop,
        };
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(&bench.endpoint)
                .await
                .is_ok()
            {
                return bench;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the daemon does not listen");
    }

    async fn dial(&self, pki: PathBuf) -> Result<Channel, PeerError> {
        Peers::new(pki, Duration::from_secs(3))
            .dial(&self.endpoint)
            .await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn two_nodes_of_one_ca_talk() {
    use mycedrive_proto::migration::AskRequest;
    use mycedrive_proto::migration::destination_client::DestinationClient;

    let bench = Bench::new(&["127.0.0.1"]).await;
    let client = make(bench.dir.path(), "ca", "client", &[]);
    let channel = bench.dial(client).await.unwrap();
    let status = DestinationClient::new(channel)
        .ask(AskRequest {
            migration_id: "no such migration".to_owned(),
        })
        .await;
    // Whatever the answer, it is the service's and not the transport's.
    if let Err(status) = status {
        assert_eq!(
            PeerError::of_status(&bench.endpoint, &status),
            None,
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused_with_words() {
    let bench = Bench::new(&["127.0.0.1"]).await;
    let stranger = make(bench.dir.path(), "other-ca", "stranger", &[]);
    // The stranger trusts the server, but the server does not trust the stranger.
    std::fs::copy(bench.dir.path().join("ca/ca.crt"), stranger.join("ca.crt")).unwrap();
    let error = bench.dial(stranger).await.unwrap_err();
    assert!(matches!(error, PeerError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_trusted() {
    let bench = Bench::new(&["127.0.0.1"]).await;
    let stranger = make(bench.dir.path(), "other-ca", "stranger", &[]);
    let error = bench.dial(stranger).await.unwrap_err();
    assert!(matches!(error, PeerError::WrongCa { .. }), "{error:?}");
}

#[tokio::test]
async fn the_name_must_be_in_the_certificate() {
    let bench = Bench::new(&["192.0.2.1"]).await;
    let client = make(bench.dir.path(), "ca", "client", &[]);
    let error = bench.dial(client).await.unwrap_err();
    assert!(matches!(error, PeerError::WrongName { .. }), "{error:?}");
    assert!(error.to_string().contains("--address"), "{error}");
}

/// Keys of a server whose certificate is valid from year `from` to year `until`.
fn make_dated(dir: &Path, from: i32, until: i32) -> PathBuf {
    let out = make(dir, "ca", "dated", &[]);
    let read = |name: &str| std::fs::read_to_string(dir.join("ca").join(name)).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.crt"), ca_key).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(out.join("node.crt"), certificate.pem()).unwrap();
    std::fs::write(out.join("node.key"), key.serialize_pem()).unwrap();
    out
}

#[tokio::test]
async fn dates_are_checked_on_both_sides() {
    for (from, until, words) in [(1990, 2000, "expired"), (2090, 2091, "not yet valid")] {
        let bench = Bench::with(|dir| {
            make(dir, "ca", "client", &[]);
            make_dated(dir, from, until)
        })
        .await;
        let error = bench
            .dial(bench.dir.path().join("client"))
            .await
            .unwrap_err();
        assert!(matches!(error, PeerError::Expired { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let bench = Bench::new(&["127.0.0.1"]).await;
    let old = make_dated(bench.dir.path(), 1990, 2000);
    let error = bench.dial(old).await.unwrap_err();
    assert!(matches!(error, PeerError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test]
async fn a_renewed_certificate_needs_no_restart() {
    let bench = Bench::with(|dir| {
        make(dir, "ca", "client", &[]);
        make_dated(dir, 1990, 2000)
    })
    .await;
    let client = bench.dir.path().join("client");
    bench.dial(client.clone()).await.unwrap_err();
    let renewed = make(bench.dir.path(), "ca", "renewed", &["127.0.0.1"]);
    for name in ["node.key", "node.crt"] {
        let to = bench.dir.path().join("dated").join(name);
        std::fs::copy(renewed.join(name), to).unwrap();
    }
    bench.dial(client).await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let client = make(dir.path(), "ca", "client", &[]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = free.local_addr().unwrap().to_string();
    drop(free);
    let error = Peers::new(client, Duration::from_secs(2))
        .dial(&endpoint)
        .await
        .unwrap_err();
    assert!(matches!(error, PeerError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_silent_server_runs_into_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let client = make(dir.path(), "ca", "client", &[]);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = silent.local_addr().unwrap().to_string();
    let error = Peers::new(client, Duration::from_millis(200))
        .dial(&endpoint)
        .await
        .unwrap_err();
    assert!(matches!(error, PeerError::TimedOut { .. }), "{error:?}");
}

/// Handshake with a configuration that no node would use. Gives the error, or what the first
/// read says.
async fn raw(bench: &Bench, config: rustls::ClientConfig) -> std::io::Result<usize> {
    use tokio::io::AsyncReadExt as _;
    let tcp = TcpStream::connect(&bench.endpoint).await?;
    let mut stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
        .connect(ServerName::try_from("127.0.0.1").unwrap(), tcp)
        .await?;
    stream.read(&mut [0; 16]).await
}

fn roots(bench: &Bench) -> rustls::RootCertStore {
    use rustls_pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    let ca = rustls_pki_types::CertificateDer::from_pem_file(bench.dir.path().join("ca/ca.crt"));
    roots.add(ca.unwrap()).unwrap();
    roots
}

fn builder(
    version: &'static rustls::SupportedProtocolVersion,
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
}

#[tokio::test]
async fn without_a_client_certificate_there_is_no_connection() {
    let bench = Bench::new(&["127.0.0.1"]).await;
    let config = builder(&rustls::version::TLS13)
        .with_root_certificates(roots(&bench))
        .with_no_client_auth();
    let error = raw(&bench, config).await.unwrap_err();
    let error = PeerError::of_handshake(&bench.endpoint, &error);
    assert!(matches!(error, PeerError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    use rustls_pki_types::pem::PemObject as _;
    let bench = Bench::new(&["127.0.0.1"]).await;
    let pki = make(bench.dir.path(), "ca", "client", &[]);
    let chain = rustls_pki_types::CertificateDer::from_pem_file(pki.join("node.crt")).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(pki.join("node.key")).unwrap();
    let config = builder(&rustls::version::TLS12)
        .with_root_certificates(roots(&bench))
        .with_client_auth_cert(vec![chain], key)
        .unwrap();
    let error = raw(&bench, config).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
}

#[tokio::test]
async fn plaintext_is_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bench = Bench::new(&["127.0.0.1"]).await;
    let mut tcp = TcpStream::connect(&bench.endpoint).await.unwrap();
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer).await;
    // A TLS alert record (21), or nothing; never HTTP/2 settings.
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
}

#[test]
fn endpoints() {
    assert_eq!(split_endpoint("a.example:7843"), Some(("a.example", 7843)));
    assert_eq!(split_endpoint("[fd00::1]:1"), Some(("fd00::1", 1)));
    for bad in [
        "",
        "a",
        "a:",
        ":1",
        "a:0",
        "a:99999",
        "fd00::1:7843",
        "[a]:1",
        "a b:1",
        "a/b:1",
    ] {
        assert_eq!(split_endpoint(bad), None, "{bad}");
    }
}
