//! The programs of the table.

use mycedrive_integration::Container;
use mycedrive_integration::workload::protocol::Protocol;

use super::CONTAINER;

const ASYNCIO: &str = include_str!("../../../image/programs/counter_asyncio.py");
const THREADS: &str = include_str!("../../../image/programs/counter_threads.py");
/// As the image has it, with jemalloc's thread, which Redis makes if it is not told.
const BACKGROUND: &[&str] = &[
    "/usr/bin/redis-server",
    "--protected-mode",
    "no",
    "--save",
    "",
    "--dir",
    "/data",
    "--jemalloc-bg-thread",
    "yes",
];
/// The images' shell is static. This one is the node's, a loop with a pipe beside the program that
/// serves: five processes, of which one ends and begins every few seconds.
const TREE: &str = r#"import os, sys
script = """
/usr/bin/python3 -c "$0" &
while :; do /usr/bin/python3 -c "import time; time.sleep(5)"; echo; done | while read line; do :; done &
wait
"""
os.execv("/dash", ["dash", "-c", script, sys.argv[1]])"#;

/// A program and how to reach it.
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) container: Container,
    pub(super) protocol: Protocol,
    /// Prints its version in the first line.
    pub(super) version: &'static [&'static str],
}

/// All of them.
pub(super) fn all() -> Vec<Program> {
    let program = |name, image: &str, args: &[&str], protocol, version| Program {
        name,
        container: Container::new(CONTAINER, image, args),
        protocol,
        version,
    };
    let counter = Protocol::Redis;
    let python = &["python3", "--version"][..];
    vec![
        program(
            "redis",
            "redis",
            &[],
            counter,
            &["redis-server", "--version"],
        ),
        program(
            "redis, user 999",
            "redis-user",
            &[],
            counter,
            &["redis-server", "--version"],
        ),
        program(
            "redis, background thread",
            "redis",
            BACKGROUND,
            counter,
            &["redis-server", "--version"],
        ),
        program(
            "python, asyncio",
            "python",
            &["python3", "-c", ASYNCIO],
            counter,
            python,
        ),
        program(
            "python, threads",
            "python",
            &["python3", "-c", THREADS],
            counter,
            python,
        ),
        Program {
            name: "shell tree (dash, python)",
            container: Container::new(CONTAINER, "python", &["python3", "-c", TREE, ASYNCIO])
                .mount("/usr/bin/dash", "/dash", true),
            protocol: counter,
            version: &[],
        },
        program(
            "mosquitto",
            "mosquitto",
            &[],
            Protocol::Mqtt,
            &["sh", "-c", "mosquitto -h"],
        ),
        program(
            "memcached",
            "memcached",
            &[],
            Protocol::Memcached,
            &["memcached", "--version"],
        ),
        program(
            "nginx, 2 workers",
            "nginx",
            &[],
            Protocol::Http,
            &["sh", "-c", "nginx -v 2>&1"],
        ),
        program(
            "postgres",
            "postgres",
            &[],
            Protocol::Postgres,
            &["postgres", "--version"],
        ),
        program("node", "node", &[], counter, &["node", "--version"]),
        Program {
            name: "node, seccomp RuntimeDefault",
            container: Container::new(CONTAINER, "node", &[]).default_seccomp(),
            protocol: counter,
            version: &["node", "--version"],
        },
        program(
            "java",
            "java",
            &[],
            counter,
            &["sh", "-c", "java -version 2>&1"],
        ),
        program("Go, net.Listen", "go", &[], counter, &[]),
        program("static, musl, threads", "musl", &[], counter, &[]),
    ]
}
