//! End-to-end tests: real containerd, runc and CRIU on the testbed's nodes.
//!
//! Scenarios run one after the other on one testbed, which is made new only if one breaks it. Where no
//! testbed can be made (not root, packages not to be had) each is ignored, with the reason.
//! `cargo test --test e2e -- NAME` runs those whose name contains NAME.

mod archive;
mod checkpoint;
mod connections;
mod crictl;
mod dmtcp;
mod engine;
mod expect;
mod faults;
mod memory;
mod migration;
mod newcomers;
mod programs;
mod refusal;
mod runtime;
mod shared;
mod streams;
mod testbed;
mod variants;
mod volumes;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use world::World;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One testbed, and timings that other tests would disturb.
    arguments.test_threads = Some(1);
    let world = Arc::new(World::default());
    let scenarios = [
        testbed::all(),
        runtime::all(),
        checkpoint::all(),
        crictl::all(),
        archive::all(),
        migration::all(),
        memory::all(),
        connections::all(),
        newcomers::all(),
        programs::all(),
        streams::all(),
        variants::all(),
        shared::all(),
        refusal::all(),
        engine::all(),
        dmtcp::all(),
        volumes::all(),
        faults::all(),
    ];
    let trials = scenarios
        .into_iter()
        .flatten()
        .map(|scenario| scenario.trial(&world))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    world.remove();
    conclusion.exit_code()
}
