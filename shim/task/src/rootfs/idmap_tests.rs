use super::*;

#[test]
fn maps_are_taken_out_of_the_options() {
    let mut data: Vec<String> = ["lowerdir=/a", "uidmap=0:100:10,10:200:5", "gidmap=0:7:9"]
        .map(str::to_owned)
        .to_vec();
    let map = IdMap::take(&mut data).unwrap().unwrap();
    assert_eq!(map.uids, "0 100 10\n10 200 5\n");
    assert_eq!(map.gids, "0 7 9\n");
    assert_eq!(data, ["lowerdir=/a"]);
}

#[test]
fn options_without_a_map_stay_and_wrong_maps_are_refused() {
    let mut data = vec!["lowerdir=/a".to_owned()];
    assert_eq!(IdMap::take(&mut data), Ok(None));
    for wrong in [
        "uidmap=0:1",
        "uidmap=0:1:2:3",
        "uidmap=a:b:c",
        "uidmap=-1:0:5",
    ] {
        assert_eq!(IdMap::take(&mut vec![wrong.to_owned()]), Err(Errno::EINVAL));
    }
}
