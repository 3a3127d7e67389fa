//! Explores every interleaving of source and destination and checks the invariants of the
//! crate's documentation in every world that can be reached.
#![allow(clippy::panic)]

#[path = "model/world.rs"]
mod world;

use std::collections::{HashMap, HashSet, VecDeque};

use mycedrive_handover::{Policy, destination, source};
use world::{Here, Message, There, World};

/// Worlds above this number mean that the model has lost its bounds.
const LIMIT: usize = 3_000_000;

fn ran_at_destination(world: &World) -> bool {
    let withdrawn = |step: &destination::Step| matches!(step, destination::Step::Withdrawn { .. });
    world.b_disk.contains(&destination::Step::Run) && !world.b_disk.iter().any(withdrawn)
}

fn thawed_or_will(world: &World) -> bool {
    world.a_disk.iter().any(|step| {
        matches!(
            step,
            source::Step::Thawing { .. } | source::Step::RolledBack { .. }
        )
    })
}

/// Invariants 1 to 4.
fn check(world: &World) {
    assert!(
        !(world.a_shim == Here::Running && world.b_shim == There::Running),
        "runs twice: {world:#?}"
    );
    if world.b_shim == There::Running {
        assert!(ran_at_destination(world), "runs without RUN: {world:#?}");
    }
    if !world.resolved {
        assert!(
            !(thawed_or_will(world) && ran_at_destination(world)),
            "thaws although RUN is recorded: {world:#?}"
        );
        if world.a_shim == Here::Discarded {
            assert!(
                world.b_disk.contains(&destination::Step::Running),
                "discarded before the destination ran it: {world:#?}"
            );
        }
    }
    let decided = |step: &destination::Step| {
        matches!(
            step,
            destination::Step::Run | destination::Step::Abort { .. }
        )
    };
    assert!(
        world.b_disk.iter().filter(|step| decided(step)).count() <= 1,
        "decided twice: {world:#?}"
    );
}

/// Invariant 5. Returns the outcome's name.
fn outcome(end: &World) -> &'static str {
    let lost = end.b_disk.contains(&destination::Step::Lost);
    match end.a.as_ref().map(source::Source::state) {
        None => {
            assert_eq!(end.a_shim, Here::Running, "{end:#?}");
            assert_eq!(end.b_shim, There::Nothing, "{end:#?}");
            "never opened"
        }
        Some(source::State::RolledBack { .. }) => {
            assert_eq!(end.a_shim, Here::Running, "{end:#?}");
            assert_eq!(end.b_shim, There::Nothing, "{end:#?}");
            "rolled back"
        }
        Some(source::State::Done) => {
            assert_eq!(end.a_shim, Here::Discarded, "{end:#?}");
            let there = end.b_shim == There::Running;
            let ended = end.b_disk.contains(&destination::Step::Running);
            assert!(there || ended, "{end:#?}");
            "completed"
        }
        Some(source::State::Held) => {
            assert_eq!(end.a_shim, Here::Frozen, "{end:#?}");
            // Held for good only when the destination is, or its pod ended unseen.
            let unseen = ran_at_destination(end) && end.b_shim == There::Nothing;
            assert!(end.b_dead || lost || unseen, "{end:#?}");
            "held"
        }
        state => panic!("ends as {state:?}: {end:#?}"),
    }
}

fn explore(policy: Policy, check: impl Fn(&World)) -> HashSet<World> {
    let start = World::new(policy);
    let mut seen = HashSet::from([start.clone()]);
    let mut queue = VecDeque::from([start]);
    while let Some(world) = queue.pop_front() {
        check(&world);
        for next in world.next() {
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
        assert!(seen.len() < LIMIT, "too many worlds");
    }
    seen
}

#[test]
fn every_interleaving_keeps_the_invariants_and_comes_to_an_end() {
    let worlds = explore(Policy::Hold, check);
    let mut outcomes: HashMap<&str, usize> = HashMap::new();
    for world in &worlds {
        *outcomes.entry(outcome(&world.settle())).or_default() += 1;
    }
    eprintln!("{} worlds: {outcomes:?}", worlds.len());
    for expected in ["never opened", "rolled back", "completed", "held"] {
        assert!(outcomes.contains_key(expected), "no world ends {expected}");
    }
    assert!(worlds.len() > 10_000, "the model explores too little");
}

#[test]
fn without_failures_the_pod_arrives() {
    let end = World::new(Policy::Hold).settle();
    assert_eq!(outcome(&end), "completed");
    assert_eq!(end.b_shim, There::Running);
    let steps = [
        source::Step::Opened,
        source::Step::Freezing,
        source::Step::Offered,
        source::Step::Committed,
        source::Step::Done,
    ];
    assert_eq!(end.a_disk, steps);
    let steps = [
        destination::Step::Opened,
        destination::Step::Run,
        destination::Step::Running,
        destination::Step::Concluded,
        destination::Step::Done,
    ];
    assert_eq!(end.b_disk, steps);
    assert!(!end.network.contains(&Message::Ask));
}

#[test]
fn a_policy_that_prefers_a_side_ends_on_one_side() {
    for policy in [Policy::PreferSource, Policy::PreferDestination] {
        let worlds = explore(policy, |_| {});
        for world in &worlds {
            let end = world.settle();
            let twice = end.a_shim == Here::Running && end.b_shim == There::Running;
            assert!(!twice, "{policy:?} runs twice for good: {end:#?}");
        }
    }
}
