//! Reads certificates: for `pki show`, `doctor`, and to know who a caller is.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::error::{Error, Result};
use crate::progress::now_ns;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateInfo {
    /// Where it was read.
    pub file: PathBuf,
    /// Common name: the node's name, or the CA's.
    pub name: String,
    /// Common name of who signed it.
    pub issuer: String,
    /// Names and addresses it is for.
    pub names: Vec<String>,
    /// Whether it is a CA's.
    pub ca: bool,
    /// First second of validity, for people.
    pub not_before: String,
    /// Last second of validity, for people.
    pub not_after: String,
    /// Seconds from now to its end; negative when it is over.
    pub seconds_left: i64,
    /// Whether it is valid now by this machine's clock.
    pub valid_now: bool,
    /// Whether the CA beside it signed it; nothing for a CA or where there is none.
    pub signed_by_ca: Option<bool>,
}

/// Reads `ca.crt` and `node.crt` of a folder, those that are there.
pub fn show(dir: &Path) -> Result<Vec<CertificateInfo>> {
    let ca_file = dir.join("ca.crt");
    let node_file = dir.join("node.crt");
    let ca = ca_file.exists().then(|| load(&ca_file)).transpose()?;
    let mut all = Vec::new();
    if let Some(der) = &ca {
        all.push(describe(&ca_file, der, None)?);
    }
    if node_file.exists() {
        let der = load(&node_file)?;
        all.push(describe(&node_file, &der, ca.as_ref())?);
    }
    if all.is_empty() {
        return Err(Error::Pki(format!(
            "{} has neither ca.crt nor node.crt: `mycedrive pki` makes them",
            dir.display()
        )));
    }
    Ok(all)
}

/// The node's name in its certificate.
pub fn node_name(der: &CertificateDer<'_>) -> Result<String> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|error| Error::Pki(format!("not a certificate: {error}")))?;
    let name = common_name(certificate.subject());
    if super::valid_name(&name) {
        Ok(name)
    } else {
        Err(Error::Pki(format!(
            "the certificate's common name {name:?} is not a node name"
        )))
    }
}

pub(super) fn load(file: &Path) -> Result<CertificateDer<'static>> {
    let text = fs::read(file).map_err(Error::io("cannot read", file))?;
    CertificateDer::from_pem_slice(&text)
        .map_err(|error| Error::Pki(format!("{} is not a certificate: {error}", file.display())))
}

fn describe(
    file: &Path,
    der: &CertificateDer<'_>,
    ca: Option<&CertificateDer<'_>>,
) -> Result<CertificateInfo> {
    let parse = |der| {
        X509Certificate::from_der(der)
            .map(|(_, certificate)| certificate)
            .map_err(|error| Error::Pki(format!("{}: {error}", file.display())))
    };
    let certificate = parse(der)?;
    let now = (now_ns() / 1_000_000_000) as i64;
    let validity = certificate.validity();
    let (from, until) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    let names = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|extension| extension.value.general_names.iter().map(words).collect())
        .unwrap_or_default();
    let signed_by_ca = match ca {
        Some(ca) => Some(
            certificate
                .verify_signature(Some(parse(ca)?.public_key()))
                .is_ok(),
        ),
        None => None,
    };
    Ok(CertificateInfo {
        file: file.to_owned(),
        name: common_name(certificate.subject()),
        issuer: common_name(certificate.issuer()),
        names,
        ca: certificate.is_ca(),
        not_before: validity.not_before.to_string(),
        not_after: validity.not_after.to_string(),
        seconds_left: until - now,
        valid_now: (from..=until).contains(&now),
        signed_by_ca,
    })
}

fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    name.iter_common_name()
        .next()
        .and_then(|value| value.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn words(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => address(bytes),
        other => other.to_string(),
    }
}

fn address(bytes: &[u8]) -> String {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return IpAddr::from(four).to_string();
    }
    <[u8; 16]>::try_from(bytes).map_or_else(
        |_| "?".to_owned(),
        |sixteen| IpAddr::from(sixteen).to_string(),
    )
}
