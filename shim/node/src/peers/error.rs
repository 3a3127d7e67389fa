//! Why another node cannot be talked to: each cause has its own words.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// Another node cannot be reached, is not who it should be, or does not accept this node.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PeerError {
    /// Not `host:port`.
    #[error("{endpoint:?} is not a node's address: it must be host:port, e.g. node-a.example:7843")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// This node's own keys cannot be used.
    #[error("cannot dial {endpoint}: {message}")]
    Keys {
        /// The node dialled.
        endpoint: String,
        /// What is wrong with the keys.
        message: String,
    },
    /// No connection.
    #[error(
        "node {endpoint} is unreachable: {message}; is `mycedrive serve` running there, and does \
         a firewall let the port through?"
    )]
    Unreachable {
        /// The node dialled.
        endpoint: String,
        /// The system's answer.
        message: String,
    },
    /// It does not answer in time.
    #[error("node {endpoint} did not answer within {seconds} s")]
    TimedOut {
        /// The node dialled.
        endpoint: String,
        /// The limit.
        seconds: f64,
    },
    /// Its certificate is not from this cluster's CA.
    #[error(
        "node {endpoint} has a certificate from another CA: give both nodes certificates from \
         one CA (`mycedrive pki issue`)"
    )]
    WrongCa {
        /// The node dialled.
        endpoint: String,
    },
    /// Its certificate is for other names.
    #[error(
        "node {endpoint} has a certificate for other names{names}: issue it with `--address` for \
         the name it is dialled by"
    )]
    WrongName {
        /// The node dialled.
        endpoint: String,
        /// " (a, b)", or empty.
        names: String,
    },
    /// Its certificate is past its time, or not yet valid.
    #[error(
        "node {endpoint} has a certificate that is not valid now ({message}): renew it with \
         `mycedrive pki issue --force`, or set the clock"
    )]
    Expired {
        /// The node dialled.
        endpoint: String,
        /// Expired or not yet valid.
        message: String,
    },
    /// It does not accept this node's certificate.
    #[error("node {endpoint} does not accept this node's certificate: {message}")]
    Refused {
        /// The node dialled.
        endpoint: String,
        /// What it said.
        message: String,
    },
    /// Another failure of TLS.
    #[error("TLS with node {endpoint} failed: {message}")]
    Tls {
        /// The node dialled.
        endpoint: String,
        /// The library's words.
        message: String,
    },
    /// The connection ended.
    #[error("the connection to node {endpoint} was lost: {message}")]
    Lost {
        /// The other node.
        endpoint: String,
        /// Why, as far as it is known.
        message: String,
    },
}

impl PeerError {
    pub(super) fn endpoint(endpoint: &str) -> Self {
        Self::Endpoint {
            endpoint: endpoint.to_owned(),
        }
    }

    /// Sorts what a handshake failed with.
    pub(super) fn of_handshake(endpoint: &str, error: &io::Error) -> Self {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(tls) => Self::of_tls(endpoint, tls),
            None => Self::Lost {
                endpoint: endpoint.to_owned(),
                message: format!("{error}, during the handshake"),
            },
        }
    }

    fn of_tls(endpoint: &str, error: &rustls::Error) -> Self {
        let endpoint = endpoint.to_owned();
        match error {
            rustls::Error::InvalidCertificate(cause) => of_certificate(endpoint, cause),
            rustls::Error::AlertReceived(alert) => match alert_words(*alert) {
                Some(words) => Self::Refused {
                    endpoint,
                    message: words.to_owned(),
                },
                None => Self::Tls {
                    endpoint,
                    message: format!("it answered with the alert {alert:?}"),
                },
            },
            other => Self::Tls {
                endpoint,
                message: other.to_string(),
            },
        }
    }

    /// Whether a call failed because of the connection, not because the node said no.
    pub fn of_status(endpoint: &str, status: &tonic::Status) -> Option<Self> {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(status.source()?);
        let mut last = String::new();
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>()
                && let Some(tls) = io
                    .get_ref()
                    .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                return Some(Self::of_tls(endpoint, tls));
            }
            last = error.to_string();
            cause = error.source();
        }
        Some(Self::Lost {
            endpoint: endpoint.to_owned(),
            message: last,
        })
    }
}

fn of_certificate(endpoint: String, cause: &CertificateError) -> PeerError {
    match cause {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            PeerError::WrongCa { endpoint }
        }
        CertificateError::NotValidForName => PeerError::WrongName {
            endpoint,
            names: String::new(),
        },
        CertificateError::NotValidForNameContext { presented, .. } => PeerError::WrongName {
            endpoint,
            names: format!(" ({})", presented.join(", ")),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => PeerError::Expired {
            endpoint,
            message: "expired".to_owned(),
        },
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            PeerError::Expired {
                endpoint,
                message: "not yet valid".to_owned(),
            }
        }
        other => PeerError::Tls {
            endpoint,
            message: other.to_string(),
        },
    }
}

fn alert_words(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it is not from the CA that node trusts"
        }
        AlertDescription::CertificateExpired => "it is expired there; compare the clocks",
        AlertDescription::CertificateRequired => "none was sent",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "it was rejected; that node's log says why",
        _ => return None,
    })
}
