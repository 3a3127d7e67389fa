//! What the table looks like.

use std::fmt::Write as _;

use super::Outcome;
use crate::Conditions;
use crate::engine::Engine;

/// One program.
pub(super) fn row(engine: Engine, outcome: &Outcome) -> String {
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.0}"));
    let result = match (outcome.moved, outcome.reason.is_empty()) {
        (true, true) => "yes",
        (true, false) => "without the connection",
        (false, _) => "no",
    };
    let mut row = format!(
        "| {} | {} | {} | {} |",
        outcome.program, outcome.version, outcome.user, outcome.processes
    );
    if engine == Engine::Dmtcp {
        let checkpoint = match outcome.checkpoint.as_str() {
            "" if outcome.engine.is_empty() => "",
            "" => "yes",
            reason => reason,
        };
        // Writing to a string does not fail.
        let _ = write!(
            row,
            " {} | {} | {checkpoint} |",
            outcome.engine, outcome.engine_why
        );
    }
    let _ = write!(
        row,
        " {result} | {} | {} | {} | {} |",
        number(outcome.freeze_ms.map(|value| value as f64)),
        number(outcome.longest_gap_ms),
        outcome.lost + outcome.errors,
        outcome.reason
    );
    row
}

/// The page.
pub(super) fn text(engine: Engine, conditions: &Conditions, outcomes: &[Outcome]) -> String {
    let (head, foot) = match engine {
        Engine::Dmtcp => (DMTCP_HEAD, DMTCP_FOOT),
        _ => (HEAD, FOOT),
    };
    let mut text = String::from(head);
    for outcome in outcomes {
        let _ = writeln!(text, "{}", row(engine, outcome));
    }
    let _ = write!(
        text,
        "\nOne run: {} build, {} cores, kernel {}, load {}.\n{foot}",
        conditions.build, conditions.cores, conditions.kernel, conditions.load_1min
    );
    text
}

const HEAD: &str = "\
# Programs that move

Written by `cargo run --release --bin measure -- programs`: each program runs in a pod on one node of the
testbed, a client on a third node counts in it over one TCP connection, and the pod moves to another node.
Engine: CRIU. Packages are those of Debian forky; the Go and musl programs and what python, node and java run
are in `integration/src/image/programs`. Times are milliseconds.

| program | version | user | processes | moves | freeze | client's longest gap | lost or wrong | reason |
|---|---|---|---|---|---|---|---|---|
";

const FOOT: &str = "
- **MPTCP.** Go programs listen with MPTCP where the kernel has it, and CRIU has no image for it. The shim
  switches it off in a pod's network namespace before the pod's first process starts (`net.mptcp.enabled=0`).
- **io_uring.** A process that has a ring open is refused. node 24 opens one when it starts, also with
  `UV_USE_IO_URING=0`; with the seccomp profile RuntimeDefault it cannot, and works without.
";

const DMTCP_HEAD: &str = "\
# Programs under DMTCP

Written by `cargo run --release --bin measure -- programs --engine dmtcp`: each program runs in a pod that asks
for DMTCP, with the client and the moves of [programs.md](programs.md). What DMTCP cannot carry goes to CRIU, and
the reason is the one that `mycedrive ps` shows. Before the move CRI checkpoints the container while the client
counts. Times are milliseconds; the gap is that of the move.

| program | version | user | processes | engine | why not DMTCP | checkpoint | moves | freeze | client's longest gap | lost or wrong | reason |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

const DMTCP_FOOT: &str = "
- **redis** runs with `--jemalloc-bg-thread no`, which the shim adds unless the command line has that option. In
  the row with the background thread it says `yes`.
- **processes** are counted in the container, with the init and its child that come with DMTCP.
";
