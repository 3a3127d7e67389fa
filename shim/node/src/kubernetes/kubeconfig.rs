//! A kubeconfig file (`v1.Config`,
//! <https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>), as kubelets have it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::failed;
use crate::error::{Error, Result};

/// The server of the current context, and who we are there. PEM, not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Access {
    /// `https://HOST:PORT`.
    pub(super) server: String,
    pub(super) ca: Vec<u8>,
    pub(super) identity: Identity,
}

/// How we say who we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Identity {
    Certificate { chain: Vec<u8>, key: Vec<u8> },
    Token(String),
}

/// Without the secret.
impl std::fmt::Debug for Identity {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Certificate { .. } => "Certificate",
            Self::Token(_) => "Token",
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Config {
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

impl Access {
    /// Reads `file` and the files that it names, relative ones beside it.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).map_err(Error::io("cannot read", file))?;
        let bad = |what: &str| failed(format!("{}: {what}", file.display()));
        let config: Config =
            serde_norway::from_str(&text).map_err(|error| bad(&error.to_string()))?;
        let Config {
            clusters,
            users,
            contexts,
            current_context,
        } = config;
        let context = contexts
            .into_iter()
            .find(|one| one.name == current_context)
            .ok_or_else(|| bad("its current-context is not among its contexts"))?
            .context;
        let cluster = clusters
            .into_iter()
            .find(|one| one.name == context.cluster)
            .ok_or_else(|| bad("the cluster of its current-context is not there"))?
            .cluster;
        let user = users
            .into_iter()
            .find(|one| one.name == context.user)
            .ok_or_else(|| bad("the user of its current-context is not there"))?
            .user;
        let beside = file.parent().unwrap_or(Path::new("/"));
        let ca = content(
            cluster.certificate_authority_data.as_deref(),
            cluster.certificate_authority.as_deref(),
            beside,
        )?
        .ok_or_else(|| bad("it names no certificate-authority"))?;
        Ok(Self {
            server: cluster.server,
            ca,
            identity: identity(&user, beside)?.ok_or_else(|| {
                bad("its user has neither a client-certificate with a client-key nor a token")
            })?,
        })
    }
}

fn identity(user: &User, beside: &Path) -> Result<Option<Identity>> {
    let chain = content(
        user.client_certificate_data.as_deref(),
        user.client_certificate.as_deref(),
        beside,
    )?;
    let key = content(
        user.client_key_data.as_deref(),
        user.client_key.as_deref(),
        beside,
    )?;
    if let (Some(chain), Some(key)) = (chain, key) {
        return Ok(Some(Identity::Certificate { chain, key }));
    }
    // The file comes first, as it is renewed.
    if let Some(token) = content(None, user.token_file.as_deref(), beside)? {
        let token = String::from_utf8_lossy(&token).trim().to_owned();
        return Ok(Some(Identity::Token(token)));
    }
    Ok(user.token.clone().map(Identity::Token))
}

/// What stands in the file, or what it says where it is.
fn content(data: Option<&str>, file: Option<&Path>, beside: &Path) -> Result<Option<Vec<u8>>> {
    if let Some(data) = data {
        use base64::Engine as _;
        let decoded = base64::engine::general_purpose::STANDARD.decode(data.trim());
        return decoded
            .map(Some)
            .map_err(|error| failed(format!("a kubeconfig's data is not base64: {error}")));
    }
    let Some(file) = file else { return Ok(None) };
    let file = beside.join(file);
    fs::read(&file)
        .map(Some)
        .map_err(Error::io("cannot read", &file))
}

#[cfg(test)]
#[path = "kubeconfig_tests.rs"]
mod tests;
