use mycedrive_proto::migration::SourceContainer;

use super::*;

fn manifest(engines: &[&str]) -> Manifest {
    Manifest {
        containers: engines
            .iter()
            .map(|engine| SourceContainer {
                name: (*engine).to_owned(),
                engine: (*engine).to_owned(),
                ..SourceContainer::default()
            })
            .collect(),
        criu_version: "4.2".to_owned(),
        dmtcp_version: "4.2.0".to_owned(),
        ..Manifest::default()
    }
}

fn installed(criu: &str, dmtcp: &str) -> Installed {
    Installed {
        criu: criu.to_owned(),
        dmtcp: dmtcp.to_owned(),
    }
}

#[test]
fn only_the_engines_in_use_are_wanted() {
    assert_eq!(check(&manifest(&["criu"]), &installed("4.3", "")), None);
    assert_eq!(check(&manifest(&["dmtcp"]), &installed("", "4.2.0")), None);
    let both = check(&manifest(&["criu", "dmtcp"]), &installed("4.2", ""));
    assert!(matches!(both, Some(Obstacle::Dmtcp { .. })));
    let mut exited = manifest(&["dmtcp"]);
    exited.containers[0].exited = true;
    assert_eq!(check(&exited, &installed("", "")), None);
}

#[test]
fn versions_are_compared_as_the_engine_needs_it() {
    let old = check(&manifest(&["criu"]), &installed("4.1", ""));
    assert!(matches!(old, Some(Obstacle::Criu { .. })));
    let newer = check(&manifest(&["dmtcp"]), &installed("", "4.2.1")).unwrap();
    assert!(newer.to_string().contains("DMTCP 4.2.1"), "{newer}");
    let unknown = check(&manifest(&["vmware"]), &installed("4.2", "4.2.0"));
    assert!(matches!(unknown, Some(Obstacle::Engine { .. })));
}
