//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

const ABOUT: &str = "Moves running pods between nodes";

const OVERVIEW: &str = "\
A pod with runtimeClassName mycedrive moves when a second pod starts on another node with the
annotation

  mycedrive.io/migrate-from: NODE:7843/NAMESPACE/POD

This command runs the daemon that each node needs, and shows and steers what it does.";

const FIRST_STEPS: &str = "\
First steps on two nodes:
  mycedrive pki ca --out /root/mycedrive-ca
  mycedrive pki issue --ca /root/mycedrive-ca --name node-a --address 192.0.2.1 --out ./node-a
      (copy ./node-a to /etc/mycedrive/pki on node-a; the same for the other node)
  mycedrive doctor        what is missing on this node, and what to do about it
  mycedrive serve         normally started by systemd
  mycedrive ps            which pods could move, and why others could not
  mycedrive watch         the migration that is under way";

/// What the command was called with.
#[derive(Debug, Parser)]
#[command(name = "mycedrive", version, about = ABOUT, long_about = OVERVIEW, after_help = FIRST_STEPS)]
pub struct Args {
    /// Configuration file [default: /etc/mycedrive/config.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Format {
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node daemon until SIGTERM
    #[command(
        after_help = "The daemon needs keys (`mycedrive pki`). `mycedrive config` prints its \
        configuration file with every key. Pods run on without the daemon; only migrations need it."
    )]
    Serve,
    /// List the pods of this node that run under mycedrive
    #[command(
        after_help = "MIGRATABLE says whether the pod could move now. If not, the reason \
        stands below it, with what to do about it.\n\nExample:\n  mycedrive ps --json | jq -r '.[] | \
        select(.migratable | not) | .name'"
    )]
    Ps(Format),
    /// List migrations, the newest first
    Migrations(Format),
    /// Follow a migration: round, bytes, rate, estimated freeze
    #[command(
        after_help = "Exit code: 0 when the pod runs on the destination, 1 when the migration \
        was rolled back, failed or is held.\n\nExamples:\n  mycedrive watch            the newest \
        migration\n  mycedrive watch 3f2a       the one whose id begins so\n  mycedrive watch --json \
        | jq .phase"
    )]
    Watch {
        /// Its id or the beginning of it [default: the newest]
        id: Option<String>,
        /// How it is printed.
        #[command(flatten)]
        format: Format,
    },
    /// Show what happened in a migration, and when
    #[command(after_help = "Example:\n  mycedrive report 3f2a --svg timeline.svg")]
    Report {
        /// Its id or the beginning of it
        id: String,
        /// Write the timeline as a picture instead
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
        /// How it is printed.
        #[command(flatten)]
        format: Format,
    },
    /// Decide a held migration: the two nodes cannot talk and neither may decide alone
    #[command(
        after_help = "A migration is held when the source has offered the pod and then the \
        link was lost. Its processes are frozen: nothing is lost, nothing runs twice. Either wait \
        until the nodes can talk again, or look at BOTH nodes and decide.\n\n  --run-here   on the \
        node where the pod shall go on. You vouch that it does not run on the other node and never \
        will.\n  --run-there  on the other one: its copy is discarded. You vouch that the pod runs \
        there.\n\nGiving --run-here on both nodes runs the pod twice."
    )]
    #[command(group = clap::ArgGroup::new("decision").required(true))]
    Resolve {
        /// Its id or the beginning of it
        id: String,
        /// The pod goes on on this node
        #[arg(long = "run-here", group = "decision")]
        here: bool,
        /// The pod runs on the other node: discard this node's copy
        #[arg(long = "run-there", visible_alias = "discard", group = "decision")]
        there: bool,
    },
    /// Cancel a migration that has not been decided: the pod goes on on the source
    Cancel {
        /// Its id or the beginning of it
        id: String,
        /// Said in the logs and to the other node
        #[arg(long, default_value = "cancelled by an operator")]
        reason: String,
    },
    /// Give a parked pod up: its image is removed, and with it the state of its processes
    #[command(
        after_help = "A pod is parked when it was terminated with mycedrive.io/on-terminate: park, \
        or when its shim died while it was frozen. `mycedrive ps` lists those of this node."
    )]
    Drop {
        /// Its id or the beginning of it
        id: String,
    },
    /// Work with volumes that are stacks
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Write a pod of this node to a file: memory, root layers, volumes
    #[command(
        after_help = "The file is root's alone and holds all that was in the pod's memory. Open \
        connections are not in it. The pod stands still while its memory is written, then goes on; \
        with --hold it does not: delete it, and start a pod from the file where it shall go \
        on. An encrypted file is one of age's: `age-keygen` makes identities and their recipients, \
        and `age --decrypt` opens it.\n\nExamples:\n  mycedrive checkpoint shop/redis-0 --output \
        /srv/redis-0.myce\n  mycedrive checkpoint shop/redis-0 --output /srv/redis-0.myce \
        --recipient age1…"
    )]
    Checkpoint {
        /// NAMESPACE/POD, or the id of a task that `ctr` made
        #[arg(value_name = "POD|CONTAINER")]
        target: String,
        /// The file; nothing may be there yet
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// Keep the pod standing still when the file is complete, so that it can only go on from it
        #[arg(long)]
        hold: bool,
        /// Encrypt the file for who has the identity of this recipient (age1…); may be repeated
        #[arg(long, value_name = "AGE1…", conflicts_with = "passphrase_file")]
        recipient: Vec<String>,
        /// Encrypt the file with the first line of this one
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Check a file of `mycedrive checkpoint` and make it ready for a pod that starts here
    #[command(
        after_help = "A pod is restored from it that has the annotation mycedrive.io/restore-from \
        with the name that is printed; it may be waiting already. Its containers must have the same \
        names, images and security context as those in the file. A task:\n  ctr run -d --runtime \
        io.containerd.mycedrive.v2 --annotation mycedrive.io/restore-from=NAME IMAGE ID"
    )]
    Restore {
        /// The file
        file: PathBuf,
        /// Namespace of the pod [default: that of the pod in the file; none: a task of `ctr`]
        #[arg(long)]
        namespace: Option<String>,
        /// Name for the annotation [default: the file's]
        #[arg(long)]
        name: Option<String>,
        /// What opens it.
        #[command(flatten)]
        key: KeyFile,
    },
    /// Show what is in a file of `mycedrive checkpoint`; nothing of it is unpacked or run
    Inspect {
        /// The file
        file: PathBuf,
        /// What opens it.
        #[command(flatten)]
        key: KeyFile,
        /// How it is printed.
        #[command(flatten)]
        format: Format,
    },
    /// Check this node: programs, kernel, keys, containerd, sockets
    #[command(
        after_help = "Each line is ok, warn or fail; warn and fail say what to do. Exit code 1 \
        when a line is fail."
    )]
    Doctor(Format),
    /// Make the cluster's CA and the nodes' certificates
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Print the configuration file with every key, its default and what it does
    #[command(
        after_help = "Example:\n  mycedrive config > /etc/mycedrive/config.toml\n  mycedrive \
        config --check"
    )]
    Config(ConfigCommand),
}

/// `mycedrive volume`.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Copy a consistent layer of a volume: everything that changed since the pod's start
    #[command(
        after_help = "The pod stands still while its live upper is copied. `mycedrive ps` shows \
        which volumes are stacks.\n\nExample:\n  mycedrive volume checkpoint shop/redis-0 \
        redis:/data --out /root/redis-layer"
    )]
    Checkpoint {
        /// NAMESPACE/POD
        pod: String,
        /// CONTAINER:PATH, as the container sees it
        volume: String,
        /// Directory for the layer; is made
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// What opens an encrypted archive.
#[derive(Debug, clap::Args)]
pub struct KeyFile {
    /// The file is encrypted: identities that open it, as `age-keygen` writes them
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub identity: Option<PathBuf>,
    /// The file is encrypted with the first line of this one
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// `mycedrive config`.
#[derive(Debug, clap::Args)]
pub struct ConfigCommand {
    /// Check the configuration file instead of printing the defaults
    #[arg(long)]
    pub check: bool,
}

/// `mycedrive pki`.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a CA: ca.crt and ca.key. Keep the folder off the nodes
    Ca {
        /// Folder for ca.crt and ca.key
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Name of the CA
        #[arg(long, default_value = "MyceDrive CA")]
        name: String,
        /// Days of validity
        #[arg(long, default_value_t = 3650)]
        days: u32,
        /// Replace a CA that is there; certificates it issued are then worth nothing
        #[arg(long)]
        force: bool,
    },
    /// Issue a node's certificate: ca.crt, node.crt and node.key
    #[command(
        after_help = "A node is dialled by the name in mycedrive.io/migrate-from: give every \
        name and address that may stand there. A running daemon takes a renewed certificate \
        without a restart.\n\nExample:\n  mycedrive pki issue --ca /root/mycedrive-ca --name node-a \
        --address node-a.example --address 192.0.2.1 --out ./node-a"
    )]
    Issue {
        /// Folder of the CA
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The node's name
        #[arg(long)]
        name: String,
        /// A host name or IP address by which the node is dialled; give it for each
        #[arg(long, value_name = "HOST_OR_IP", num_args = 1..)]
        address: Vec<String>,
        /// Folder for ca.crt, node.crt and node.key
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Days of validity
        #[arg(long, default_value_t = 365)]
        days: u32,
        /// Replace a certificate that is there
        #[arg(long)]
        force: bool,
    },
    /// Show the certificates of a folder
    Show {
        /// The folder
        #[arg(default_value = "/etc/mycedrive/pki")]
        dir: PathBuf,
        /// How it is printed.
        #[command(flatten)]
        format: Format,
    },
}
