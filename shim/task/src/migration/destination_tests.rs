use super::*;

fn routes(lists: &[&[&str]]) -> Result<BTreeMap<Route, Vec<IpAddr>>> {
    let owned = |list: &&[&str]| list.iter().map(ToString::to_string).collect();
    parse(&lists.iter().map(owned).collect::<Vec<_>>())
}

#[test]
fn each_route_keeps_its_number_and_each_address_is_taken_once() {
    let parsed = routes(&[
        &["10.0.0.1", "fd00::1"],
        &[],
        &["10.0.0.1", "10.0.2.1", "10.0.2.1"],
    ])
    .unwrap();
    let third = Route::new(2).unwrap();
    assert_eq!(
        parsed.keys().copied().collect::<Vec<_>>(),
        [Route::FIRST, third]
    );
    assert_eq!(parsed[&Route::FIRST].len(), 2);
    assert_eq!(parsed[&third], [IpAddr::from([10, 0, 2, 1])]);
}

#[test]
fn addresses_that_no_pod_has_are_refused() {
    for bad in [
        "127.0.0.1",
        "::1",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",
        "::",
        "10.0.0.1/24",
        "",
    ] {
        let error = routes(&[&[bad]]).unwrap_err().to_string();
        assert!(error.contains(&format!("{bad:?}")), "{error}");
    }
}

#[test]
fn too_many_routes_are_refused() {
    let names: Vec<String> = (0..=mycedrive_connection::ROUTES)
        .map(|number| format!("10.0.0.{}", number + 1))
        .collect();
    let all: Vec<Vec<String>> = names.into_iter().map(|name| vec![name]).collect();
    assert!(parse(&all[1..]).is_ok());
    let error = parse(&all).unwrap_err().to_string();
    assert!(error.contains("8 earlier pods"), "{error}");
}
