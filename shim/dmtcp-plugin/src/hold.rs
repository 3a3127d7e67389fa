//! Being held: the process does not go on until the helper says so.

use crate::helper::{self, Plan};
use crate::sys::{self, Errno};
use crate::transport::Transport;
use mycedrive_dmtcp_wire::{Reply, Request};
use std::vec::Vec;

/// Pause before the next try to reach the helper (milliseconds).
const PAUSE: u32 = 200;

/// Wait for the helper's word. `transport` is the connection so far, if it still works; a process
/// that was held stays held: without a helper it asks the next one, forever.
pub(crate) fn hold(path: &[u8], mut transport: Option<Transport>) {
    let mut told = false;
    loop {
        let connected = match transport.take() {
            Some(connected) => Ok(connected),
            None => rejoin(path),
        };
        let reply = connected.and_then(|t| t.ask_patiently(&Request::Held));
        if reply == Ok(Reply::Go) {
            return;
        }
        if !told {
            sys::note("mycedrive: held; waiting for the shim to decide\n");
            told = true;
        }
        sys::sleep(PAUSE);
    }
}

/// A new helper knows nothing of the sockets that are still in repair mode.
fn rejoin(path: &[u8]) -> sys::Result<Transport> {
    let transport = Transport::connect(path)?;
    let mut table = Vec::new();
    helper::list(&mut table)?;
    match helper::checkpoint(&transport, true, &mut table)? {
        Plan::Save(token) => token.map(|_| transport),
        Plan::Nothing => Err(Errno(libc::EPROTO)),
    }
}

/// Connect, as soon as there is a helper.
pub(crate) fn connect_patiently<T>(
    path: &[u8],
    work: impl Fn(&Transport) -> sys::Result<T>,
) -> (Transport, T) {
    let mut told = false;
    loop {
        let done = Transport::connect(path).and_then(|t| work(&t).map(|value| (t, value)));
        if let Ok(done) = done {
            return done;
        }
        if !told {
            sys::note("mycedrive: restarted; waiting for the shim to give the sockets back\n");
            told = true;
        }
        sys::sleep(PAUSE);
    }
}
