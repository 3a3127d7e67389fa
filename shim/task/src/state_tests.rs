use std::time::SystemTime;

use super::{Exit, State, Step};

fn exit() -> Exit {
    Exit {
        code: 3,
        at: SystemTime::UNIX_EPOCH,
    }
}

#[test]
fn an_ordinary_life() {
    let mut state = State::Created;
    for step in [
        Step::Run,
        Step::Pause,
        Step::Resume,
        Step::Exit(exit()),
        Step::Delete,
    ] {
        state = state.after(step, "c").unwrap();
    }
    assert_eq!(state, State::Deleted);
}

#[test]
fn a_source_is_rolled_back_or_held() {
    let frozen = State::Running.after(Step::Freeze, "c").unwrap();
    assert_eq!(frozen.after(Step::Thaw, "c").unwrap(), State::Running);
    let held = frozen.after(Step::Hold, "c").unwrap();
    assert!(held.after(Step::Thaw, "c").is_err());
    assert!(held.after(Step::Run, "c").is_err());
    assert_eq!(
        held.after(Step::Exit(exit()), "c").unwrap(),
        State::Exited(exit())
    );
}

#[test]
fn nothing_happens_after_the_end() {
    let ended = State::Exited(exit());
    for step in [
        Step::Run,
        Step::Pause,
        Step::Resume,
        Step::Freeze,
        Step::Thaw,
        Step::Wait,
        Step::Hold,
    ] {
        assert!(ended.after(step, "c").is_err(), "{step:?}");
        assert!(State::Deleted.after(step, "c").is_err(), "{step:?}");
    }
}

#[test]
fn a_running_process_is_not_deleted() {
    let error = State::Running.after(Step::Delete, "c").unwrap_err();
    assert_eq!(error.code(), ttrpc::Code::UNKNOWN);
}
