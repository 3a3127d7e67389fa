//! What `manifests` prints, against the OpenAPI schemas of several Kubernetes versions, as the
//! Python package kubernetes-validate carries them. Skipped where it cannot be installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mycedrive_installer::manifests::{IMAGE, Part, print};

const VERSIONS: [&str; 2] = ["1.29", "1.34"];
const PACKAGE: &str = "kubernetes-validate==1.37.0";

/// The validator, installed once below the target directory.
fn validator() -> Result<PathBuf, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubernetes-validate");
    let program = dir.join("bin/kubernetes-validate");
    if program.is_file() {
        return Ok(program);
    }
    let run = |command: &mut Command| -> Result<(), String> {
        let output = command.output().map_err(|error| error.to_string())?;
        let last = text(&output);
        let last = last.trim().lines().last().unwrap_or("no output").to_owned();
        output.status.success().then_some(()).ok_or(last)
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    run(Command::new(dir.join("bin/pip")).args(["install", "--quiet", PACKAGE]))?;
    Ok(program)
}

fn text(output: &Output) -> String {
    let bytes = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn everything_printed_is_valid() {
    let validator = match validator() {
        Ok(validator) => validator,
        Err(reason) => {
            println!("skipped: {PACKAGE} cannot be installed: {reason}");
            return;
        }
    };
    let parts = [
        Part::RuntimeClass,
        Part::Rbac,
        Part::Daemonset,
        Part::Examples,
    ];
    let good = print(&parts, IMAGE, true);
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, yaml: &str, version: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, yaml).unwrap();
        let output = Command::new(&validator)
            .args(["--strict", "--no-warn", "--kubernetes-version", version])
            .arg(&file)
            .output()
            .unwrap();
        (output.status.success(), text(&output))
    };
    for version in VERSIONS {
        let (valid, said) = check("good.yaml", &good, version);
        assert!(valid, "{version}: {said}");
        assert_eq!(said.matches(" passed for ").count(), 9, "{said}");
    }
    // The validator does find what is wrong.
    for (right, wrong) in [
        ("hostPID: true", "hostPid: true"),
        ("replicas: 2", "replicas: two"),
        ("handler: mycedrive", "handlers: mycedrive"),
    ] {
        let bad = good.replacen(right, wrong, 1);
        assert_ne!(bad, good, "{right}");
        let (valid, said) = check("bad.yaml", &bad, VERSIONS[1]);
        assert!(!valid, "{wrong}: {said}");
    }
}
