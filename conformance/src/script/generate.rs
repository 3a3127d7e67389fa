//! Scripts from seeds: mostly sensible calls, some at the wrong moment.

use super::rng::Rng;
use super::{Program, Script, Setup, Step, Update, Who};

/// Signals that kill, that are handled, that do nothing, and that do not exist.
/// Not SIGINT: a shell in `wait` ends on it or does not.
const SIGNALS: [u32; 9] = [9, 9, 15, 15, 10, 1, 0, 99, 4_000_000_000];
const UPDATES: [Update; 7] = [
    Update::Memory,
    Update::Pids,
    Update::Cpu,
    Update::Nothing,
    Update::NoSuchCpu,
    Update::Garbage,
    Update::WrongType,
];
const EXECS: u64 = 3;

/// What the generator believes; a call that fails makes it wrong, which does no harm.
#[derive(Clone, Copy, Debug, Default)]
struct Belief {
    created: bool,
    started: bool,
    paused: bool,
    ended: bool,
    /// Execs that were added, by number.
    added: [bool; EXECS as usize],
    checkpoints: u32,
}

/// The script of a seed.
pub fn generate(seed: u64) -> Script {
    let mut rng = Rng::new(seed);
    let setup = Setup {
        program: rng.pick(&[
            Program::Sleep,
            Program::Sleep,
            Program::Trap,
            Program::Trap,
            Program::Cat,
            Program::Quick,
            Program::Missing,
        ]),
        terminal: rng.chance(25),
        own_pids: rng.chance(80),
    };
    let mut belief = Belief::default();
    let count = 8 + rng.below(18);
    let mut steps = Vec::new();
    for _ in 0..count {
        let step = if rng.chance(70) {
            sensible(&mut rng, &belief)
        } else {
            anything(&mut rng)
        };
        believe(&mut belief, step);
        // A dump takes long, and one of each kind says all.
        if let Step::Checkpoint { .. } = step
            && belief.checkpoints > 1
        {
            continue;
        }
        steps.push(step);
    }
    Script::new(format!("seed-{seed}"), setup, steps)
}

fn who(rng: &mut Rng) -> Who {
    match rng.below(8) {
        0 => Who::Unknown,
        1..=3 => Who::Exec(exec(rng)),
        _ => Who::Init,
    }
}

fn exec(rng: &mut Rng) -> u8 {
    1 + rng.below(EXECS) as u8
}

fn kill(rng: &mut Rng) -> Step {
    let signal = rng.pick(&SIGNALS);
    Step::Kill {
        who: who(rng),
        signal,
        // What `all` does with other signals depends on runc's version.
        all: matches!(signal, 0 | 9) && rng.chance(30),
    }
}

fn add(rng: &mut Rng) -> Step {
    if rng.chance(8) {
        return Step::GarbageExec(exec(rng));
    }
    Step::Exec {
        number: exec(rng),
        program: rng.pick(&[
            Program::Sleep,
            Program::Trap,
            Program::Quick,
            Program::Cat,
            Program::Missing,
        ]),
        terminal: rng.chance(25),
    }
}

/// A call that belongs where the script is.
fn sensible(rng: &mut Rng, belief: &Belief) -> Step {
    if !belief.created {
        return Step::Create;
    }
    if belief.ended {
        return match rng.below(4) {
            0 => Step::Wait(Who::Init),
            1 => Step::Delete(who(rng)),
            _ => Step::Delete(Who::Init),
        };
    }
    if !belief.started {
        return match rng.below(5) {
            0 => add(rng),
            1 => Step::Pids,
            _ => Step::Start(Who::Init),
        };
    }
    if belief.paused {
        return match rng.below(5) {
            0 => Step::Pids,
            1 => kill(rng),
            2 => Step::Checkpoint {
                exit: rng.chance(30),
            },
            _ => Step::Resume,
        };
    }
    let added: Vec<u8> = (1..=EXECS as u8)
        .filter(|number| belief.added[usize::from(*number) - 1])
        .collect();
    match rng.below(16) {
        0..=3 => add(rng),
        4..=7 if !added.is_empty() => Step::Start(Who::Exec(rng.pick(&added))),
        8 if !added.is_empty() => Step::Delete(Who::Exec(rng.pick(&added))),
        9 if !added.is_empty() => Step::CloseIo(Who::Exec(rng.pick(&added))),
        10 => Step::Pause,
        11 => Step::Update(rng.pick(&UPDATES)),
        12 => Step::Checkpoint {
            exit: rng.chance(30),
        },
        13 => Step::Pids,
        14 => Step::Metrics,
        _ => kill(rng),
    }
}

/// A call, whether it belongs there or not.
fn anything(rng: &mut Rng) -> Step {
    match rng.below(15) {
        0 => Step::Create,
        1 => Step::Start(who(rng)),
        2 => add(rng),
        3 | 4 => kill(rng),
        5 => Step::Pause,
        6 => Step::Resume,
        7 => Step::Pids,
        8 => Step::Update(rng.pick(&UPDATES)),
        9 => Step::Wait(who(rng)),
        10 => Step::Delete(who(rng)),
        11 => Step::Resize(who(rng)),
        12 => Step::CloseIo(who(rng)),
        13 => Step::Metrics,
        _ => Step::Checkpoint {
            exit: rng.chance(30),
        },
    }
}

fn believe(belief: &mut Belief, step: Step) {
    match step {
        Step::Create => belief.created = true,
        Step::Start(Who::Init) => belief.started = belief.created,
        Step::Exec { number, .. } => belief.added[usize::from(number) - 1] = belief.created,
        Step::Delete(Who::Exec(number)) => belief.added[usize::from(number) - 1] = false,
        Step::Delete(Who::Init) if belief.ended => *belief = Belief::default(),
        Step::Pause => belief.paused = belief.started && !belief.ended,
        Step::Resume => belief.paused = false,
        Step::Kill {
            who: Who::Init,
            signal: 9,
            ..
        } => belief.ended = belief.created,
        Step::Checkpoint { exit } => {
            belief.checkpoints += 1;
            belief.ended |= exit && belief.started;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
