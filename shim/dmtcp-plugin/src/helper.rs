//! Conversations with the helper.

use crate::dmtcp;
use crate::place::Arrived;
use crate::sockets::{self, Entry};
use crate::sys::{self, Errno};
use crate::transport::Transport;
use core::ffi::c_int;
use mycedrive_dmtcp_wire::{BATCH, Ids, Reply, Request, Token};
use std::vec::Vec;

/// What the helper said to a checkpoint.
pub(crate) enum Plan {
    /// Nothing is saved, nobody is held.
    Nothing,
    /// The sockets are saved. Whatever happens from now on, the helper may have put them into
    /// repair mode: the process must be held until a helper lets it go.
    Save(sys::Result<Token>),
}

/// Show all sockets of this process; the numbers go into `table`.
pub(crate) fn checkpoint(
    transport: &Transport,
    held: bool,
    table: &mut [Entry],
) -> sys::Result<Plan> {
    match transport.ask(&Request::Checkpoint { held }, &[])? {
        Reply::Nothing => Ok(Plan::Nothing),
        Reply::Save => Ok(Plan::Save(show(transport, table))),
        _ => Err(Errno(libc::EPROTO)),
    }
}

fn show(transport: &Transport, table: &mut [Entry]) -> sys::Result<Token> {
    for batch in table.chunks_mut(BATCH) {
        let mut fds = [-1; BATCH];
        for (fd, entry) in fds.iter_mut().zip(&*batch) {
            *fd = entry.fd;
        }
        let fds = fds.get(..batch.len()).unwrap_or_default();
        let count = batch.len() as u16;
        match transport.ask(&Request::Sockets { count }, fds)? {
            Reply::Known(ids) if ids.as_slice().len() == batch.len() => {
                for (entry, id) in batch.iter_mut().zip(ids.as_slice()) {
                    entry.id = *id;
                }
            }
            _ => return Err(Errno(libc::EPROTO)),
        }
    }
    // Answered when the image may be written: the shim may have something to do before.
    match transport.ask_patiently(&Request::Saved)? {
        Reply::Token(token) => Ok(token),
        _ => Err(Errno(libc::EPROTO)),
    }
}

/// Say which process this is.
pub(crate) fn introduce(transport: &Transport, token: Token) -> sys::Result<()> {
    match transport.ask(&Request::Restart { token }, &[])? {
        Reply::Welcome => Ok(()),
        _ => Err(Errno(libc::EPERM)),
    }
}

/// Get the sockets back and put them in their places. What the helper does not have becomes a
/// socket without a connection.
pub(crate) fn restart(mut transport: Transport, token: Token, table: &[Entry]) -> sys::Result<()> {
    introduce(&transport, token)?;
    let mut ids: Vec<_> = table.iter().map(|e| e.id).filter(|id| *id != 0).collect();
    ids.sort_unstable();
    ids.dedup();
    for batch in ids.chunks(BATCH) {
        let mut wanted = Ids::new();
        for id in batch {
            let _ = wanted.push(*id);
        }
        let (reply, mut descriptors) = transport.ask_for(&Request::Want(wanted), &[])?;
        let count = descriptors.count;
        let mut arrived = Arrived(descriptors.fds.get_mut(..count).unwrap_or_default());
        let Reply::Have(have) = reply else {
            return Err(Errno(libc::EPROTO));
        };
        if have.as_slice().len() != count {
            return Err(Errno(libc::EPROTO));
        }
        for entry in table.iter().filter(|e| batch.contains(&e.id)) {
            transport.make_room(entry.fd)?;
            match have.as_slice().iter().position(|id| *id == entry.id) {
                Some(index) => arrived.place(index, entry.fd, entry.close_on_exec)?,
                None => lose(entry, table)?,
            }
        }
    }
    drop(transport);
    lose_uncarried(table)
}

/// Sockets without connections where the image has sockets that nobody carries.
pub(crate) fn lose_uncarried(table: &[Entry]) -> sys::Result<()> {
    table
        .iter()
        .filter(|e| e.id == 0)
        .try_for_each(|entry| lose(entry, table))
}

/// One socket for all duplicates: the first of them makes it.
fn lose(entry: &Entry, table: &[Entry]) -> sys::Result<()> {
    let first = table.iter().find(|e| e.cookie == entry.cookie);
    let flags = if entry.close_on_exec {
        libc::O_CLOEXEC
    } else {
        0
    };
    match first {
        Some(first) if first.fd != entry.fd => sys::dup3(first.fd, entry.fd, flags),
        _ => {
            let mut fresh = [entry.fresh()?.into_raw()];
            Arrived(&mut fresh).place(0, entry.fd, entry.close_on_exec)
        }
    }
}

/// All inet sockets of this process but DMTCP's own.
pub(crate) fn list(into: &mut Vec<Entry>) -> sys::Result<()> {
    sockets::list(|fd: c_int| dmtcp::is_protected(fd), into)
}
