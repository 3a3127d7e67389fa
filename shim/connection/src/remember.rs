//! What was there before, written down in the alias of the TUN: it lives exactly as long as
//! the changes it describes, through any crash of ours, and `ip link` shows it.

use crate::device::is_ours;
use crate::kernel::link::{Link, Links};
use crate::kernel::{sysctl, tun};
use crate::{Error, Result, Tun};

/// Longest alias the kernel takes (IFALIASZ, with the terminating zero).
const LONGEST: usize = 255;

/// Make the device if it is not there, remembering the values that `sysctls` had before any of
/// our devices (paths below `net/`; absent ones are left out). Returns its index.
pub(crate) fn device(links: &mut Links, device: Tun, sysctls: &[String]) -> Result<u32> {
    if links.find(device.name())?.is_none() {
        drop(tun::create(device)?);
    }
    let all = links.list()?;
    let link = all
        .iter()
        .find(|link| link.name == device.name())
        .ok_or(Error::NoDevice)?;
    if parse(&link.alias).is_some() {
        return Ok(link.index);
    }
    // No alias: made just now, or by a call that died before it changed anything.
    let mut alias = device.role().to_owned();
    for path in sysctls {
        // Where another of our devices has changed it, that one knows what it was.
        let known = others(&all, device.name())
            .find(|(theirs, _)| theirs == path)
            .map(|(_, value)| value.to_owned());
        let value = match known {
            Some(value) => Some(value),
            None => sysctl::read(&format!("net/{path}"))?,
        };
        if let Some(value) = value {
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

/// Remembered sysctls of an alias that this module wrote.
pub(crate) fn parse(alias: &str) -> Option<Vec<(&str, &str)>> {
    let mut words = alias.split_ascii_whitespace();
    matches!(words.next()?, "source" | "destination")
        .then(|| words.filter_map(|word| word.split_once('=')).collect())
}

/// What our other devices remember.
fn others<'a>(all: &'a [Link], name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    all.iter()
        .filter(move |link| is_ours(&link.name) && link.name != name)
        .filter_map(|link| parse(&link.alias))
        .flatten()
}

/// Put the remembered values back, but for those that another of our devices still needs
/// changed, and remove the device. Nothing happens if it is not there.
pub(crate) fn forget(links: &mut Links, device: Tun) -> Result<()> {
    let all = links.list()?;
    let Some(link) = all.iter().find(|link| link.name == device.name()) else {
        return Ok(());
    };
    for (path, value) in parse(&link.alias).unwrap_or_default() {
        if others(&all, device.name()).all(|(theirs, _)| theirs != path) {
            sysctl::write_if_present(&format!("net/{path}"), value)?;
        }
    }
    links.delete(link.index)
}

#[cfg(test)]
#[path = "remember_tests.rs"]
mod tests;
