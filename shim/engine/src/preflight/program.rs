//! Which program a container's process is, and how it is loaded.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::elf::Elf;
use super::image::{Image, beginning};

/// How many interpreters of interpreters are followed, as many as the kernel does.
const DEPTH: usize = 4;
/// Longest first line of a script that the kernel reads.
const LINE: u64 = 256;
/// Bytes of a file by which it is known.
const KNOWN_BY: u64 = 1 << 20;
/// Where a program is looked for when the environment has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that was found, scripts followed to their interpreter.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its path in the image.
    pub path: PathBuf,
    /// What it is.
    pub elf: Elf,
    /// What it is known by across containers: its content, that of scripts that lead to it, and the
    /// command line. Of one interpreter's programs each is another one.
    pub digest: String,
    /// Whether it gets more rights than who runs it; the loader then ignores preloads.
    pub privileged: bool,
}

impl Program {
    /// Of the process in an OCI spec. An error says what is wrong with it.
    pub(crate) fn of(spec: &Value, image: &Image) -> Result<Self, String> {
        let process = &spec["process"];
        let texts = |name: &str| -> Vec<&str> {
            process[name]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect()
        };
        let search = texts("env")
            .iter()
            .rev()
            .find_map(|variable| variable.strip_prefix("PATH="))
            .unwrap_or(PATH);
        let directory = Path::new(process["cwd"].as_str().unwrap_or("/"));
        let args = texts("args");
        let mut known_by = blake3::Hasher::new();
        for arg in &args {
            known_by.update(&arg.len().to_le_bytes());
            known_by.update(arg.as_bytes());
        }
        let mut names: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        for _ in 0..DEPTH {
            let Some(name) = names.first().cloned() else {
                return Err("it names no program".to_owned());
            };
            let (path, mut file) = image.program(&name, directory, search).map_err(|error| {
                format!("its program {name} cannot be read in the image: {error}")
            })?;
            if path.file_name().is_some_and(|name| name == "env")
                && let Some(next) = behind_env(&names)
            {
                names = next;
                continue;
            }
            let line = beginning(&file, LINE).map_err(|error| format!("{name}: {error}"))?;
            content(&mut file, &mut known_by).map_err(|error| format!("{name}: {error}"))?;
            if let Some(interpreter) = interpreter(&line) {
                names = interpreter;
                continue;
            }
            return Self::read(path, &file, &known_by);
        }
        Err("its program is a script whose interpreters are scripts".to_owned())
    }

    fn read(path: PathBuf, file: &File, known_by: &blake3::Hasher) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("its program {}: {error}", path.display());
        let metadata = file.metadata().map_err(failed)?;
        let privileged = metadata.mode() & 0o6000 != 0 || has_capabilities(file);
        let elf = Elf::read(file.try_clone().map_err(failed)?).map_err(failed)?;
        Ok(Self {
            elf,
            digest: known_by.finalize().to_hex()[..32].to_owned(),
            privileged,
            path,
        })
    }

    /// Its name without directories.
    pub(crate) fn name(&self) -> String {
        self.path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }
}

/// Adds what a file is known by: its beginning, and its size.
fn content(file: &mut File, to: &mut blake3::Hasher) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    to.update(&beginning(file, KNOWN_BY)?);
    to.update(&file.metadata()?.len().to_le_bytes());
    Ok(())
}

/// The command of a script's first line.
fn interpreter(bytes: &[u8]) -> Option<Vec<String>> {
    let line = bytes.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let line = line.trim();
    // The kernel takes the rest of the line as one argument; for env it is a name.
    let (program, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let mut command = vec![program.to_owned()];
    if !rest.trim().is_empty() {
        command.push(rest.trim().to_owned());
    }
    (!program.is_empty()).then_some(command)
}

/// What `env [-i] [NAME=VALUE...] COMMAND` runs. `None` when there is an option that takes more
/// to understand.
fn behind_env(command: &[String]) -> Option<Vec<String>> {
    let rest: Vec<String> = command
        .iter()
        .skip(1)
        .skip_while(|word| *word == "-i" || word.contains('='))
        .cloned()
        .collect();
    rest.first().filter(|word| !word.starts_with('-'))?;
    Some(rest)
}

fn has_capabilities(file: &File) -> bool {
    // SAFETY: the name is a C string; a size of zero asks for the length and writes nothing.
    let length = unsafe {
        libc::fgetxattr(
            file.as_raw_fd(),
            c"security.capability".as_ptr(),
            std::ptr::null_mut(),
            0,
        )
    };
    length > 0
}

#[cfg(test)]
mod tests;
