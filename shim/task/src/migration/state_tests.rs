use super::*;

fn source(stage: SourceStage) -> Migration {
    came(stage, None)
}

fn came(stage: SourceStage, came: Option<Destination>) -> Migration {
    Migration::Source(Source {
        id: "m1".to_owned(),
        stage,
        keep_connections: true,
        addresses: Vec::new(),
        frozen_at_ns: 1,
        dump: Dumped::default(),
        destination: String::new(),
        came,
        parked: false,
    })
}

fn destination(stage: DestinationStage) -> Migration {
    Migration::Destination(arrived("m1", stage))
}

fn arrived(id: &str, stage: DestinationStage) -> Destination {
    Destination {
        id: id.to_owned(),
        stage,
        keep_connections: true,
        routes: BTreeMap::from([(Route::FIRST, vec![IpAddr::from([10, 0, 0, 1])])]),
        pids: Vec::new(),
        milliseconds: 0,
    }
}

/// One letter for each check in the order freeze, dump, resume, discard, adopt, restore, run,
/// abort, drop route: `+` do it, `=` done before, `-` refused.
fn table(state: &Migration, id: &str) -> String {
    [
        state.check_freeze(id),
        state.check_dump(id),
        state.check_resume(id),
        state.check_discard(id),
        state.check_adopt(id),
        state.check_restore(id),
        state.check_run(id),
        state.check_abort(id),
        state.check_drop_route(id, Route::FIRST),
    ]
    .into_iter()
    .map(|check| match check {
        Ok(Check::Do) => '+',
        Ok(Check::Done) => '=',
        Err(_) => '-',
    })
    .collect()
}

#[test]
fn every_state_allows_its_steps_and_repeats_those_done() {
    use {DestinationStage as D, SourceStage as S};
    for (state, wanted) in [
        (Migration::None, "+-=-+--=="),
        (source(S::Frozen), "=+++----="),
        (source(S::Dumped), "==++----="),
        (source(S::Held), "---=----="),
        (destination(D::Adopted), "----++-+-"),
        (destination(D::Restored), "----==++-"),
        (destination(D::Running), "----===-+"),
    ] {
        assert_eq!(table(&state, "m1"), wanted, "{state}");
    }
}

#[test]
fn another_migration_is_refused_except_that_a_pod_that_runs_may_leave_again() {
    use {DestinationStage as D, SourceStage as S};
    for (state, wanted) in [
        (source(S::Frozen), "--------="),
        (source(S::Dumped), "--------="),
        (source(S::Held), "--------="),
        (destination(D::Adopted), "---------"),
        (destination(D::Restored), "---------"),
        (destination(D::Running), "+--------"),
    ] {
        assert_eq!(table(&state, "m2"), wanted, "{state}");
    }
}

#[test]
fn a_refusal_names_both_migrations() {
    let error = source(SourceStage::Held).check_freeze("m2").unwrap_err();
    assert_eq!(error.code(), ttrpc::Code::FAILED_PRECONDITION);
    let text = error.to_string();
    assert!(text.contains("m1") && text.contains("m2"), "{text}");
}

#[test]
fn a_pod_that_moves_on_keeps_its_earlier_addresses_until_it_runs_elsewhere() {
    use SourceStage as S;
    let before = || Some(arrived("m0", DestinationStage::Running));
    for (stage, dropped) in [
        (S::Frozen, None),
        (S::Dumped, None),
        (S::Held, Some(Check::Do)),
    ] {
        let state = came(stage, before());
        assert_eq!(state.check_drop_route("m0", Route::FIRST).ok(), dropped);
        assert_eq!(
            state.check_drop_route("m1", Route::FIRST).unwrap(),
            Check::Done
        );
    }
    let mut state = came(S::Held, before());
    state.routes().unwrap().clear();
    assert_eq!(
        state.check_drop_route("m0", Route::FIRST).unwrap(),
        Check::Done
    );
}

#[test]
fn a_pod_that_stays_is_what_it_was() {
    let frozen = |state: &mut Migration| {
        let Migration::Source(source) = source(SourceStage::Frozen) else {
            panic!("not a source");
        };
        state.leave(source);
        assert_eq!(state.role(), Role::ROLE_SOURCE);
    };
    let arrived = Migration::Destination(arrived("m0", DestinationStage::Running));
    for before in [Migration::None, arrived] {
        let mut state = before.clone();
        frozen(&mut state);
        state.stay();
        assert_eq!(state, before);
    }
}
