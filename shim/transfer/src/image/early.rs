//! Images of DMTCP while they are written.
//!
//! DMTCP appends to `NAME.dmtcp.temp` in a directory of its own and renames it; the shim moves it to
//! where it stays. A file keeps its content on this way, so it can be sent under its last name.

use super::PAGE;

/// Where DMTCP writes, below the directory of a container's images.
const PARTIAL: &[u8] = b"dmtcp-partial";
const IMAGE: &[u8] = b".dmtcp";
const TEMPORARY: &[u8] = b".temp";

/// Where a file that DMTCP writes will be.
pub(super) fn final_path(path: &[u8]) -> Option<Box<[u8]>> {
    let mut parts = path.split(|byte| *byte == b'/');
    let (container, folder, name) = (parts.next()?, parts.next()?, parts.next()?);
    if folder != PARTIAL || parts.next().is_some() {
        return None;
    }
    let name = name.strip_suffix(TEMPORARY).unwrap_or(name);
    name.ends_with(IMAGE)
        .then(|| [container, b"/", name].concat().into())
}

/// Where in the first page of `bytes`, but not at its beginning, an area of memory seems to begin.
///
/// Before each area stand its addresses and its size. Of a mapping that reaches beyond the end of
/// its file DMTCP writes what the file has, so that the pages of later areas may begin anywhere. A
/// place that only looks so does no harm.
pub(super) fn area(bytes: &[u8]) -> Option<usize> {
    const IN_PAGE: u64 = PAGE as u64 - 1;
    const HIGHEST: u64 = 1 << 57;
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 8)?;
        bytes.try_into().ok().map(u64::from_ne_bytes)
    };
    let begins = |at: &usize| {
        let (Some(begin), Some(end), Some(size)) = (word(*at), word(at + 8), word(at + 16)) else {
            return false;
        };
        (begin | end) & IN_PAGE == 0
            && (1..end).contains(&begin)
            && end < HIGHEST
            && end - begin == size
    };
    let low = |at: &usize| bytes.get(*at) == Some(&0);
    (1..PAGE).filter(low).find(begins)
}

#[cfg(test)]
mod tests {
    use super::{PAGE, area, final_path};

    #[test]
    fn areas_that_begin_within_a_page() {
        let head =
            |begin: u64, end: u64, size: u64| [begin, end, size].map(u64::to_ne_bytes).concat();
        let at = |offset: usize, head: &[u8]| {
            let mut bytes = vec![0xff; 2 * PAGE];
            bytes[offset..offset + 24].copy_from_slice(head);
            area(&bytes)
        };
        let good = head(0x7f00_0000_1000, 0x7f00_0000_3000, 0x2000);
        for offset in [1, 17, 1360, PAGE - 1] {
            assert_eq!(at(offset, &good), Some(offset));
        }
        assert_eq!(at(0, &good), None);
        assert_eq!(at(PAGE, &good), None);
        for bad in [
            head(0x1000, 0x3000, 0x1000),
            head(0x1000, 0x3001, 0x2001),
            head(0x3000, 0x1000, 0),
            head(0, 0x1000, 0x1000),
            head(0x1000, u64::MAX - 0xfff, u64::MAX - 0x1fff),
        ] {
            assert_eq!(at(40, &bad), None, "{bad:?}");
        }
        assert_eq!(area(&[0; PAGE]), None);
        assert_eq!(area(&good[..20]), None);
    }

    #[test]
    fn only_images_that_are_written() {
        let of =
            |path: &str| final_path(path.as_bytes()).map(|p| String::from_utf8(p.into()).unwrap());
        let image = Some("redis/ckpt_a.dmtcp".to_owned());
        assert_eq!(of("redis/dmtcp-partial/ckpt_a.dmtcp.temp"), image);
        assert_eq!(of("redis/dmtcp-partial/ckpt_a.dmtcp"), image);
        for other in [
            "redis/ckpt_a.dmtcp",
            "redis/dmtcp-partial/ckpt_a_files/x.dmtcp",
            "redis/dmtcp-partial/other",
            "dmtcp-partial/ckpt_a.dmtcp",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
