use super::*;

#[test]
fn settings_of_others_win() {
    let theirs = "# ours\nnetwork-lock iptables\ntcp-established";
    let merged = merge(Some(theirs)).unwrap();
    assert!(merged.starts_with(theirs));
    assert!(!merged.contains("nftables"));
    assert!(merged.contains("\nghost-limit 64M\n"));
    assert_eq!(merge(Some(&merged)), None);
    assert_eq!(merge(merge(None).as_deref()), None);
}
