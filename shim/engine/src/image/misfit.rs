//! Why a checkpoint cannot be restored here.

use super::MANIFEST;

/// The first thing that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Something is in the way of a new checkpoint.
    #[error("{name:?} is in it; a checkpoint needs a new or empty directory")]
    NotEmpty {
        /// The first of them.
        name: String,
    },
    /// Neither ours nor CRIU's.
    #[error("it holds no checkpoint: neither {MANIFEST} nor inventory.img is there")]
    NoCheckpoint,
    /// A file cannot be read.
    #[error("{name}: {problem}")]
    Unreadable {
        /// The file.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Another version of the manifest.
    #[error("its format is {found}, this program knows {known}; use a program of its time")]
    Format {
        /// What it is.
        found: u32,
        /// What this program reads.
        known: u32,
    },
    /// Another engine.
    #[error("engine {made_by} made it, the container here has {here}")]
    Engine {
        /// Who made it.
        made_by: String,
        /// Who would restore it.
        here: &'static str,
    },
    /// An older engine than the one that made it.
    #[error("{engine} {made_by} made it, here is {here}; install {made_by} or newer on this node")]
    EngineVersion {
        /// The engine.
        engine: &'static str,
        /// Version that made it.
        made_by: String,
        /// Version here.
        here: String,
    },
    /// Another kind of machine.
    #[error("it was made on {made_on}, this node is {here}")]
    Architecture {
        /// There.
        made_on: String,
        /// Here.
        here: &'static str,
    },
    /// The CPU here can do less.
    #[error("this node's CPU lacks {missing}, which its processes may use")]
    Cpu {
        /// What it lacks.
        missing: String,
    },
    /// Not exactly one container.
    #[error("it holds {count} containers, not one")]
    Containers {
        /// How many.
        count: usize,
    },
    /// A terminal on one side only.
    #[error("the container in it {}, the one here does not match", if *had { "had a terminal" } else { "had no terminal" })]
    Terminal {
        /// Whether it had one.
        had: bool,
    },
    /// A name that leads somewhere else.
    #[error("{name:?} is not a plain file name")]
    Name {
        /// The name.
        name: String,
    },
    /// A directory, link, device, FIFO or socket.
    #[error("{name} is not a regular file")]
    NotAFile {
        /// Its name.
        name: String,
    },
    /// A file of which the manifest says nothing.
    #[error("{name} is not in its {MANIFEST}")]
    Unlisted {
        /// Its name.
        name: String,
    },
    /// A file that the manifest lists is not there.
    #[error("{name} is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A file of another size.
    #[error("{name} has {found} bytes, {listed} in its {MANIFEST}")]
    Size {
        /// Its name.
        name: String,
        /// Its size.
        found: u64,
        /// The size that it should have.
        listed: u64,
    },
    /// A file with other content.
    #[error("the content of {name} is not what its {MANIFEST} says")]
    Digest {
        /// Its name.
        name: String,
    },
}
