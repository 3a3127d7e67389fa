use super::*;

#[test]
fn reads_what_it_writes() {
    let (role, sysctls) =
        parse("source ipv4/ip_early_demux=1 ipv4/conf/eth0.5/forwarding=0").unwrap();
    assert_eq!(role, Role::Source);
    assert_eq!(
        sysctls,
        [
            ("ipv4/ip_early_demux", "1"),
            ("ipv4/conf/eth0.5/forwarding", "0")
        ]
    );
    assert_eq!(parse("destination").unwrap(), (Role::Destination, vec![]));
    assert_eq!(parse(""), None);
    assert_eq!(parse("somebody's tunnel"), None);
}
