//! One connection to the API server.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::events::PodEvent;
use super::failed;
use super::kubeconfig::{Access, Identity};
use crate::error::Result;
use crate::tls;

/// For a dial, and for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read.
const LONGEST: usize = 64 << 10;
const HTTPS: u16 = 443;

pub(super) struct Client {
    sender: SendRequest<Full<Bytes>>,
    server: Uri,
    token: Option<String>,
}

impl Client {
    pub(super) async fn dial(access: &Access) -> Result<Self> {
        let server: Uri = access
            .server
            .parse()
            .map_err(|error| failed(format!("server {}: {error}", access.server)))?;
        let host = match (server.scheme_str(), server.host()) {
            (Some("https"), Some(host)) => host.trim_matches(['[', ']']).to_owned(),
            _ => return Err(failed(format!("server {server} is not https://HOST"))),
        };
        let port = server.port_u16().unwrap_or(HTTPS);
        let config = config(access)?;
        let dial = async {
            let tcp = TcpStream::connect((host.as_str(), port)).await?;
            let name = ServerName::try_from(host.clone()).map_err(std::io::Error::other)?;
            TlsConnector::from(config).connect(name, tcp).await
        };
        let told = |what: String| failed(format!("API server {server}: {what}"));
        let stream = timeout(PATIENCE, dial)
            .await
            .map_err(|_| told("no answer".to_owned()))?
            .map_err(|error| told(error.to_string()))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| told(error.to_string()))?;
        tokio::spawn(connection);
        let token = match &access.identity {
            Identity::Token(token) => Some(token.clone()),
            Identity::Certificate { .. } => None,
        };
        Ok(Self {
            sender,
            server,
            token,
        })
    }

    /// Writes an event; one that is there already is left as it is.
    pub(super) async fn create(&mut self, event: &PodEvent, node: &str) -> Result<()> {
        let told = |what: String| failed(format!("API server {}: {what}", self.server));
        let body = event.body(node, &now()).to_string();
        let place = self.server.path().trim_end_matches('/');
        let path = format!("{place}/api/v1/namespaces/{}/events", event.namespace);
        let host = self.server.authority().map_or("", |host| host.as_str());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| told(error.to_string()))?;
        let sent = timeout(PATIENCE, self.sender.send_request(request)).await;
        let answer = sent
            .map_err(|_| told("no answer".to_owned()))?
            .map_err(|error| told(error.to_string()))?;
        let status = answer.status();
        // Read to its end, for the next request.
        let body = timeout(PATIENCE, Limited::new(answer, LONGEST).collect()).await;
        if status.is_success() || status == StatusCode::CONFLICT {
            return Ok(());
        }
        let body = body
            .ok()
            .and_then(std::result::Result::ok)
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let status_object: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let why = status_object["message"].as_str().unwrap_or_default();
        Err(told(format!("{status} for an event: {why}")))
    }
}

fn config(access: &Access) -> Result<Arc<ClientConfig>> {
    let bad = |what: &dyn std::fmt::Display| failed(format!("credentials: {what}"));
    let certificates = |pem: &[u8]| -> Result<Vec<CertificateDer<'static>>> {
        let all: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        all.map_err(|error| bad(&error))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&access.ca)? {
        roots.add(certificate).map_err(|error| bad(&error))?;
    }
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?
        .with_root_certificates(roots);
    Ok(Arc::new(match &access.identity {
        Identity::Certificate { chain, key } => {
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| bad(&error))?;
            builder
                .with_client_auth_cert(certificates(chain)?, key)
                .map_err(|error| bad(&error))?
        }
        Identity::Token(_) => builder.with_no_client_auth(),
    }))
}

/// RFC 3339, in seconds.
fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let whole = now.replace_nanosecond(0).unwrap_or(now);
    whole.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
