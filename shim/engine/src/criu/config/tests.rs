use super::*;

#[test]
fn a_migration_relies_on_the_pods_lock() {
    let text = Config::checkpoint(Purpose::Migration, Connections::Keep).text();
    assert!(text.contains("\nnetwork-lock skip\n"), "{text}");
    assert!(text.contains("\ntcp-established\n"), "{text}");
    assert!(!text.contains("leave-stopped"), "{text}");
}

#[test]
fn a_local_checkpoint_locks_by_itself() {
    let purpose = Purpose::Local { exit: true };
    let text = Config::checkpoint(purpose, Connections::Close).text();
    assert!(text.contains("\nnetwork-lock nftables\n"), "{text}");
    assert!(text.contains("\ntcp-close\n"), "{text}");
    assert!(!text.contains("tcp-established"), "{text}");
}

#[test]
fn every_restore_ends_stopped() {
    for purpose in [Purpose::Migration, Purpose::Local { exit: false }] {
        let text = Config::restore(purpose, Connections::Keep).text();
        assert!(text.contains("\nleave-stopped\n"), "{text}");
    }
}
