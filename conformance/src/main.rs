//! The shim beside `io.containerd.runc.v2`, on the same containerd.
//!
//! `cargo run -p mycedrive-conformance` runs everything and writes `docs/conformance.md`; as a test of
//! the workspace it runs a part of it. `MYCEDRIVE_CONFORMANCE` is `short`, `all`, or a range of further
//! seeds such as `1000-1200`.

mod accepted;
mod api;
mod bundle;
mod compare;
mod cri;
mod differential;
mod report;
mod run;
mod script;
mod world;

use std::ops::Range;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};

use libtest_mimic::Arguments;
use world::World;

/// Seeds of a whole run beside the kept ones.
const SEEDS: Range<u64> = 100..160;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One node.
    arguments.test_threads = Some(1);
    let mode = std::env::var("MYCEDRIVE_CONFORMANCE").unwrap_or_else(|_| "all".to_owned());
    let all = mode == "all";
    let more = match mode.split_once('-') {
        Some((from, to)) => from.parse().unwrap_or(0)..to.parse().unwrap_or(0),
        None if all => SEEDS,
        None => 0..0,
    };
    let world = Arc::new(World::default());
    let mut trials = differential::trials(&world, more);
    trials.extend(cri::trials(&world, all));
    let conclusion = libtest_mimic::run(&arguments, trials);
    world.remove();
    let whole = all && arguments.filter.is_none() && !arguments.list;
    let report = world.report.lock().unwrap_or_else(PoisonError::into_inner);
    // Where nothing could be tried there is nothing to write.
    if whole
        && report.scripts > 0
        && let Err(error) = report.write()
    {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
