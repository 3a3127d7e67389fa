//! The TUN devices of a pod: one by which its addresses leave, and one for each earlier pod whose
//! addresses it took.

use crate::{Error, Result, TABLE};

/// How many earlier pods' addresses a pod can carry at one time.
pub const ROUTES: usize = 8;

const NAMES: [&str; ROUTES + 1] = [
    "myce0", "myce1", "myce2", "myce3", "myce4", "myce5", "myce6", "myce7", "myce8",
];
const REPLY_TABLES: [&str; ROUTES] = [
    "mycedrive-udp1",
    "mycedrive-udp2",
    "mycedrive-udp3",
    "mycedrive-udp4",
    "mycedrive-udp5",
    "mycedrive-udp6",
    "mycedrive-udp7",
    "mycedrive-udp8",
];

/// The addresses of one earlier pod, among those that a pod took. The first route is that to the
/// pod which it took over from, the others lead to pods before that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route(usize);

impl Route {
    /// The route to the pod that this one took over from.
    pub const FIRST: Route = Route(0);

    /// The route of this number, counted from 0.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyRoutes`] from [`ROUTES`] on.
    pub fn new(number: usize) -> Result<Route> {
        if number < ROUTES {
            Ok(Route(number))
        } else {
            Err(Error::TooManyRoutes)
        }
    }

    /// Its number.
    pub fn number(self) -> usize {
        self.0
    }

    /// Its table of UDP clients.
    pub(crate) fn reply_table(self) -> &'static str {
        REPLY_TABLES[self.0]
    }
}

/// One of a pod's TUN devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tun {
    /// The source's: packets for the pod's addresses leave by it.
    Source,
    /// The destination's: it has the addresses of an earlier pod.
    Route(Route),
}

impl Tun {
    /// Its name in the pod's network namespace.
    pub fn name(self) -> &'static str {
        match self {
            Tun::Source => NAMES[0],
            Tun::Route(route) => NAMES[route.0 + 1],
        }
    }

    /// The routing table that leads into it. The source's is also the mark of packets for it.
    pub fn table(self) -> u32 {
        match self {
            Tun::Source => TABLE,
            Tun::Route(route) => TABLE + 1 + route.0 as u32,
        }
    }

    /// What its alias says that it is for.
    pub(crate) fn role(self) -> &'static str {
        match self {
            Tun::Source => "source",
            Tun::Route(_) => "destination",
        }
    }
}

/// Whether a device of this name is one of ours.
pub(crate) fn is_ours(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether a device of this name has an earlier pod's addresses.
pub(crate) fn is_route(name: &str) -> bool {
    NAMES[1..].contains(&name)
}
