//! Which program a container runs, read from its image, so that an engine can say whether it can
//! carry it before anything runs.

pub(crate) mod elf;
pub(crate) mod image;
pub(crate) mod program;
