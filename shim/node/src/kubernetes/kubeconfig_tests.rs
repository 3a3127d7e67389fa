use super::*;

/// As kubeadm writes it, but for what `user` says.
fn file(folder: &Path, user: &str) -> PathBuf {
    let file = folder.join("kubelet.conf");
    let text = format!(
        "apiVersion: v1
kind: Config
clusters:
- name: other
  cluster: {{server: 'https://other:6443', certificate-authority-data: eA==}}
- name: kubernetes
  cluster:
    certificate-authority-data: Q0E=
    server: https://10.0.0.1:6443
contexts:
- name: node
  context: {{cluster: kubernetes, namespace: default, user: node}}
current-context: node
preferences: {{}}
users:
- name: node
  user: {user}
"
    );
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_kubelets_certificate_is_found() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("current.pem"), "both").unwrap();
    let user = "{client-certificate: current.pem, client-key: current.pem}";
    let access = Access::read(&file(folder.path(), user)).unwrap();
    assert_eq!(access.server, "https://10.0.0.1:6443");
    assert_eq!(access.ca, b"CA");
    let both = b"both".to_vec();
    let identity = Identity::Certificate {
        chain: both.clone(),
        key: both,
    };
    assert_eq!(access.identity, identity);
    assert!(!format!("{access:?}").contains("both"));
}

#[test]
fn tokens_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("token");
    fs::write(&place, "renewed\n").unwrap();
    let read = |user: &str| Access::read(&file(folder.path(), user)).unwrap().identity;
    assert_eq!(read("{token: abc}"), Identity::Token("abc".to_owned()));
    let both = format!("{{token: abc, tokenFile: {}}}", place.display());
    assert_eq!(read(&both), Identity::Token("renewed".to_owned()));
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let read = |user: &str| {
        let error = Access::read(&file(folder.path(), user)).unwrap_err();
        error.to_string()
    };
    // Programs are not started.
    let error = read("{exec: {command: aws}}");
    assert!(
        error.contains("kubelet.conf") && error.contains("token"),
        "{error}"
    );
    let error = read("{client-certificate: gone.pem, client-key: gone.pem}");
    assert!(error.contains("gone.pem"), "{error}");
    let error = read("{client-certificate-data: '*', client-key-data: eA==}");
    assert!(error.contains("base64"), "{error}");
    for text in ["", "contexts: [", "current-context: none"] {
        let file = folder.path().join("other");
        fs::write(&file, text).unwrap();
        let error = Access::read(&file).unwrap_err().to_string();
        assert!(error.contains("other"), "{error}");
    }
}
