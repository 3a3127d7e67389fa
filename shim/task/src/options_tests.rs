use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::shim::oci::Options as RuncMessage;

use super::Options;

fn any(name: &str, value: Vec<u8>) -> Any {
    Any {
        type_url: name.to_owned(),
        value,
        ..Any::default()
    }
}

#[test]
fn runc_options_are_decoded() {
    let message = RuncMessage {
        binary_name: "crun".into(),
        systemd_cgroup: true,
        io_uid: 7,
        ..RuncMessage::default()
    };
    let any = any(
        "type.googleapis.com/containerd.runc.v1.Options",
        message.write_to_bytes().unwrap(),
    );
    let options = Options::from_any(Some(&any)).unwrap();
    assert_eq!(options.binary(), "crun");
    assert!(options.systemd_cgroup);
    assert_eq!(options.io_uid, 7);
}

#[test]
fn the_section_of_the_cri_configuration_is_decoded() {
    let body = b"BinaryName = '/usr/bin/crun'\nSystemdCgroup = true\nRoot = \"/run/x\"\n";
    let mut value = vec![3 << 3 | 2, body.len() as u8];
    value.extend_from_slice(body);
    let options = Options::from_any(Some(&any("runtimeoptions.v1.Options", value))).unwrap();
    assert_eq!(options.binary(), "/usr/bin/crun");
    assert_eq!(options.root, "/run/x");
    assert!(options.systemd_cgroup);
}

#[test]
fn options_survive_in_the_bundle() {
    let dir = std::env::temp_dir().join(format!("mycedrive-options-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let options = Options {
        root: "/run/y".into(),
        ..Options::default()
    };
    options.save(&dir).unwrap();
    assert_eq!(Options::load(&dir), options);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn unknown_options_are_refused_and_none_are_fine() {
    assert!(Options::from_any(Some(&any("other.Options", vec![]))).is_err());
    assert_eq!(Options::from_any(None).unwrap(), Options::default());
}
