//! Which images there are.

use crate::rootfs::Tree;

/// Which images nodes get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Images {
    /// None at all: no pod can run.
    None,
    /// pause, busybox, python, mosquitto and redis: small, imported in a second.
    #[default]
    Core,
    /// Also memcached, nginx, postgres, node, java, go and musl: half a gigabyte.
    All,
}

impl Images {
    /// The sets that it stands for.
    pub(crate) fn sets(self) -> &'static [Set] {
        match self {
            Self::None => &[],
            Self::Core => &SETS[..1],
            Self::All => &SETS,
        }
    }
}

/// Images that are made from one tree and imported together.
#[derive(Debug)]
pub(crate) struct Set {
    pub(super) tree: Tree,
    pub(super) images: &'static [Image],
}

/// An image and what it runs by default.
#[derive(Debug)]
pub(super) struct Image {
    pub name: &'static str,
    pub command: &'static [&'static str],
    /// Name in /etc/passwd; empty: root.
    pub user: &'static str,
    /// Without the layer of packages.
    pub alone: bool,
}

impl Image {
    const fn new(name: &'static str, command: &'static [&'static str]) -> Self {
        Self {
            name,
            command,
            user: "",
            alone: false,
        }
    }

    const fn user(mut self, user: &'static str) -> Self {
        self.user = user;
        self
    }

    const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }
}

const SETS: [Set; 2] = [
    Set {
        tree: Tree::Core,
        images: &[
            Image::new("pause", &["/bin/busybox", "sleep", "1000000000"]).alone(),
            Image::new("busybox", &["/bin/sleep", "1000000000"]),
            Image::new("python", &["/usr/bin/python3"]),
            Image::new(
                "mosquitto",
                &["/usr/sbin/mosquitto", "-c", "/etc/mosquitto.conf"],
            ),
            Image::new("redis", REDIS),
            Image::new("redis-user", REDIS).user("redis"),
        ],
    },
    Set {
        tree: Tree::Programs,
        images: &[
            Image::new("memcached", &["/usr/bin/memcached"]).user("nobody"),
            Image::new("nginx", &["/usr/sbin/nginx", "-c", "/etc/nginx-image.conf"]),
            Image::new("postgres", &["/bin/sh", "-euc", POSTGRES]).user("postgres"),
            Image::new("node", &["/usr/bin/node", "/srv/counter.js"]),
            Image::new("java", &["/usr/bin/java", "-cp", "/srv", "Counter"]),
            Image::new("go", &["/counter-go"]).alone(),
            Image::new("musl", &["/counter-musl"]).alone(),
        ],
    },
];

const REDIS: &[&str] = &[
    "/usr/bin/redis-server",
    "--protected-mode",
    "no",
    "--save",
    "",
    "--dir",
    "/data",
];

/// A new database, without passwords.
const POSTGRES: &str = "
[ -e /data/PG_VERSION ] || /usr/bin/initdb --pgdata=/data --locale=C --auth=trust >/dev/null
exec /usr/bin/postgres -D /data -c listen_addresses='*' -c unix_socket_directories=/tmp \\
    -c fsync=off -c hba_file=/etc/pg_hba.conf
";
