use std::path::Path;

use super::{Runc, failure, last_error};
use crate::error::Error;
use crate::options::Options;

const LOG: &str = concat!(
    "{\"level\":\"warning\",\"msg\":\"odd\",\"time\":\"t\"}\n",
    "{\"level\":\"error\",\"msg\":\"container does not exist\",\"time\":\"t\"}\n",
    "not json\n",
);

#[test]
fn the_last_error_line_counts() {
    assert_eq!(last_error(LOG).unwrap(), "container does not exist");
    assert_eq!(last_error("").as_deref(), None);
}

#[test]
fn a_gone_container_is_not_found_for_kill_and_delete_only() {
    let kill = failure("kill".into(), 1, Some(LOG));
    assert!(matches!(kill, Error::NotFound(_)));
    let start = failure("start".into(), 1, Some(LOG));
    assert!(matches!(start, Error::Runc { .. }));
    let silent = failure("start".into(), 9, None);
    assert!(silent.to_string().contains("exit code 9"), "{silent}");
}

#[test]
fn the_state_directory_is_per_namespace() {
    let options = Options {
        root: "/run/other".into(),
        ..Options::default()
    };
    let runc = Runc::new(&options, "k8s.io", Path::new("/b"));
    assert_eq!(runc.root(), Path::new("/run/other/k8s.io"));
    assert_eq!(runc.binary(), Path::new("runc"));
}
