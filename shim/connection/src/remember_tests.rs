use super::*;

#[test]
fn reads_what_it_writes() {
    let sysctls = parse("source ipv4/ip_early_demux=1 ipv4/conf/eth0.5/forwarding=0").unwrap();
    assert_eq!(
        sysctls,
        [
            ("ipv4/ip_early_demux", "1"),
            ("ipv4/conf/eth0.5/forwarding", "0")
        ]
    );
    assert_eq!(parse("destination").unwrap(), vec![]);
    assert_eq!(parse(""), None);
    assert_eq!(parse("somebody's tunnel"), None);
}

#[test]
fn what_another_of_our_devices_remembers_is_known() {
    let link = |name: &str, alias: &str| Link {
        index: 0,
        name: name.to_owned(),
        alias: alias.to_owned(),
        mtu: 0,
        loopback: false,
        up: true,
        running: true,
    };
    let all = [
        link("eth0", "destination x=3"),
        link("myce1", "destination x=0"),
        link("myce2", "destination x=1 y=2"),
    ];
    let of = |name| others(&all, name).collect::<Vec<_>>();
    assert_eq!(of("myce1"), [("x", "1"), ("y", "2")]);
    assert_eq!(of("myce2"), [("x", "0")]);
}
