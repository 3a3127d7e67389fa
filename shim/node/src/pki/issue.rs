//! Makes a CA, and certificates for nodes.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use super::valid_name;
use crate::error::{Error, Result};
use crate::files;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Certificates are valid from a little before they are made: clocks of nodes differ.
const EARLIER: Duration = Duration::from_secs(3600);

/// What `mycedrive pki ca` makes.
#[derive(Debug, Clone)]
pub struct CaRequest {
    /// Folder of `ca.crt` and `ca.key`.
    pub out: PathBuf,
    /// Common name of the CA.
    pub name: String,
    /// Validity, days.
    pub days: u32,
    /// Replace a CA that is there.
    pub force: bool,
}

/// What `mycedrive pki issue` makes.
#[derive(Debug, Clone)]
pub struct NodeRequest {
    /// Folder of the CA.
    pub ca: PathBuf,
    /// The node's name.
    pub name: String,
    /// Host names and IP addresses by which the node is dialled; its name is added.
    pub addresses: Vec<String>,
    /// Folder of `ca.crt`, `node.crt` and `node.key`.
    pub out: PathBuf,
    /// Validity, days.
    pub days: u32,
    /// Replace a certificate that is there.
    pub force: bool,
}

/// Makes a CA. Returns the files written.
pub fn make_ca(request: &CaRequest) -> Result<Vec<PathBuf>> {
    let crt = request.out.join("ca.crt");
    let key = request.out.join("ca.key");
    refuse_overwriting(&[&crt, &key], request.force)?;
    let pair = new_key()?;
    let mut params = params(&request.name, Vec::new(), request.days)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&pair).map_err(failed)?;
    files::write_private(&key, pair.serialize_pem().as_bytes())?;
    files::write_public(&crt, certificate.pem().as_bytes())?;
    Ok(vec![crt, key])
}

/// Issues a node's certificate. Returns the files written.
pub fn issue(request: &NodeRequest) -> Result<Vec<PathBuf>> {
    check_names(request)?;
    let ca_crt = read(&request.ca.join("ca.crt"))?;
    let ca_key = read(&request.ca.join("ca.key"))?;
    let ca_pair = KeyPair::from_pem(&ca_key)
        .map_err(|error| Error::Pki(format!("{}: {error}", request.ca.join("ca.key").display())))?;
    let issuer = Issuer::from_ca_cert_pem(&ca_crt, ca_pair)
        .map_err(|error| Error::Pki(format!("{}: {error}", request.ca.join("ca.crt").display())))?;

    let out = &request.out;
    let (ca, crt, key) = (
        out.join("ca.crt"),
        out.join("node.crt"),
        out.join("node.key"),
    );
    refuse_overwriting(&[&crt, &key], request.force)?;
    let same_ca = fs::read_to_string(&ca).is_ok_and(|there| there == ca_crt);
    if !same_ca {
        refuse_overwriting(&[&ca], request.force)?;
    }

    let pair = new_key()?;
    let mut names = vec![request.name.clone()];
    for address in &request.addresses {
        if !names.contains(address) {
            names.push(address.clone());
        }
    }
    let mut params = params(&request.name, names, request.days)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.signed_by(&pair, &issuer).map_err(failed)?;
    files::write_private(&key, pair.serialize_pem().as_bytes())?;
    files::write_public(&crt, certificate.pem().as_bytes())?;
    if !same_ca {
        files::write_public(&ca, ca_crt.as_bytes())?;
    }
    Ok(vec![ca, crt, key])
}

fn check_names(request: &NodeRequest) -> Result<()> {
    if !valid_name(&request.name) {
        return Err(Error::Pki(format!(
            "--name {:?} is not a node name: letters, digits, '-' and '.', at most 253",
            request.name
        )));
    }
    for address in &request.addresses {
        if address.parse::<IpAddr>().is_err() && !valid_name(address) {
            return Err(Error::Pki(format!(
                "--address {address:?} is neither a host name nor an IP address (no port, no \
                 brackets)"
            )));
        }
    }
    Ok(())
}

fn params(name: &str, names: Vec<String>, days: u32) -> Result<CertificateParams> {
    if days == 0 {
        return Err(Error::Pki("--days must be 1 or more".to_owned()));
    }
    let mut params = CertificateParams::new(names).map_err(failed)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| Error::Pki("the clock stands before 1970: set it first".to_owned()))?;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(EARLIER);
    params.not_after = epoch + now + DAY * days;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    Ok(params)
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|error| {
        Error::Pki(format!(
            "cannot read {}: {error}; `mycedrive pki ca --out DIR` makes a CA",
            file.display()
        ))
    })
}

fn refuse_overwriting(files: &[&Path], force: bool) -> Result<()> {
    match files.iter().find(|file| file.exists()) {
        Some(file) if !force => Err(Error::Pki(format!(
            "{} is there already: with --force it is replaced",
            file.display()
        ))),
        _ => Ok(()),
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn failed(error: rcgen::Error) -> Error {
    Error::Pki(format!("cannot make the certificate: {error}"))
}
