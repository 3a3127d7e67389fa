//! What was there before, written down in the alias of `myce0`: it lives exactly as long as
//! the changes it describes, through any crash of ours, and `ip link` shows it.

use crate::kernel::link::Links;
use crate::kernel::{sysctl, tun};
use crate::{DEVICE, Error, Result};

/// What `myce0` is for in this pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Source,
    Destination,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Source => "source",
            Role::Destination => "destination",
        }
    }
}

/// Longest alias the kernel takes (IFALIASZ, with the terminating zero).
const LONGEST: usize = 255;

/// Make the device in this role if it is not there, remembering the present values of
/// `sysctls` (paths below `net/`; absent ones are left out). Returns its index.
pub(crate) fn device(links: &mut Links, role: Role, sysctls: &[String]) -> Result<u32> {
    if links.find(DEVICE)?.is_none() {
        drop(tun::create()?);
    }
    let link = links.find(DEVICE)?.ok_or(Error::NoDevice)?;
    match parse(&link.alias) {
        Some((present, _)) if present == role => return Ok(link.index),
        Some((present, _)) => {
            return Err(Error::Busy {
                role: present.name(),
            });
        }
        None => {}
    }
    // No alias: made just now, or by a call that died before it changed anything.
    let mut alias = role.name().to_owned();
    for path in sysctls {
        if let Some(value) = sysctl::read(&format!("net/{path}"))? {
            let entry = format!(" {path}={value}");
            if alias.len() + entry.len() <= LONGEST {
                alias.push_str(&entry);
            } else {
                tracing::warn!(
                    path,
                    "no room to remember this sysctl; it will not be restored"
                );
            }
        }
    }
    links.set_alias(link.index, &alias)?;
    Ok(link.index)
}

/// Role and remembered sysctls of an alias that this module wrote.
pub(crate) fn parse(alias: &str) -> Option<(Role, Vec<(&str, &str)>)> {
    let mut words = alias.split_ascii_whitespace();
    let role = match words.next()? {
        "source" => Role::Source,
        "destination" => Role::Destination,
        _ => return None,
    };
    Some((role, words.filter_map(|w| w.split_once('=')).collect()))
}

/// Put the remembered values back and remove the device. Nothing happens if it is not there.
pub(crate) fn forget(links: &mut Links) -> Result<()> {
    let Some(link) = links.find(DEVICE)? else {
        return Ok(());
    };
    if let Some((_, sysctls)) = parse(&link.alias) {
        for (path, value) in sysctls {
            sysctl::write_if_present(&format!("net/{path}"), value)?;
        }
    }
    links.delete(link.index)
}

#[cfg(test)]
#[path = "remember_tests.rs"]
mod tests;
