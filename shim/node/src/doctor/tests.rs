use super::*;

fn runtime(text: &str) -> Check {
    containerd::runtime_in(&text.parse().unwrap())
}

#[test]
fn finds_the_handler_in_both_versions_of_the_configuration() {
    for plugin in ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"] {
        let section = format!("[plugins.'{plugin}'.containerd.runtimes.mycedrive]\n");
        let kind = "runtime_type = 'io.containerd.mycedrive.v2'\n";
        let passed = "pod_annotations = ['mycedrive.io/*']\n";
        let good = runtime(&format!("{section}{kind}{passed}"));
        assert_eq!(good.state, State::Ok, "{good:?}");
        let silent = runtime(&format!("{section}{kind}"));
        assert_eq!(silent.state, State::Fail);
        assert!(silent.advice.contains("pod_annotations"), "{silent:?}");
    }
    assert_eq!(runtime("version = 3").state, State::Fail);
}

#[test]
fn reads_versions() {
    assert_eq!(kernel::parse_version("6.12.48-cloud-amd64"), Some((6, 12)));
    assert_eq!(kernel::parse_version("1.3.6"), Some((1, 3)));
    assert_eq!(kernel::parse_version("4.2"), Some((4, 2)));
    assert_eq!(kernel::parse_version(""), None);
}

#[tokio::test]
async fn every_line_that_is_not_ok_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        pki_dir: dir.path().join("pki"),
        state_dir: dir.path().join("state"),
        containerd: crate::config::Containerd {
            socket: dir.path().join("containerd.sock"),
        },
        ..Config::default()
    }
    .completed(Some(dir.path().join("run")), "node-a");
    let checks = run(&config).await;
    for check in &checks {
        assert_eq!(
            check.advice.is_empty(),
            check.state == State::Ok,
            "{check:?}"
        );
    }
    let failed = |name| {
        checks
            .iter()
            .any(|check| check.name == name && check.state == State::Fail)
    };
    assert!(failed("certificate") && failed("containerd") && failed("daemon"));
    assert!(text(&checks).contains("-> mycedrive pki issue"));
}
