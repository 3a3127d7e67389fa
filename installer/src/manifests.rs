//! The cluster's side, as YAML for `kubectl apply -f -`.

/// What can be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Part {
    /// RuntimeClass `mycedrive`, with overhead and scheduling.
    RuntimeClass,
    /// Namespace, service account and the roles for people.
    Rbac,
    /// DaemonSet that installs nodes which cannot be rebuilt.
    Daemonset,
    /// A Deployment, a StatefulSet and a bare pod that arrives from a node.
    Examples,
}

/// Container image of the DaemonSet unless another one is given.
pub const IMAGE: &str = concat!("mycedrive-installer:", env!("CARGO_PKG_VERSION"));

/// All parts, in the order in which a cluster needs them. Examples come last
/// and only when asked for.
pub const CLUSTER: [Part; 3] = [Part::RuntimeClass, Part::Rbac, Part::Daemonset];

/// The YAML of the parts, as one stream of documents.
pub fn print(parts: &[Part], image: &str, restart: bool) -> String {
    let texts: Vec<String> = parts
        .iter()
        .map(|part| match part {
            Part::RuntimeClass => include_str!("assets/runtimeclass.yaml").to_owned(),
            Part::Rbac => include_str!("assets/rbac.yaml").to_owned(),
            Part::Daemonset => include_str!("assets/daemonset.yaml")
                .replace("@IMAGE@", &quoted(image))
                .replace("@RESTART@", if restart { "\"yes\"" } else { "\"no\"" }),
            Part::Examples => include_str!("assets/examples.yaml").to_owned(),
        })
        .collect();
    texts.join("---\n")
}

/// A YAML double-quoted scalar; JSON strings are that.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
