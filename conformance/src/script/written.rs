//! Scripts with a purpose.

use super::{Program, Script, Setup, Step, Update, Who};

const E1: Who = Who::Exec(1);
const E2: Who = Who::Exec(2);

const fn setup(program: Program) -> Setup {
    Setup {
        program,
        terminal: false,
        own_pids: true,
    }
}

const fn exec(number: u8, program: Program) -> Step {
    Step::Exec {
        number,
        program,
        terminal: false,
    }
}

const fn kill(who: Who, signal: u32) -> Step {
    Step::Kill {
        who,
        signal,
        all: false,
    }
}

/// All written scripts.
pub fn written() -> Vec<Script> {
    use Step::{
        Checkpoint, CloseIo, Create, Delete, Metrics, Pause, Pids, Resize, Resume, Start, Wait,
    };
    let init = Who::Init;
    let every = |who: Who| {
        vec![
            Start(who),
            kill(who, 0),
            kill(who, 99),
            Wait(who),
            Resize(who),
            CloseIo(who),
        ]
    };
    let mut scripts = vec![
        Script::new(
            "life",
            setup(Program::Trap),
            vec![
                Create,
                Start(init),
                exec(1, Program::Quick),
                Start(E1),
                Wait(E1),
                Delete(E1),
                Pids,
                Metrics,
                kill(init, 15),
                Wait(init),
            ],
        ),
        Script::new(
            "before-create",
            setup(Program::Sleep),
            [
                every(init),
                every(E1),
                vec![Pause, Resume, Pids, Metrics, Delete(init)],
            ]
            .concat(),
        ),
        Script::new(
            "created",
            setup(Program::Sleep),
            [
                vec![
                    Create,
                    Create,
                    Pause,
                    Resume,
                    Pids,
                    Metrics,
                    Checkpoint { exit: false },
                ],
                vec![Step::Update(Update::Memory), Step::Update(Update::Garbage)],
                every(Who::Unknown),
                vec![exec(1, Program::Quick), Start(E1), Delete(E1), Delete(init)],
            ]
            .concat(),
        ),
        Script::new(
            "running-twice",
            setup(Program::Sleep),
            [
                vec![Create, Start(init), Create],
                every(init),
                vec![exec(1, Program::Sleep), exec(1, Program::Quick), Start(E1)],
                every(E1),
                vec![Pids, Delete(E1), Delete(init), kill(E1, 15)],
                every(E1),
                vec![Delete(E1), Delete(E1)],
            ]
            .concat(),
        ),
        Script::new(
            "paused",
            setup(Program::Trap),
            [
                vec![Create, Start(init), exec(1, Program::Sleep), Start(E1)],
                vec![exec(2, Program::Quick), Pause, Pause],
                every(init),
                vec![
                    Start(E2),
                    exec(3, Program::Quick),
                    Pids,
                    Metrics,
                    Delete(init),
                ],
                vec![
                    Step::Update(Update::Pids),
                    kill(E1, 15),
                    kill(init, 15),
                    Resume,
                ],
            ]
            .concat(),
        ),
        Script::new(
            "killed-while-paused",
            setup(Program::Sleep),
            vec![
                Create,
                Start(init),
                Pause,
                kill(init, 9),
                Wait(init),
                Resume,
            ],
        ),
        Script::new(
            "stopped",
            setup(Program::Quick),
            [
                vec![Create, exec(1, Program::Quick), Start(init), Wait(init)],
                every(init),
                vec![Pause, Resume, Pids, Metrics, Checkpoint { exit: false }],
                vec![
                    Step::Update(Update::Memory),
                    Start(E1),
                    exec(2, Program::Quick),
                ],
                vec![Delete(init), Create, Start(init)],
            ]
            .concat(),
        ),
        Script::new(
            "init-takes-its-execs-along",
            setup(Program::Sleep),
            vec![
                Create,
                Start(init),
                exec(1, Program::Trap),
                Start(E1),
                exec(2, Program::Sleep),
                Start(E2),
                Pids,
                kill(init, 9),
                Wait(E1),
                Wait(E2),
                Wait(init),
            ],
        ),
        Script::new(
            "shared-pids-init-takes-its-execs-along",
            Setup {
                own_pids: false,
                ..setup(Program::Sleep)
            },
            vec![
                Create,
                Start(init),
                exec(1, Program::Trap),
                Start(E1),
                Pids,
                kill(init, 15),
                Wait(E1),
                Wait(init),
            ],
        ),
        Script::new(
            "missing-program",
            setup(Program::Missing),
            vec![Create, Start(init), Create, Pids, Delete(init)],
        ),
        Script::new(
            "missing-exec",
            setup(Program::Sleep),
            vec![
                Create,
                Start(init),
                exec(1, Program::Missing),
                Start(E1),
                Wait(E1),
                kill(E1, 9),
                Delete(E1),
                Step::GarbageExec(1),
                exec(1, Program::Quick),
                Start(E1),
            ],
        ),
        Script::new(
            "standard-input",
            setup(Program::Cat),
            vec![
                Create,
                Start(init),
                exec(1, Program::Cat),
                Start(E1),
                CloseIo(E1),
                Delete(E1),
                CloseIo(init),
                CloseIo(init),
                Wait(init),
            ],
        ),
        Script::new(
            "terminal",
            Setup {
                terminal: true,
                ..setup(Program::Trap)
            },
            vec![
                Create,
                Resize(init),
                Start(init),
                Resize(init),
                Step::Exec {
                    number: 1,
                    program: Program::Quick,
                    terminal: true,
                },
                Resize(E1),
                Start(E1),
                Wait(E1),
                Resize(E1),
                Delete(E1),
                kill(init, 15),
                Resize(init),
            ],
        ),
        Script::new(
            "checkpoint",
            setup(Program::Sleep),
            vec![
                Create,
                Start(init),
                Checkpoint { exit: false },
                Pids,
                Pause,
                Checkpoint { exit: false },
                Resume,
                Checkpoint { exit: true },
                Wait(init),
                Pids,
                Delete(init),
                Create,
                Start(init),
            ],
        ),
        Script::new(
            "update",
            setup(Program::Sleep),
            vec![
                Create,
                Start(init),
                Step::Update(Update::Memory),
                Step::Update(Update::Pids),
                Step::Update(Update::Cpu),
                Step::Update(Update::Nothing),
                Step::Update(Update::NoSuchCpu),
                Step::Update(Update::Garbage),
                Step::Update(Update::WrongType),
            ],
        ),
    ];
    // Signals while nothing but `runc init` is there.
    for signal in [9, 15, 10] {
        scripts.push(Script::new(
            format!("signal-{signal}-before-start"),
            setup(Program::Sleep),
            vec![Create, kill(init, signal), Start(init)],
        ));
    }
    scripts
}
