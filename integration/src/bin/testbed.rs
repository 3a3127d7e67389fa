//! `cargo testbed`: nodes on this machine, for a person.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use mycedrive_integration::{
    Containerd, Images, Node, NodeKind, Pod, Testbed, TestbedOptions, build_binaries, init,
};

/// Prints a line. A reader that went away (`| grep -q`) is no failure.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(io::stdout().lock(), $($text)*);
    }};
}

/// Nodes on this machine: each with its own containerd, pod network and node daemon.
#[derive(Parser)]
#[command(name = "testbed", version)]
struct Arguments {
    /// Name of the testbed; those of different names exist beside each other.
    #[arg(long, global = true, default_value = "default")]
    name: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts nodes (the first time on a machine this takes minutes), removing what an earlier run of the name left.
    Up {
        /// Nodes with containerd: node-a, node-b and so on; a node `client` is added.
        #[arg(long, default_value_t = 2)]
        nodes: usize,
        /// Seconds by which the boot clocks of node-a, node-b … are ahead of the machine's, e.g. 5000,0,-500.
        #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
        clock_offsets: Vec<i64>,
        /// Version of containerd.
        #[arg(long, value_enum, default_value = "2")]
        containerd: Containerd,
        /// With the images of memcached, nginx, postgres, node, java, go and musl.
        #[arg(long)]
        programs: bool,
        /// Take the programs as they are built now.
        #[arg(long)]
        no_build: bool,
        /// Build and use optimised programs.
        #[arg(long)]
        release: bool,
    },
    /// Ends a testbed and removes all that is there of it.
    Down {
        /// All testbeds, of every name.
        #[arg(long)]
        all: bool,
    },
    /// Shows testbeds and nodes.
    Status,
    /// Runs a command in a node, with this terminal.
    Exec {
        /// node-a (or a), node-b, client …
        node: String,
        /// Command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Prints a service's log: containerd, mycedrive or init.
    Logs {
        /// Node.
        node: String,
        /// Service; all without it.
        service: Option<String>,
    },
    /// Copies newly built programs into all nodes and restarts their daemons.
    Install {
        /// Take the programs as they are built now.
        #[arg(long)]
        no_build: bool,
    },
    /// Limits a node's link, e.g. to 3mbit; `none` removes the limit.
    Rate {
        /// Node.
        node: String,
        /// Rate as in tc(8), or `none`.
        rate: String,
    },
    /// Cuts a node's link or connects it again.
    Link {
        /// Node.
        node: String,
        /// `up` or `down`.
        state: String,
    },
    /// Pods through the container runtime interface.
    Cri {
        /// Node.
        node: String,
        #[command(subcommand)]
        action: CriAction,
    },
    /// The first process of a node.
    #[command(hide = true)]
    Init {
        /// What the testbed wrote about the node.
        config: PathBuf,
        /// Is this the inner run?
        #[arg(long)]
        inner: bool,
    },
}

#[derive(Subcommand)]
enum CriAction {
    /// Runs a pod with one container.
    Run {
        /// NAMESPACE/NAME
        pod: String,
        /// redis, python, another of the testbed's images or a full image name.
        image: String,
        /// Runtime handler: mycedrive or runc.
        #[arg(long, default_value = "mycedrive")]
        handler: String,
        /// Annotations KEY=VALUE.
        #[arg(long)]
        annotation: Vec<String>,
        /// Node to fetch the pod from, e.g. node-a.
        #[arg(long)]
        from: Option<String>,
        /// Command of the container; the image's without it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Lists pods and containers.
    Ps,
    /// Runs a command in a container, given by a prefix of its id or by NAMESPACE/POD/CONTAINER.
    Exec {
        /// Container.
        container: String,
        /// Command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Stops and removes a pod (NAMESPACE/NAME), as kubelet does.
    Stop {
        /// NAMESPACE/NAME
        pod: String,
        /// Seconds before SIGKILL.
        #[arg(long, default_value_t = 2)]
        grace: u64,
    },
    /// Writes a checkpoint archive of a container to a file of the node.
    Checkpoint {
        /// Container.
        container: String,
        /// File of the node.
        file: String,
    },
}

fn main() -> ExitCode {
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    match run(Arguments::parse_from(mycedrive_integration::arguments())) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let name = arguments.name;
    match arguments.command {
        Command::Init { config, inner } => init::main(&config, inner)?,
        Command::Up {
            nodes,
            clock_offsets,
            containerd,
            programs,
            no_build,
            release,
        } => {
            if !no_build {
                build(release);
            }
            let options = TestbedOptions {
                name,
                nodes,
                clock_offsets,
                containerd,
                images: if programs { Images::All } else { Images::Core },
                ..TestbedOptions::default()
            };
            let testbed = Testbed::start(&options)?;
            show(&testbed);
            testbed.keep();
        }
        Command::Down { all: true } => Testbed::names()
            .iter()
            .try_for_each(|name| Testbed::remove(name))?,
        Command::Down { all: false } => Testbed::remove(&name)?,
        Command::Status => {
            for name in Testbed::names() {
                match Testbed::open(&name) {
                    Ok(testbed) => show(&testbed),
                    Err(_) => {
                        say!("{name}: remains; `cargo testbed --name {name} down` removes them");
                    }
                }
            }
        }
        Command::Exec { node, command } => {
            let testbed = Testbed::open(&name)?;
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let status = testbed
                .node(&node)?
                .command(&words)
                .status()
                .context("cannot run nsenter")?;
            return Ok(ExitCode::from(status.code().unwrap_or(1) as u8));
        }
        Command::Logs { node, service } => {
            logs(Testbed::open(&name)?.node(&node)?, service.as_deref());
        }
        Command::Install { no_build } => {
            if !no_build {
                build(false);
            }
            Testbed::open(&name)?
                .workers()
                .try_for_each(Node::install_programs)?;
        }
        Command::Rate { node, rate } => {
            let rate = Some(rate.as_str()).filter(|rate| *rate != "none");
            Testbed::open(&name)?.node(&node)?.set_rate(rate)?;
        }
        Command::Link { node, state } => match state.as_str() {
            "up" | "down" => Testbed::open(&name)?.node(&node)?.set_link(state == "up")?,
            other => bail!("a link is `up` or `down`, not `{other}`"),
        },
        Command::Cri { node, action } => {
            let testbed = Testbed::open(&name)?;
            return cri(&testbed, testbed.node(&node)?, action);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn build(release: bool) {
    if let Err(error) = build_binaries(release) {
        eprintln!("testbed: programs are not built anew, those that are there are used: {error}");
    }
}

fn show(testbed: &Testbed) {
    say!("{}:", testbed.name());
    for node in testbed.nodes() {
        let state = match (node.alive(), node.kind()) {
            (false, _) => "dead".to_owned(),
            (true, NodeKind::Client) => "client".to_owned(),
            (true, NodeKind::Worker) => ["containerd", "mycedrive"]
                .iter()
                .map(|service| {
                    format!(
                        "{service} {}",
                        if node.service_pid(service).is_some() {
                            "up"
                        } else {
                            "down"
                        }
                    )
                })
                .collect::<Vec<_>>()
                .join(", "),
        };
        say!(
            "  {:<8} {:<12} {:<10} pid {:<8} {state}",
            node.name(),
            node.address(),
            node.address6(),
            node.pid()
        );
    }
}

fn logs(node: &Node, service: Option<&str>) {
    for service in service.map_or(vec!["init", "containerd", "mycedrive"], |service| {
        vec![service]
    }) {
        say!("==> {service} <==\n{}", node.log(service));
    }
}

fn cri(testbed: &Testbed, node: &Node, action: CriAction) -> Result<ExitCode> {
    match action {
        CriAction::Run {
            pod,
            image,
            handler,
            annotation,
            from,
            args,
        } => {
            let (namespace, name) = pod
                .split_once('/')
                .context("a pod is given as NAMESPACE/NAME")?;
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let mut pod = Pod::new(namespace, name)
                .handler(&handler)
                .container("main", &image, &args);
            for pair in annotation {
                let (key, value) = pair
                    .split_once('=')
                    .context("an annotation is given as KEY=VALUE")?;
                pod = pod.annotation(key, value);
            }
            if let Some(from) = from {
                pod = pod.migrate_from(&testbed.node(&from)?.address());
            }
            let running = node.run_pod(&pod)?;
            say!(
                "sandbox {}\naddress {} {}",
                running.sandbox,
                running.ip,
                running.more_ips.join(" ")
            );
            for (name, id) in &running.containers {
                say!("container {name} {id}");
            }
        }
        CriAction::Ps => list(node)?,
        CriAction::Exec { container, command } => {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let id = find_container(node, &container)?;
            let result = node
                .cri()?
                .exec_sync(&id, &words, Duration::from_secs(60))?;
            print!("{}", result.stdout);
            eprint!("{}", result.stderr);
            return Ok(ExitCode::from(result.code as u8));
        }
        CriAction::Stop { pod, grace } => stop(node, &pod, Duration::from_secs(grace))?,
        CriAction::Checkpoint { container, file } => {
            node.cri()?
                .checkpoint_container(&find_container(node, &container)?, &file)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(node: &Node) -> Result<()> {
    let cri = node.cri()?;
    let containers = cri.list_containers()?;
    for sandbox in cri.list_pod_sandbox()? {
        let metadata = sandbox.metadata.clone().unwrap_or_default();
        let state = if sandbox.state == 0 {
            "ready"
        } else {
            "not ready"
        };
        say!(
            "{}/{} {} {} {state}",
            metadata.namespace,
            metadata.name,
            sandbox.id,
            sandbox.runtime_handler
        );
        for container in containers
            .iter()
            .filter(|container| container.pod_sandbox_id == sandbox.id)
        {
            let state = container
                .state()
                .as_str_name()
                .trim_start_matches("CONTAINER_")
                .to_lowercase();
            let metadata = container.metadata.clone().unwrap_or_default();
            say!(
                "  {} {} attempt {} {state}",
                metadata.name,
                container.id,
                metadata.attempt
            );
        }
    }
    Ok(())
}

fn find_container(node: &Node, text: &str) -> Result<String> {
    let cri = node.cri()?;
    let words: Vec<&str> = text.split('/').collect();
    for container in cri.list_containers()? {
        let label = |key: &str| container.labels.get(key).map(String::as_str);
        let named = [
            label("io.kubernetes.pod.namespace"),
            label("io.kubernetes.pod.name"),
            label("io.kubernetes.container.name"),
        ];
        if container.id.starts_with(text) || words.iter().copied().map(Some).eq(named) {
            return Ok(container.id);
        }
    }
    bail!("no container `{text}` on {}", node.name())
}

fn stop(node: &Node, pod: &str, grace: Duration) -> Result<()> {
    let cri = node.cri()?;
    let (namespace, name) = pod
        .split_once('/')
        .context("a pod is given as NAMESPACE/NAME")?;
    let containers = cri.list_containers()?;
    for sandbox in cri.list_pod_sandbox()? {
        let metadata = sandbox.metadata.clone().unwrap_or_default();
        if metadata.namespace != namespace || metadata.name != name {
            continue;
        }
        for container in containers
            .iter()
            .filter(|container| container.pod_sandbox_id == sandbox.id)
        {
            cri.stop_container(&container.id, grace)?;
        }
        cri.stop_pod_sandbox(&sandbox.id)?;
        cri.remove_pod_sandbox(&sandbox.id)?;
    }
    Ok(())
}
