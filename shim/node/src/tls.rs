//! TLS 1.3 with client certificates from the cluster's own CA. There is no plaintext mode.

use std::path::Path;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, Result};

/// What a node dials with: keys from `pki_dir`.
pub fn client(pki_dir: &Path) -> Result<Arc<ClientConfig>> {
    let keys = Keys::load(pki_dir)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Error::Pki(error.to_string()))?
        .with_root_certificates(keys.roots)
        .with_client_auth_cert(keys.chain, keys.key)
        .map_err(|error| Error::Pki(format!("{}: {error}", pki_dir.display())))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// What a node answers with: keys from `pki_dir`; callers must have a certificate of the CA.
pub fn server(pki_dir: &Path) -> Result<Arc<ServerConfig>> {
    let bad = |error: &dyn std::fmt::Display| Error::Pki(format!("{}: {error}", pki_dir.display()));
    let keys = Keys::load(pki_dir)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(keys.roots, provider())
        .build()
        .map_err(|error| bad(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(keys.chain, keys.key)
        .map_err(|error| bad(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The cryptography of all connections.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

struct Keys {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Keys {
    fn load(dir: &Path) -> Result<Self> {
        let bad = |file: &Path, error: &dyn std::fmt::Display| {
            Error::Pki(format!(
                "cannot use {}: {error}; `mycedrive pki` makes a CA and certificates",
                file.display()
            ))
        };
        let ca = dir.join("ca.crt");
        let mut roots = RootCertStore::empty();
        for cert in certificates(&ca).map_err(|error| bad(&ca, &error))? {
            roots.add(cert).map_err(|error| bad(&ca, &error))?;
        }
        let crt = dir.join("node.crt");
        let chain = certificates(&crt).map_err(|error| bad(&crt, &error))?;
        let file = dir.join("node.key");
        let key = PrivateKeyDer::from_pem_file(&file).map_err(|error| bad(&file, &error))?;
        Ok(Self {
            roots: Arc::new(roots),
            chain,
            key,
        })
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
    let all: Vec<_> = CertificateDer::pem_file_iter(file)?.collect::<Result<_, _>>()?;
    if all.is_empty() {
        return Err(rustls_pki_types::pem::Error::NoItemsFound);
    }
    Ok(all)
}
