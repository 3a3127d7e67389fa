//! Being held: the process does not go on until the helper says so.

use crate::helper::{self, Plan};
use crate::sys::{self, Errno};
use crate::transport::Transport;
use mycedrive_dmtcp_wire::{Reply, Request, Token};
use std::vec::Vec;

/// Pause before the next try to reach the helper (milliseconds).
const PAUSE: u32 = 200;

/// Wait for the helper's word. `transport` is the connection so far, if there is one. A process
/// that has to be held stays held: without a helper it asks the next one, forever.
pub(crate) fn hold(path: &[u8], mut transport: Option<Transport>, token: Option<Token>) {
    until_done("held; waiting for the shim to decide", || {
        let connected = match transport.take() {
            Some(connected) => Ok(connected),
            None => join(path, token),
        };
        match connected?.ask_patiently(&Request::Held)? {
            Reply::Go => Ok(()),
            _ => Err(Errno(libc::EPROTO)),
        }
    });
}

/// Do `work` until it succeeds; a person who wonders is told once.
pub(crate) fn until_done(what: &str, mut work: impl FnMut() -> sys::Result<()>) {
    let mut told = false;
    while work().is_err() {
        if !told {
            sys::note("mycedrive: ");
            sys::note(what);
            sys::note("\n");
            told = true;
        }
        sys::sleep(PAUSE);
    }
}

/// Tell a helper of a process that has to be held: by its token the one that has restored it; any
/// other one by the sockets that are still in repair mode.
fn join(path: &[u8], token: Option<Token>) -> sys::Result<Transport> {
    if let Some(token) = token {
        let transport = Transport::connect(path)?;
        if helper::introduce(&transport, token).is_ok() {
            return Ok(transport);
        }
    }
    let transport = Transport::connect(path)?;
    let mut table = Vec::new();
    helper::list(&mut table)?;
    match helper::checkpoint(&transport, true, &mut table)? {
        Plan::Save(token) => token.map(|_| transport),
        Plan::Nothing => Err(Errno(libc::EPROTO)),
    }
}
