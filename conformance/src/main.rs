//! The shim beside `io.containerd.runc.v2`, on the same containerd.
//!
//! `cargo run -p mycedrive-conformance` runs everything, over both versions of containerd, and writes
//! `docs/conformance.md`; as a test of the workspace it runs a part of it, over one.
//! `MYCEDRIVE_CONFORMANCE` is `short`, `all`, or a range of further seeds such as `1000-1200`.
//! `MYCEDRIVE_CONFORMANCE_CONTAINERD` is `2` or `1.7`, for one of them.

mod accepted;
mod api;
mod bundle;
mod compare;
mod cri;
mod differential;
mod document;
mod report;
mod run;
mod script;
mod world;

use std::ops::Range;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};

use clap::ValueEnum as _;
use libtest_mimic::Arguments;
use mycedrive_integration::Containerd;
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
    let versions = match std::env::var("MYCEDRIVE_CONFORMANCE_CONTAINERD") {
        Ok(name) => match Containerd::from_str(&name, true) {
            Ok(version) => vec![version],
            Err(error) => {
                eprintln!("containerd {name}: {error}");
                return ExitCode::FAILURE;
            }
        },
        Err(_) if all => Containerd::value_variants().to_vec(),
        Err(_) => vec![Containerd::default()],
    };
    let trials = versions
        .iter()
        .flat_map(|version| {
            let mut trials = differential::trials(&world, *version, more.clone());
            trials.extend(cri::trials(&world, *version, all));
            trials
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    world.remove();
    let whole = all
        && arguments.filter.is_none()
        && arguments.skip.is_empty()
        && !arguments.list
        && versions == Containerd::value_variants();
    let reports = world.reports.lock().unwrap_or_else(PoisonError::into_inner);
    // Where nothing could be tried there is nothing to write.
    if whole
        && reports.len() == versions.len()
        && reports.values().all(|report| report.scripts > 0)
        && let Err(error) = document::write(&reports)
    {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
