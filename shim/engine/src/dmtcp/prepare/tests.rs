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
    let older = Installation {
        version: "4.2.0".to_owned(),
        ..installed(true)
    };
    let args = Value::Array(arguments(
        &older,
        &Task::Launch,
        vec![json!("redis-server")],
    ));
    assert!(!words(&args).contains(&"--"));
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

/// Our pid 1 over a script that says in a file when it starts; its exit code and the starts.
fn starts(script: &str, file: &str) -> (Option<i32>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let [init, script_file, log] = ["init", file, "log"].map(|name| folder.path().join(name));
    let script = format!(
        "#!/bin/sh\necho >> {log}\nstarts=$(wc -l < {log})\n{script}\n",
        log = log.display()
    );
    for (path, content) in [(&init, INIT), (&script_file, script.as_bytes())] {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = std::process::Command::new(&init);
    command.args([&folder.path().join("none"), &script_file]);
    let status = loop {
        match command.status() {
            // Another test's child still has it open, as it was when that was forked.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            status => break status.unwrap(),
        }
    };
    let starts = fs::read_to_string(&log).unwrap().lines().count();
    (status.code(), starts)
}

#[test]
fn a_launcher_that_lost_its_coordinator_is_started_again() {
    let third = "[ $starts -lt 3 ] && kill -PIPE $$\nexit 7";
    assert_eq!(starts(third, "dmtcp_launch"), (Some(7), 3));
    // Not for ever.
    assert_eq!(starts("kill -PIPE $$", "dmtcp_launch"), (Some(141), 5));
}

#[test]
fn a_program_that_began_is_not_started_again() {
    // It has become another program, or was never a launcher, or ended in another way.
    let became = "exec sh -c 'kill -PIPE $$'";
    assert_eq!(starts(became, "dmtcp_launch"), (Some(141), 1));
    assert_eq!(starts("kill -PIPE $$", "program"), (Some(141), 1));
    assert_eq!(starts("kill -TERM $$", "dmtcp_launch"), (Some(143), 1));
    assert_eq!(starts("exit 141", "dmtcp_launch"), (Some(141), 1));
    // Somebody has signalled it: the signal is not lost.
    let signalled = "kill -USR1 $PPID; sleep 0.2; kill -PIPE $$";
    let signalled = format!("trap : USR1\n{signalled}");
    assert_eq!(starts(&signalled, "dmtcp_launch"), (Some(141), 1));
}
