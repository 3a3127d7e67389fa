use super::*;

fn details(keep_connections: bool) -> Details {
    Details {
        id: "m3".to_owned(),
        sandbox: String::new(),
        containerd_namespace: String::new(),
        namespace: String::new(),
        pod: String::new(),
        uid: String::new(),
        netns: String::new(),
        endpoint: "node-b:7843".to_owned(),
        source_pod: String::new(),
        keep_connections,
    }
}

fn manifest() -> Manifest {
    Manifest {
        addresses: vec!["10.0.2.2".to_owned()],
        relay_token: "of b".to_owned(),
        earlier: vec![EarlierRoute {
            migration_id: "m1".to_owned(),
            endpoint: "node-a:7843".to_owned(),
            addresses: vec!["10.0.1.2".to_owned(), "fd00::2".to_owned()],
            token: "of a".to_owned(),
            hops: 1,
        }],
        ..Manifest::default()
    }
}

#[test]
fn a_pod_that_moved_twice_dials_both_nodes_and_shows_what_it_was_given() {
    let routes: Vec<Route> = of(&details(true), &manifest())
        .into_iter()
        .flatten()
        .collect();
    let [own, earlier] = &routes[..] else {
        panic!("{routes:?}");
    };
    assert_eq!((own.number, own.endpoint.as_str()), (0, "node-b:7843"));
    let hello = own.hello();
    assert_eq!((hello.migration_id.as_str(), hello.hops), ("m3", 0));
    assert_eq!(
        hello.token, "",
        "the destination is known by its certificate"
    );
    assert_eq!(
        (earlier.number, earlier.endpoint.as_str()),
        (1, "node-a:7843")
    );
    let hello = earlier.hello();
    assert_eq!((hello.migration_id.as_str(), hello.hops), ("m1", 1));
    assert_eq!(hello.token, "of a");
    assert_eq!(earlier.addresses().len(), 2);
}

#[test]
fn what_is_handed_on_is_one_move_further() {
    let routes = of(&details(true), &manifest());
    let on: Vec<EarlierRoute> = routes.iter().flatten().map(Route::handed_on).collect();
    let seen: Vec<_> = on
        .iter()
        .map(|route| {
            (
                route.migration_id.as_str(),
                route.token.as_str(),
                route.hops,
            )
        })
        .collect();
    assert_eq!(seen, [("m3", "of b", 1), ("m1", "of a", 2)]);
}

#[test]
fn nothing_is_carried_where_connections_are_closed() {
    assert!(of(&details(false), &manifest()).is_empty());
}

#[test]
fn a_claim_of_no_hops_does_not_pass_for_the_first_move() {
    let mut manifest = manifest();
    manifest.earlier[0].hops = 0;
    let routes = of(&details(true), &manifest);
    assert_eq!(routes[1].as_ref().unwrap().hello().hops, 1);
}
