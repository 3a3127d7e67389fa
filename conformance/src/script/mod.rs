//! Scripts of Task API calls: written ones and generated ones.

mod generate;
mod rng;
mod step;
mod written;

pub use generate::generate;
pub use step::{Program, Script, Setup, Step, Update, Who};
pub use written::written;

/// What `Cat` gets to read.
pub const INPUT: &str = "some input";

/// Seeds of generated scripts that every run uses. One is added when it has shown a difference.
pub const KEPT_SEEDS: [u64; 15] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 103, 104, 148];
