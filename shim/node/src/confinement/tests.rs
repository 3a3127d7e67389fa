use super::*;

fn some() -> Confinement {
    Confinement {
        uid: 999,
        bounding: vec!["CAP_KILL".to_owned(), "CAP_CHOWN".to_owned()],
        ..Confinement::default()
    }
}

#[test]
fn order_does_not_matter() {
    let mut other = some();
    other.bounding.reverse();
    assert_eq!(canonical(&some()), canonical(&other));
    assert!(differences(&canonical(&some()), &canonical(&other)).is_empty());
}

#[test]
fn what_differs_is_named() {
    let mut wider = some();
    wider.uid = 0;
    wider.bounding.push("CAP_SYS_ADMIN".to_owned());
    wider.seccomp = "0123".to_owned();
    let found = differences(&canonical(&some()), &canonical(&wider));
    assert_eq!(
        found,
        [
            "bounding: only at the destination: CAP_SYS_ADMIN",
            "seccomp: the two specs differ",
            "uid: 999 at the source, 0 at the destination",
        ]
    );
    assert_eq!(differences(&canonical(&some()), "?").len(), 1);
}

#[test]
fn pods_with_levels_of_their_own_are_told_what_to_do() {
    let labelled = |level: &str| {
        canonical(&Confinement {
            selinux_label: format!("u:r:container_t:s0:{level}"),
            ..some()
        })
    };
    let found = differences(&labelled("c1,c2"), &labelled("c3,c4"));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("s0:c1,c2"), "{found:?}");
    assert!(found[0].ends_with("the same seLinuxOptions"), "{found:?}");
    assert!(differences(&labelled("c1,c2"), &labelled("c1,c2")).is_empty());
}
