//! The cluster's CA and the nodes' certificates.
//!
//! A CA is `ca.crt` and `ca.key` in a folder that stays with the operator. A node has `ca.crt`,
//! `node.crt` and `node.key`. Keys are EC P-256, PKCS#8 in PEM, files of mode 0600. A node's
//! certificate is for both server and client use; its common name is the node's name.

mod issue;
mod show;

#[cfg(test)]
mod tests;

pub use issue::{CaRequest, NodeRequest, issue, make_ca};
pub use show::{CertificateInfo, node_name, show};

/// Whether `name` is a host name or an IPv4 address: what nodes are called and dialled by.
pub fn valid_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
