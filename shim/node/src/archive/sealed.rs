//! Archives that are encrypted: the whole file is one of age's (age-encryption.org/v1), so that `age`
//! itself opens it as well.
//!
//! With a passphrase, whoever made the file knew it. With recipients anybody may have made it: their
//! keys are public. Either way nothing of an altered file is taken for content: age authenticates every
//! 64 KiB and the end.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, Write};
use std::str::FromStr as _;

use age::secrecy::SecretString;
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};
use serde::{Deserialize, Serialize};

use super::ArchiveError;

/// First bytes of every version of age's files.
const MAGIC: &[u8] = b"age-encryption.org/";
/// What stands at the end of age's header.
const LAST_LINE: &[u8] = b"\n--- ";
/// Longest header that is looked at: several hundred recipients.
const LONGEST_HEADER: u64 = 64 << 10;
/// Largest key file.
const LARGEST_KEY: u64 = 64 << 10;
/// Most recipients of a file.
const MOST_RECIPIENTS: usize = 64;
/// scrypt's cost for a new file, as a power of two: half a second, 128 MiB.
const WORK: u8 = 17;
/// The most that a file may ask for, which is what `age` itself asks for: 256 MiB.
const MOST_WORK: u8 = 18;

/// Why a key cannot be used. Nothing was done with it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[source] io::Error),
    /// More bytes than a key has.
    #[error("it is larger than {LARGEST_KEY} bytes")]
    Large,
    /// Other bytes than text.
    #[error("it is not text")]
    NotText,
    /// Nothing in it.
    #[error("there is nothing in its first line")]
    Empty,
    /// No key of age.
    #[error("it is not a file of `age-keygen`, with lines AGE-SECRET-KEY-1…")]
    NoIdentity,
    /// No recipient of age. The text is not repeated: it may be an identity.
    #[error("recipient {0} is none of age: they begin with age1 and are what `age-keygen` prints")]
    NoRecipient(usize),
    /// None, or more than are of use.
    #[error("{0} recipients, there can be 1 to {MOST_RECIPIENTS}")]
    Recipients(usize),
    /// age refuses.
    #[error("{0}")]
    Age(String),
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Who can read a new archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// Whoever can read the file.
    None,
    /// Who knows this.
    Passphrase(Secret),
    /// Who has the identity of one of these recipients (age1…).
    Recipients(Vec<String>),
}

impl Protection {
    /// A passphrase: the first line of a file.
    pub fn passphrase(file: impl Read) -> Result<Self, KeyError> {
        Ok(Self::Passphrase(Secret(first_line(file)?)))
    }

    /// How age is to encrypt; `None`: not at all. Takes half a second for a passphrase.
    fn encryptor(&self) -> Result<Option<Encryptor>, KeyError> {
        let made = match self {
            Self::None => return Ok(None),
            Self::Passphrase(secret) => {
                let mut recipient = scrypt::Recipient::new(SecretString::from(secret.0.clone()));
                recipient.set_work_factor(WORK);
                Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            }
            Self::Recipients(list) => {
                let parsed = recipients(list)?;
                Encryptor::with_recipients(parsed.iter().map(|one| one as &dyn age::Recipient))
            }
        };
        made.map(Some)
            .map_err(|error| KeyError::Age(error.to_string()))
    }

    /// Whether a file can be encrypted so, found out before anything is done for it.
    pub fn check(&self) -> Result<(), KeyError> {
        match self {
            Self::Recipients(list) => recipients(list).map(drop),
            Self::None | Self::Passphrase(_) => Ok(()),
        }
    }
}

fn recipients(list: &[String]) -> Result<Vec<x25519::Recipient>, KeyError> {
    if !(1..=MOST_RECIPIENTS).contains(&list.len()) {
        return Err(KeyError::Recipients(list.len()));
    }
    let parse = |(index, text): (usize, &String)| {
        x25519::Recipient::from_str(text.trim()).map_err(|_| KeyError::NoRecipient(index + 1))
    };
    list.iter().enumerate().map(parse).collect()
}

/// What opens an archive.
pub enum Key {
    /// What it was encrypted with.
    Passphrase(Secret),
    /// The identities of some of its recipients.
    Identities(Vec<x25519::Identity>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// A passphrase: the first line of a file.
    pub fn passphrase(file: impl Read) -> Result<Self, KeyError> {
        Ok(Self::Passphrase(Secret(first_line(file)?)))
    }

    /// The identities in a file of `age-keygen`.
    pub fn identities(file: impl Read) -> Result<Self, KeyError> {
        let text = bounded(file)?;
        let lines = text.lines().map(str::trim);
        let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let parsed: Result<Vec<_>, _> = keys.map(x25519::Identity::from_str).collect();
        match parsed {
            Ok(identities) if !identities.is_empty() => Ok(Self::Identities(identities)),
            _ => Err(KeyError::NoIdentity),
        }
    }

    fn open<R: io::BufRead>(&self, source: R) -> Result<StreamReader<R>, ArchiveError> {
        let decryptor = Decryptor::new_buffered(source).map_err(problem)?;
        match (self, decryptor.is_scrypt()) {
            (Self::Passphrase(secret), true) => {
                let mut identity = scrypt::Identity::new(SecretString::from(secret.0.clone()));
                identity.set_max_work_factor(MOST_WORK);
                decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity))
            }
            (Self::Identities(list), false) => {
                decryptor.decrypt(list.iter().map(|one| one as &dyn age::Identity))
            }
            (Self::Passphrase(_), false) => {
                return Err(ArchiveError::OtherKey {
                    with: "keys of recipients",
                    option: "--identity",
                });
            }
            (Self::Identities(_), true) => {
                return Err(ArchiveError::OtherKey {
                    with: "a passphrase",
                    option: "--passphrase-file",
                });
            }
        }
        .map_err(problem)
    }
}

fn problem(error: DecryptError) -> ArchiveError {
    match error {
        DecryptError::NoMatchingKeys
        | DecryptError::DecryptionFailed
        | DecryptError::KeyDecryptionFailed => ArchiveError::WrongKey,
        DecryptError::Io(error) => ArchiveError::Read(error),
        DecryptError::ExcessiveWork { required, .. } => ArchiveError::Sealing(format!(
            "its passphrase needs work of 2^{required}, at most 2^{MOST_WORK} is done"
        )),
        DecryptError::InvalidMac => {
            ArchiveError::Sealing("its header was altered (wrong MAC)".to_owned())
        }
        DecryptError::InvalidHeader => ArchiveError::Sealing("its header is malformed".to_owned()),
        DecryptError::UnknownFormat => {
            ArchiveError::Sealing("a version of age's format that is not known".to_owned())
        }
        other => ArchiveError::Sealing(other.to_string()),
    }
}

/// Text of a key file.
fn bounded(file: impl Read) -> Result<String, KeyError> {
    let mut bytes = Vec::new();
    let mut file = file.take(LARGEST_KEY + 1);
    file.read_to_end(&mut bytes).map_err(KeyError::Read)?;
    if bytes.len() as u64 > LARGEST_KEY {
        return Err(KeyError::Large);
    }
    String::from_utf8(bytes).map_err(|_| KeyError::NotText)
}

fn first_line(file: impl Read) -> Result<String, KeyError> {
    let text = bounded(file)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(KeyError::Empty),
    }
}

/// Where a new archive is written to.
pub enum Sink {
    /// As it is.
    Plain(File),
    /// Through age.
    Sealed(Box<StreamWriter<File>>),
}

impl Sink {
    /// Begins an archive in an empty file.
    pub fn new(file: File, protection: &Protection) -> Result<Self, ArchiveError> {
        let encryptor = protection
            .encryptor()
            .map_err(|error| ArchiveError::Sealing(error.to_string()))?;
        Ok(match encryptor {
            None => Self::Plain(file),
            Some(encryptor) => {
                let writer = encryptor.wrap_output(file).map_err(ArchiveError::Read)?;
                Self::Sealed(Box::new(writer))
            }
        })
    }

    /// Writes what marks the end. Without it the file is of no use.
    pub fn finish(self) -> io::Result<File> {
        match self {
            Self::Plain(file) => Ok(file),
            Self::Sealed(writer) => writer.finish(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Sealed(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Sealed(writer) => writer.flush(),
        }
    }
}

/// Where an archive is read from.
pub enum Source {
    /// As it is.
    Plain(File),
    /// Through age.
    Sealed(Box<StreamReader<BufReader<File>>>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Sealed(_) => "Sealed",
        })
    }
}

impl Source {
    /// Opens what is in a file: with a key where it is encrypted, without one where it is not.
    pub fn new(mut file: File, key: Option<&Key>) -> Result<Self, ArchiveError> {
        let mut start = Vec::new();
        let mut head = (&mut file).take(LONGEST_HEADER);
        head.read_to_end(&mut start).map_err(ArchiveError::Read)?;
        file.rewind().map_err(ArchiveError::Read)?;
        match (start.starts_with(MAGIC), key) {
            (false, None) => Ok(Self::Plain(file)),
            (true, None) => Err(ArchiveError::Encrypted),
            (false, Some(_)) => Err(ArchiveError::NotEncrypted),
            // age reads a header to its end, however far that is.
            (true, Some(_)) if !start.windows(LAST_LINE.len()).any(|at| at == LAST_LINE) => {
                Err(ArchiveError::Sealing(format!(
                    "its header has no end within {LONGEST_HEADER} bytes"
                )))
            }
            (true, Some(key)) => {
                let opened = key.open(BufReader::new(file))?;
                Ok(Self::Sealed(Box::new(opened)))
            }
        }
    }
}

impl Read for Source {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(bytes),
            Self::Sealed(reader) => reader.read(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
