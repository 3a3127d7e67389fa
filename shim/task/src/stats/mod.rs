//! A cgroup's counters as the messages that containerd and kubelet read.

mod v1;
mod v2;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};

/// The counters of a cgroup: `io.containerd.cgroups.v1.Metrics` or `…v2.Metrics`.
pub fn of(cgroup: &Cgroup) -> Result<Any> {
    match cgroup {
        Cgroup::V1(_) => pack("io.containerd.cgroups.v1.Metrics", &v1::collect(cgroup)),
        Cgroup::V2(directory) => {
            if !directory.exists() {
                return Err(Error::NotFound(format!("cgroup {}", directory.display())));
            }
            pack("io.containerd.cgroups.v2.Metrics", &v2::collect(directory))
        }
    }
}

/// Counters of a container of which nothing runs here.
pub fn empty() -> Result<Any> {
    use containerd_shim::protos::cgroups::metrics::Metrics as V1;
    use containerd_shim::protos::cgroups_v2::metrics::Metrics as V2;
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        pack("io.containerd.cgroups.v2.Metrics", &V2::default())
    } else {
        pack("io.containerd.cgroups.v1.Metrics", &V1::default())
    }
}

fn pack(name: &str, message: &impl Message) -> Result<Any> {
    Ok(Any {
        type_url: name.to_owned(),
        value: message
            .write_to_bytes()
            .map_err(|error| Error::decode(name, error))?,
        ..Any::default()
    })
}

/// A file with one number. `max` and huge numbers mean no limit.
fn number(directory: &Path, file: &str) -> u64 {
    let Ok(text) = fs::read_to_string(directory.join(file)) else {
        return 0;
    };
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

/// A file of `KEY NUMBER` lines.
fn table(directory: &Path, file: &str) -> HashMap<String, u64> {
    let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// The huge page sizes of this machine as cgroup files name them, e.g. `2MB`.
fn huge_page_sizes() -> Vec<String> {
    const KILO: u64 = 1024;
    let Ok(entries) = fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kilobytes: u64 = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            Some(if kilobytes >= KILO * KILO {
                format!("{}GB", kilobytes / KILO / KILO)
            } else if kilobytes >= KILO {
                format!("{}MB", kilobytes / KILO)
            } else {
                format!("{kilobytes}KB")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
