use super::*;

fn request(path: &str, options: Option<CheckpointOptions>) -> CheckpointTaskRequest {
    let mut request = CheckpointTaskRequest {
        id: "one".to_owned(),
        path: path.to_owned(),
        ..CheckpointTaskRequest::default()
    };
    request.options = options
        .map(|options| protobuf::well_known_types::any::Any {
            type_url: "containerd.runc.v1.CheckpointOptions".to_owned(),
            value: options.write_to_bytes().unwrap(),
            ..Default::default()
        })
        .into();
    request
}

fn to(image_path: &str) -> CheckpointOptions {
    CheckpointOptions {
        image_path: image_path.to_owned(),
        work_path: "/work".to_owned(),
        exit: true,
        ..CheckpointOptions::default()
    }
}

#[test]
fn the_callers_directory_comes_before_containerds() {
    let decoded = decode(&request("/tmp/of-containerd", Some(to("/srv/mine")))).unwrap();
    assert_eq!(decoded.path, PathBuf::from("/srv/mine"));
    assert_eq!(decoded.work, Some(PathBuf::from("/work")));
    assert!(decoded.exit);
    let decoded = decode(&request("/tmp/of-containerd", Some(to("")))).unwrap();
    assert_eq!(decoded.path, PathBuf::from("/tmp/of-containerd"));
    let decoded = decode(&request("/tmp/of-containerd", None)).unwrap();
    assert_eq!(decoded.path, PathBuf::from("/tmp/of-containerd"));
    assert!(!decoded.exit && decoded.work.is_none());
}

#[test]
fn a_checkpoint_needs_a_path() {
    assert!(matches!(
        decode(&request("", Some(to("")))),
        Err(Error::Invalid(_))
    ));
    assert!(matches!(decode(&request("", None)), Err(Error::Invalid(_))));
}
