//! The command line: options, and what is printed.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::containerd::Distribution;
use crate::doctor::{self, Level};
use crate::error::{Error, Result};
use crate::install::{self, BIN_DIR, Options};
use crate::manifests::{self, CLUSTER, IMAGE, Part};
use crate::root::Root;
use crate::status::{self, State};
use crate::transaction::{self, NoFaults};
use crate::{image, service, uninstall};

/// Prints a line. A reader that went away (`| head`) is no failure of what was done.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(io::stdout().lock(), $($text)*);
    }};
}

/// Puts MyceDrive on a node or into a node image, and takes it off again.
///
/// Everything is one transaction: if a step fails, the node is as it was; if
/// the machine dies in between, the next run puts it back first. Former
/// contents are kept in /var/lib/mycedrive/installer, and `uninstall` restores
/// them byte for byte. Nothing is restarted unless --restart is given.
#[derive(Debug, Parser)]
#[command(name = "mycedrive-installer", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install, or bring an installation up to date.
    ///
    /// Puts the shim and `mycedrive` in place, a systemd unit,
    /// /etc/mycedrive/config.toml if there is none, settings that
    /// /etc/criu/runc.conf lacks, and the runtime handler `mycedrive` in the
    /// configuration of containerd, k3s, RKE2 or k0s. Running it again changes
    /// nothing.
    Install(Install),
    /// Take everything off and restore what was there.
    ///
    /// A file that somebody edited since keeps the edit; containerd's
    /// configuration then only loses the handler.
    Uninstall(Uninstall),
    /// Show what is installed. Exit status 1 if it is not complete.
    Status(Look),
    /// Say what is missing and what works without it. Exit status 1 on errors.
    Doctor(Look),
    /// Put back what an installation that was cut off had changed.
    Recover(Tree),
    /// Make a node image: a tarball of a tree with containerd and MyceDrive.
    ///
    /// The tree is Debian's, made with mmdebstrap, or with --tree one that is
    /// there (and is then installed into, as `install --root` does). It boots
    /// with a kernel of its own (--include linux-image-amd64) or of the
    /// machine. Certificates belong to a node, not to an image.
    Image(Image),
    /// Print YAML for the cluster: RuntimeClass, RBAC, DaemonSet, examples.
    ///
    /// Without PART: everything but the examples.
    Manifests(Manifests),
}

#[derive(Debug, Args)]
struct Tree {
    /// An unbooted root file system. Nothing of this machine is read or
    /// changed, and no symlink in DIR leads out of it.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// What is installed.
#[derive(Debug, Args)]
struct What {
    /// Directory with containerd-shim-mycedrive-v2 and mycedrive. Default: the
    /// one that holds this installer.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Where the programs go, inside the root.
    #[arg(long, value_name = "DIR", default_value = BIN_DIR)]
    bin_dir: String,
    /// Configure this one, not every one that is found. May be repeated.
    #[arg(long, value_name = "NAME", value_enum)]
    distribution: Vec<Distribution>,
    /// Version of a containerd configuration that has to be written anew: 2
    /// for containerd 1.x, 3 for 2.x. Needed for a k0s that never started.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=3))]
    config_version: Option<u32>,
    /// Leave containerd's configuration alone.
    #[arg(long)]
    no_runtime_handler: bool,
}

#[derive(Debug, Args)]
struct Install {
    #[command(flatten)]
    tree: Tree,
    #[command(flatten)]
    what: What,
    /// Restart what has to be restarted. Only for the running node.
    #[arg(long)]
    restart: bool,
    /// Write the commands that are still to be run to FILE, one a line; empty
    /// if nothing changed.
    #[arg(long, value_name = "FILE")]
    commands: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Image {
    /// The tarball; nothing may be there yet. Its end tells the compression:
    /// .tar, .tar.zst, .tar.gz, .tar.xz.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Pack this tree instead of making one of Debian.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["suite", "mirror", "include", "aptopt"])]
    tree: Option<PathBuf>,
    /// Debian's release. CRIU is new enough from forky on.
    #[arg(long, default_value = "forky")]
    suite: String,
    /// Where packages come from [default: mmdebstrap's]
    #[arg(long, value_name = "URI")]
    mirror: Option<String>,
    /// A further package. May be repeated.
    #[arg(long, value_name = "PACKAGE")]
    include: Vec<String>,
    /// An option for apt, as in apt.conf(5). May be repeated.
    #[arg(long, value_name = "OPTION")]
    aptopt: Vec<String>,
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Args)]
struct Uninstall {
    #[command(flatten)]
    tree: Tree,
    /// Also overwrite files that were edited since.
    #[arg(long)]
    force: bool,
    /// Restart what has to be restarted. Only for the running node.
    #[arg(long)]
    restart: bool,
}

#[derive(Debug, Args)]
struct Look {
    #[command(flatten)]
    tree: Tree,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print nothing; the exit status says it.
    #[arg(long)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct Manifests {
    /// What to print.
    #[arg(value_name = "PART", value_enum)]
    parts: Vec<Part>,
    /// Container image for the DaemonSet: the programs in /opt/mycedrive, this
    /// installer in the PATH, a shell and nsenter.
    #[arg(long, default_value = IMAGE)]
    image: String,
    /// Let the DaemonSet restart containerd where it changed something.
    #[arg(long)]
    restart: bool,
}

/// Runs a command line. The exit code is 1 for "not as it should be".
pub fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Install(args) => install(args),
        Command::Image(args) => make_image(args),
        Command::Uninstall(args) => remove(args),
        Command::Status(args) => show_status(args),
        Command::Doctor(args) => show_doctor(args),
        Command::Recover(tree) => {
            let root = Root::open(&tree.root)?;
            let _lock = root.lock()?;
            if transaction::recover(&root)? {
                say!("put back what an unfinished run had changed");
            } else {
                say!("nothing to put back");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Manifests(args) => {
            let parts = if args.parts.is_empty() {
                CLUSTER.as_slice()
            } else {
                &args.parts
            };
            print!("{}", manifests::print(parts, &args.image, args.restart));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check_restart(root: &Root, restart: bool) -> Result<()> {
    if restart {
        // Refused before anything is changed.
        service::run(root, &[])?;
    }
    Ok(())
}

fn install(args: &Install) -> Result<ExitCode> {
    let root = Root::open(&args.tree.root)?;
    check_restart(&root, args.restart)?;
    let options = args.what.options()?;
    let outcome = install::install(&root, &options, &mut NoFaults)?;
    if outcome.recovered {
        say!("an earlier run was cut off; its changes were put back first");
    }
    show(&outcome);
    let mut commands = Vec::new();
    if outcome.changed.is_empty() {
        say!("nothing to do: everything is as it should be");
    } else {
        commands = service::commands(&root, &outcome.distributions, outcome.runtime_changed, true);
        finish(&root, args.restart, &commands)?;
    }
    if let Some(file) = &args.commands {
        write_commands(file, if args.restart { &[] } else { &commands })?;
    }
    Ok(ExitCode::SUCCESS)
}

impl What {
    fn options(&self) -> Result<Options> {
        let bin_dir = self.bin_dir.trim_end_matches('/');
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
        if !bin_dir.starts_with('/') || !bin_dir.bytes().all(plain) || bin_dir.contains("..") {
            return Err(Error::Usage(
                "--bin-dir must be an absolute path of letters, digits and `/._-`".to_owned(),
            ));
        }
        let from = match &self.from {
            Some(from) => from.clone(),
            None => own_directory()?,
        };
        Ok(Options {
            from,
            bin_dir: bin_dir.to_owned(),
            distributions: self.distribution.clone(),
            config_version: self.config_version,
            runtime_handler: !self.no_runtime_handler,
        })
    }
}

fn show(outcome: &install::Outcome) {
    for path in &outcome.changed {
        say!("installed {path}");
    }
    for note in &outcome.notes {
        say!("note: {note}");
    }
}

fn make_image(args: &Image) -> Result<ExitCode> {
    let tree = match &args.tree {
        Some(dir) => image::Tree::Existing(dir.clone()),
        None => image::Tree::Debian {
            suite: args.suite.clone(),
            mirror: args.mirror.clone(),
            include: args.include.clone(),
            apt_options: args.aptopt.clone(),
        },
    };
    let made = image::make(&tree, &args.output, &args.what.options()?)?;
    show(&made.outcome);
    say!("{}: {}", args.output.display(), size(made.bytes));
    Ok(ExitCode::SUCCESS)
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

fn own_directory() -> Result<PathBuf> {
    let program = std::env::current_exe().map_err(|source| Error::ReadProgram {
        path: PathBuf::from("/proc/self/exe"),
        source,
    })?;
    Ok(program
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf))
}

fn write_commands(file: &Path, commands: &[String]) -> Result<()> {
    let text: Vec<&str> = commands.iter().flat_map(|line| [line, "\n"]).collect();
    std::fs::write(file, text.concat()).map_err(|source| Error::Io {
        action: "write",
        path: file.display().to_string(),
        source,
    })
}

fn finish(root: &Root, restart: bool, commands: &[String]) -> Result<()> {
    if restart {
        return service::run(root, commands);
    }
    if root.is_live() {
        say!("nothing was restarted; to make it count, run:");
        for command in commands {
            say!("  {command}");
        }
    }
    Ok(())
}

fn remove(args: &Uninstall) -> Result<ExitCode> {
    let root = Root::open(&args.tree.root)?;
    check_restart(&root, args.restart)?;
    let outcome = uninstall::uninstall(&root, args.force, &mut NoFaults)?;
    if !outcome.installed {
        say!("nothing to do: nothing is installed");
        return Ok(ExitCode::SUCCESS);
    }
    for path in &outcome.restored {
        say!("restored {path}");
    }
    for note in &outcome.notes {
        say!("note: {note}");
    }
    let distributions = crate::containerd::detect(&root);
    let mut commands = vec!["systemctl stop mycedrive.service".to_owned()];
    commands.extend(service::commands(
        &root,
        &distributions,
        outcome.runtime_changed,
        false,
    ));
    finish(&root, args.restart, &commands)?;
    Ok(ExitCode::SUCCESS)
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn show_status(args: &Look) -> Result<ExitCode> {
    let root = Root::open(&args.tree.root)?;
    let status = status::status(&root)?;
    if args.json {
        say!("{}", json(&status));
    } else if !args.quiet {
        match &status.version {
            Some(version) => say!("installed by version {version}"),
            None => say!("not installed"),
        }
        for item in &status.items {
            let state = match item.state {
                State::Installed => "as installed",
                State::Changed => "changed since",
                State::Missing => "MISSING",
            };
            say!("{state:13} {:>10} {}", item.bytes, item.path);
        }
        say!("{} installed", size(status.bytes()));
        match status.handler_in.as_slice() {
            [] => say!("no containerd configuration defines the handler"),
            files => say!("handler `mycedrive` in {}", files.join(", ")),
        }
    }
    Ok(code(status.complete()))
}

fn show_doctor(args: &Look) -> Result<ExitCode> {
    let root = Root::open(&args.tree.root)?;
    let findings = doctor::examine(&root)?;
    if args.json {
        say!("{}", json(&findings));
    } else if !args.quiet {
        for finding in &findings {
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Error => "ERROR",
            };
            say!("{level:8} {:13} {}", finding.what, finding.found);
            if !finding.advice.is_empty() {
                say!("{:22} {}", "", finding.advice);
            }
        }
    }
    let good = findings.iter().all(|finding| finding.level != Level::Error);
    Ok(code(good))
}
