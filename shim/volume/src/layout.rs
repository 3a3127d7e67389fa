//! Where the parts of a stack are, what the folder says of itself, and recovery.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::{Steps, end, init, receive, room};

/// The folder in the volume's directory that holds the stack.
pub const FOLDER: &str = ".mycedrive-stack";
/// Holds [`State`] as JSON, on the folder.
const STATE: &std::ffi::CStr = c"trusted.mycedrive.stack";
/// State and names fit; an attribute of ext4 has at most a block.
const STATE_BYTES: usize = 1024;
const VERSION: u32 = 1;

/// How far an operation got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The volume's content is on its way into the base. Undone by recovery.
    Init,
    /// Complete; mounted or not.
    Stack,
    /// Layers arrive from another node. The volume beside it is still what it was.
    Receive,
    /// Layers arrived; the volume's own content is moved out of the way.
    Commit,
    /// The upper is on its way to become the layer `sealed + 1`. Completed by recovery.
    Seal,
    /// The oldest layer is being merged into the base. Completed by recovery.
    Fold {
        /// Its renamed directories have been set aside.
        staged: bool,
        /// All layers are to be merged, and then the base moves out. Otherwise only this one.
        all: bool,
    },
    /// The base holds everything and is on its way out. Completed by recovery.
    Out,
}

/// What the folder says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// How far.
    pub phase: Phase,
    /// Number of the oldest layer that was not merged into the base.
    pub first: u32,
    /// Number of the newest sealed layer; `sealed + 1` is the upper.
    pub sealed: u32,
}

impl State {
    /// A state in which no layer was merged yet.
    pub(crate) const fn new(phase: Phase, sealed: u32) -> Self {
        Self {
            version: VERSION,
            phase,
            first: 1,
            sealed,
        }
    }

    /// The same layers in another phase.
    pub(crate) const fn to(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }

    /// Number of sealed layers.
    pub const fn count(&self) -> u32 {
        (self.sealed + 1).saturating_sub(self.first)
    }
}

/// What a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A plain directory.
    Plain,
    /// A stack, or on the way to or from it.
    Stack(State),
    /// There is an entry of the folder's name that this program did not make: it is content.
    Foreign,
}

/// The parts of a volume's stack.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The volume's directory.
    pub(crate) volume: PathBuf,
    /// The folder.
    pub(crate) folder: PathBuf,
}

impl Layout {
    pub(crate) fn of(volume: &Path) -> Self {
        Self {
            volume: volume.to_owned(),
            folder: volume.join(FOLDER),
        }
    }

    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Layer by number: `sealed + 1` is the upper.
    pub(crate) fn layer(&self, number: u32, state: State) -> PathBuf {
        self.part(&name_of(number, state))
    }

    pub(crate) fn load(&self) -> Result<Found> {
        let found = match fs::symlink_metadata(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Plain),
            other => other.map_err(Error::io("look at", &self.folder))?,
        };
        if !found.is_dir() || found.uid() != 0 {
            return Ok(Found::Foreign);
        }
        let folder = File::open(&self.folder).map_err(Error::io("open", &self.folder))?;
        let Some(text) = get(&folder).map_err(Error::io("read the state of", &self.folder))? else {
            return Ok(Found::Foreign);
        };
        let state: State = serde_json::from_slice(&text).map_err(|error| {
            Error::state(&self.volume, format!("its state cannot be read: {error}"))
        })?;
        if state.version != VERSION {
            let text = format!(
                "its stack has version {}, this program knows {VERSION}: use the one that made it",
                state.version
            );
            return Err(Error::state(&self.volume, text));
        }
        Ok(Found::Stack(state))
    }

    /// Durable when this returns.
    pub(crate) fn save(&self, state: State) -> Result<()> {
        let fail = || Error::io("write the state of", &self.folder);
        let text = serde_json::to_vec(&state).map_err(|error| fail()(io::Error::other(error)))?;
        let folder = File::open(&self.folder).map_err(fail())?;
        set(&folder, &text).map_err(fail())?;
        folder.sync_all().map_err(fail())
    }

    /// Makes the folder. It says of itself what it is before anything else is in it.
    pub(crate) fn create(&self, state: State) -> Result<()> {
        // Under a name of its own first: a folder without a state is taken for content.
        let fresh = self.volume.join(format!("{FOLDER}.new"));
        make_dir(&fresh)?;
        let making = Self {
            volume: self.volume.clone(),
            folder: fresh.clone(),
        };
        making.save(state)?;
        fs::rename(&fresh, &self.folder).map_err(Error::io("rename", &fresh))?;
        sync(&self.volume)
    }

    /// Removes what [`Self::create`] left when it was cut.
    pub(crate) fn remove_unfinished(&self) -> Result<()> {
        let fresh = self.volume.join(format!("{FOLDER}.new"));
        let ours = Self {
            volume: self.volume.clone(),
            folder: fresh.clone(),
        };
        let unfinished = match ours.load()? {
            Found::Stack(_) => true,
            Found::Plain => false,
            // Made, but not marked yet. `remove_dir` only removes what is empty.
            Found::Foreign => fs::symlink_metadata(&fresh).is_ok_and(|found| found.is_dir()),
        };
        if unfinished && let Err(error) = fs::remove_dir(&fresh) {
            tracing::warn!(path = %fresh.display(), %error, "an entry stays");
        }
        Ok(())
    }
}

pub(crate) fn name_of(number: u32, state: State) -> String {
    if number > state.sealed {
        "upper".to_owned()
    } else {
        format!("layer-{number}")
    }
}

/// A directory for root only; that it is there is not an error.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(Error::io("create", path)),
    }
}

/// Makes changes of a directory's entries durable.
pub(crate) fn sync(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(Error::io("sync", directory))
}

/// What the volume is. Changes nothing.
pub fn find(volume: &Path) -> Result<Found> {
    Layout::of(volume).load()
}

/// Directories of a stack, the base first, then the sealed layers, the upper last.
pub fn layers(volume: &Path) -> Result<Vec<PathBuf>> {
    let layout = Layout::of(volume);
    match layout.load()? {
        Found::Stack(state) if state.phase == Phase::Stack => {
            let mut all = vec![layout.part("base")];
            all.extend((state.first..=state.sealed + 1).map(|n| layout.layer(n, state)));
            Ok(all)
        }
        _ => Err(Error::state(volume, "it is no stack")),
    }
}

/// Finishes or undoes what a crash interrupted. Nobody may have the volume mounted. Afterwards
/// the volume is plain, or a stack in the phase [`Phase::Stack`] or [`Phase::Receive`].
pub fn recover(volume: &Path, steps: Steps<'_>) -> Result<Found> {
    let layout = Layout::of(volume);
    layout.remove_unfinished()?;
    let found = layout.load()?;
    let Found::Stack(state) = found else {
        return Ok(found);
    };
    if matches!(state.phase, Phase::Stack | Phase::Receive) {
        return Ok(found);
    }
    room::with(&layout, || match state.phase {
        Phase::Stack | Phase::Receive => Ok(()),
        Phase::Init => init::undo(&layout, steps),
        Phase::Commit => receive::commit(volume, steps),
        Phase::Seal => end::seal(&layout, state, steps),
        Phase::Fold { .. } | Phase::Out => end::resume(&layout, state, steps),
    })?;
    layout.load()
}

fn get(file: &File) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0_u8; STATE_BYTES];
    // SAFETY: the name is NUL-terminated and the buffer has the length that is passed.
    let size = unsafe {
        libc::fgetxattr(
            file.as_raw_fd(),
            STATE.as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    let Ok(size) = usize::try_from(size) else {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENODATA | libc::EOPNOTSUPP) => Ok(None),
            _ => Err(error),
        };
    };
    buffer.truncate(size);
    Ok(Some(buffer))
}

fn set(file: &File, value: &[u8]) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated and the value has the length that is passed.
    let result = unsafe {
        libc::fsetxattr(
            file.as_raw_fd(),
            STATE.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
