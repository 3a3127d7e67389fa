use std::collections::BTreeMap;

use super::*;

fn installed(plugin: bool) -> Installation {
    Installation {
        prefix: "/opt/dmtcp".into(),
        version: "5.0".to_owned(),
        glibc: (2, 34),
        libraries: BTreeMap::new(),
        plugin: plugin.then(|| "/usr/lib/plugin.so".into()),
    }
}

fn fit(library: bool) -> Fit {
    let mut libraries = BTreeMap::new();
    if library {
        libraries.insert(
            "libatomic.so.1".to_owned(),
            "/lib/libatomic.so.1.2.0".into(),
        );
    }
    Fit {
        libraries,
        name: String::new(),
        glibc: (2, 36),
        digest: String::new(),
    }
}

fn words(values: &Value) -> Vec<&str> {
    values
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_str().unwrap())
        .collect()
}

#[test]
fn a_launch_ends_with_the_own_command() {
    let own = vec![json!("redis-server"), json!("--save"), json!("")];
    let args = Value::Array(arguments(&installed(true), &Task::Launch, own));
    let args = words(&args);
    assert_eq!(args[..2], [layout::INIT, layout::ENVIRONMENT]);
    assert!(args[2].ends_with("/bin/dmtcp_launch"));
    assert!(
        args.windows(2)
            .any(|pair| pair == ["--with-plugin", layout::PLUGIN])
    );
    assert_eq!(args[args.len() - 4..], ["--", "redis-server", "--save", ""]);
    let without = Value::Array(arguments(&installed(false), &Task::Launch, Vec::new()));
    assert!(!words(&without).contains(&"--with-plugin"));
}

#[test]
fn a_restart_names_its_images() {
    let images = ["ckpt_redis_1.dmtcp".to_owned()];
    let task = Task::Restart {
        folder: Path::new("/run/images/dmtcp"),
        images: &images,
    };
    let args = Value::Array(arguments(&installed(true), &task, vec![json!("x")]));
    let args = words(&args);
    assert_eq!(args.last(), Some(&"/.mycedrive/restart/ckpt_redis_1.dmtcp"));
    assert!(!args.contains(&"x"));
}

#[test]
fn the_library_path_is_added_to() {
    let mut process = json!({ "env": ["A=1", "LD_LIBRARY_PATH=/x"] });
    library_path(&mut process);
    assert_eq!(
        words(&process["env"]),
        ["A=1", "LD_LIBRARY_PATH=/x:/.mycedrive/lib"]
    );
    let mut process = json!({});
    library_path(&mut process);
    assert_eq!(words(&process["env"]), ["LD_LIBRARY_PATH=/.mycedrive/lib"]);
}

#[test]
fn everything_is_mounted_below_one_directory() {
    let folder = Folder::of(Path::new("/bundle"));
    // Not root: the init cannot be kept, and then nothing is known of the mounts.
    let Ok(mounts) = mounts(&folder, &installed(true), &fit(true), &Task::Launch) else {
        eprintln!("skipped: /var/lib/mycedrive cannot be written");
        return;
    };
    assert_eq!(mounts[0]["destination"], layout::ROOT);
    for mount in &mounts {
        assert!(
            mount["destination"]
                .as_str()
                .unwrap()
                .starts_with(layout::ROOT)
        );
    }
    assert!(
        mounts
            .iter()
            .any(|mount| mount["destination"] == "/.mycedrive/lib/libatomic.so.1")
    );
}
