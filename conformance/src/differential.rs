//! Every script under both runtimes; what differs and may not fails.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use libtest_mimic::Trial;
use mycedrive_integration::{Containerd, Node, Testbed};

use crate::compare::differences;
use crate::report::Report;
use crate::run::{OURS, REFERENCE, run};
use crate::script::{self, Script};
use crate::world::World;

/// Tests of all written scripts, of kept seeds and of `more` seeds.
pub fn trials(
    world: &Arc<World>,
    containerd: Containerd,
    more: impl IntoIterator<Item = u64>,
) -> Vec<Trial> {
    let written = script::written()
        .into_iter()
        .map(|script| (format!("differential::written::{}", script.name), script));
    let more = more
        .into_iter()
        .filter(|seed| !script::KEPT_SEEDS.contains(seed));
    let seeds = script::KEPT_SEEDS.into_iter().chain(more).map(|seed| {
        (
            format!("differential::seed::{seed}"),
            script::generate(seed),
        )
    });
    written
        .chain(seeds)
        .map(|(name, script)| {
            world.trial(
                containerd,
                &name,
                Box::new(move |testbed: &mut Testbed, report| {
                    both(testbed.node("a")?, report, &script)
                }),
            )
        })
        .collect()
}

fn both(node: &Node, report: &mut Report, script: &Script) -> Result<()> {
    let (reference, ours) = std::thread::scope(|scope| {
        let reference = scope.spawn(|| run(node, REFERENCE, script));
        let ours = run(node, OURS, script);
        let reference = reference
            .join()
            .unwrap_or_else(|_| Err(anyhow!("a thread panicked")));
        (reference, ours)
    });
    let (reference, ours) = (reference?, ours?);
    report.scripts += 1;
    for record in &ours.records {
        if let Some(what) = record.not_called {
            *report.not_called.entry(what.what).or_default() += 1;
            continue;
        }
        let name = record.step.to_string();
        let kind = name.split(' ').next().unwrap_or_default().to_owned();
        *report.calls.entry(kind).or_default() += 1;
    }
    let found = differences(&script.name, &reference, &ours);
    // Each once for a script, however often it shows there.
    let accepted: BTreeSet<&'static str> = found
        .iter()
        .flat_map(|difference| &difference.accepted)
        .map(|accepted| accepted.what)
        .collect();
    for what in accepted {
        report.see(what);
    }
    let wrong: Vec<String> = found
        .iter()
        .filter(|difference| difference.accepted.is_empty())
        .map(ToString::to_string)
        .collect();
    if !wrong.is_empty() {
        report.different += 1;
        let steps: Vec<String> = script.steps.iter().map(ToString::to_string).collect();
        bail!(
            "{}\nscript: {:?}: {}",
            wrong.join("\n"),
            script.setup,
            steps.join("; ")
        );
    }
    Ok(())
}
