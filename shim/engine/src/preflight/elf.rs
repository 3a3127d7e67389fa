//! What an ELF file says about how it is loaded; elf(5) and the LSB's symbol versioning.
//!
//! Files come from container images, so nothing in them is believed: the `object` crate checks
//! bounds, and only the parts that are asked for are read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;

use object::elf::{DT_NEEDED, FileHeader64, PT_INTERP, SHT_NOTE};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, ReadCache};

/// Longest list that is read of a file: versions, libraries.
const MOST: usize = 10_000;

/// What matters of an ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Elf {
    /// The machine, as in `e_machine`.
    pub machine: u16,
    /// The loader; `None` for a static program and for a library.
    pub interpreter: Option<String>,
    /// Libraries that it asks for by name.
    pub needed: Vec<String>,
    /// Whether Go's linker made it.
    pub go: bool,
    /// Versions that it defines, such as `GLIBC_2.34`.
    pub defines: BTreeSet<String>,
    /// Versions that it wants of others, by the library's name.
    pub wants: BTreeMap<String, BTreeSet<String>>,
}

/// The machine that this program was made for.
pub(crate) const fn own_machine() -> u16 {
    if cfg!(target_arch = "aarch64") {
        object::elf::EM_AARCH64
    } else {
        object::elf::EM_X86_64
    }
}

impl Elf {
    /// Reads a file. One that is not a 64 bit ELF file is an error of kind `InvalidData`.
    pub(crate) fn read(file: File) -> io::Result<Self> {
        Self::parse(&ReadCache::new(file))
            .map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem))
    }

    fn parse(data: &ReadCache<File>) -> Result<Self, String> {
        Self::parts(data).map_err(|problem| format!("not a usable ELF file: {problem}"))
    }

    fn parts(data: &ReadCache<File>) -> object::Result<Self> {
        let header = FileHeader64::<Endianness>::parse(data)?;
        let endian = header.endian()?;
        let mut elf = Self {
            machine: header.e_machine(endian),
            ..Self::default()
        };
        for segment in header.program_headers(endian, data)? {
            if segment.p_type(endian) == PT_INTERP {
                // One that is cut off is no loader that could be known.
                let bytes = segment.data(endian, data).unwrap_or_default();
                let end = bytes.iter().position(|byte| *byte == 0);
                elf.interpreter = Some(text(&bytes[..end.unwrap_or(bytes.len())]));
            }
        }
        let sections = header.sections(endian, data)?;
        elf.go = sections.iter().any(|section| {
            section.sh_type(endian) == SHT_NOTE
                && sections
                    .section_name(endian, section)
                    .is_ok_and(|name| name == b".note.go.buildid")
        });
        if let Some((entries, link)) = sections.dynamic(endian, data)? {
            let strings = sections.strings(endian, data, link)?;
            for entry in entries.iter().take(MOST) {
                if entry.tag32(endian) == Some(DT_NEEDED) {
                    let name = strings.get(entry.d_val(endian) as u32);
                    elf.needed.push(text(name.unwrap_or_default()));
                }
            }
        }
        if let Some((mut definitions, link)) = sections.gnu_verdef(endian, data)? {
            let strings = sections.strings(endian, data, link)?;
            while let Some((_, mut names)) = definitions.next()? {
                // The first name is the version, the others are those it contains.
                if let Some(name) = names.next()?
                    && elf.defines.len() < MOST
                {
                    elf.defines.insert(text(name.name(endian, strings)?));
                }
            }
        }
        if let Some((mut files, link)) = sections.gnu_verneed(endian, data)? {
            let strings = sections.strings(endian, data, link)?;
            while let Some((file, mut versions)) = files.next()? {
                let wants = elf
                    .wants
                    .entry(text(file.file(endian, strings)?))
                    .or_default();
                while let Some(version) = versions.next()? {
                    if wants.len() < MOST {
                        wants.insert(text(version.name(endian, strings)?));
                    }
                }
            }
        }
        Ok(elf)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The newest glibc among version names like `GLIBC_2.34`, as major and minor.
pub(crate) fn glibc<'a>(names: impl IntoIterator<Item = &'a String>) -> Option<(u32, u32)> {
    names
        .into_iter()
        .filter_map(|name| {
            let mut numbers = name.strip_prefix("GLIBC_")?.split('.');
            let major = numbers.next()?.parse().ok()?;
            Some((major, numbers.next()?.parse().ok()?))
        })
        .max()
}
