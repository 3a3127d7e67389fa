//! The helper: one per pod, in the shim.
//!
//! Threads of its own, one for each connected process; the calls here block and belong on a
//! thread that may.

mod book;
mod message;
mod server;
mod session;

use self::book::Book;
use super::restore::restore;
use super::saved::{Lost, Saved, Socket};
use crate::{Error, PodNet, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Decides by its pid whether a process may talk to the helper.
pub type Belongs = Box<dyn Fn(i32) -> bool + Send + Sync>;

/// Locks the pod's network.
pub type Lock = Box<dyn FnOnce() -> Result<()> + Send>;

/// What a [`Helper`] needs to know of its pod.
pub struct HelperOptions {
    /// The pod's network namespace.
    pub net: PodNet,
    /// Whether a process is one of the pod's, by its pid as this process sees it (`SO_PEERCRED`).
    /// Everybody else is turned away.
    pub belongs: Belongs,
}

/// What a checkpoint is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// A round before the freeze: no socket is read, nobody is held.
    #[default]
    Round,
    /// An image that can be restored without connections: addresses and listeners are read. The
    /// processes are held.
    Copy,
    /// The pod moves: everything is read, connections stay in repair mode. The processes are held.
    Move,
}

/// Processes that wait for the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Their number.
    pub processes: usize,
    /// What will not arrive as it was.
    pub lost: Vec<Lost>,
}

/// Saves, restores and holds for the plugin in a pod's processes. Ends when it is dropped;
/// processes that are held then stay held, and ask for another helper at the same paths.
pub struct Helper {
    shared: Arc<Shared>,
    listeners: Mutex<Vec<server::Listener>>,
}

struct Shared {
    options: HelperOptions,
    book: Mutex<Book>,
    /// The book has changed.
    changed: Condvar,
}

impl Shared {
    /// A session that panicked has left the book as it was between two of its steps.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Helper {
    /// A helper that nobody can reach yet. Raises this process's limit of open files as far as it
    /// may, since the pod's sockets are kept open during a checkpoint.
    pub fn new(options: HelperOptions) -> Helper {
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        {
            tracing::debug!(%error, "limit of open files not raised");
        }
        Helper {
            shared: Arc::new(Shared {
                options,
                book: Mutex::default(),
                changed: Condvar::new(),
            }),
            listeners: Mutex::default(),
        }
    }

    /// Listen at `path`, which a container's processes have to reach. A socket that is there is
    /// replaced.
    ///
    /// # Errors
    ///
    /// [`Error::Helper`].
    pub fn listen(&self, path: &Path) -> Result<()> {
        self.close(path);
        let listener = server::Listener::start(path, &self.shared)?;
        self.listeners().push(listener);
        Ok(())
    }

    /// Listen at `path` no longer: its container is gone.
    pub fn close(&self, path: &Path) {
        self.listeners().retain(|listener| listener.path() != path);
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<server::Listener>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Say what the next checkpoint is for, before it is asked for. Forgets the one before.
    ///
    /// # Errors
    ///
    /// [`Error::NotLocked`] for [`Purpose::Move`] while packets can still reach the pod.
    pub fn begin(&self, purpose: Purpose) -> Result<()> {
        if purpose == Purpose::Move && !self.shared.options.net.locked()? {
            return Err(Error::NotLocked);
        }
        self.shared.book().begin(purpose, None);
        Ok(())
    }

    /// The same for a network that is not locked yet. `lock` is called when the first process shows
    /// its sockets: DMTCP lets none come so far before the threads of all are suspended, so nobody
    /// sends anything under the lock. Where it fails no connection is touched, and
    /// [`Helper::wait_suspended`] says so.
    pub fn begin_then_lock(&self, purpose: Purpose, lock: Lock) {
        self.shared.book().begin(purpose, Some(lock));
    }

    /// Wait until `expected` processes are suspended and their sockets read. They stay there, and
    /// nothing is written, until [`Helper::write`]. DMTCP tells how many processes there are; it
    /// lets none come so far before the threads of all are suspended.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`] after `timeout`; that of the lock.
    pub fn wait_suspended(&self, expected: usize, timeout: Duration) -> Result<()> {
        self.wait(timeout, |book| {
            let suspended = book.suspended();
            let all = suspended >= expected;
            if all {
                Ok(())
            } else {
                Err((suspended, expected))
            }
        })?;
        match self.shared.book().not_locked() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Let the suspended processes write their images. May be said before they are suspended.
    pub fn write(&self) {
        self.shared.book().write();
        self.shared.changed.notify_all();
    }

    /// Wait until every process that takes part in the checkpoint is held. DMTCP lets no process
    /// come so far before all images are complete.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`] after `timeout`. Nothing has changed; wait again, or
    /// [release](Helper::release).
    pub fn wait_held(&self, timeout: Duration) -> Result<Held> {
        self.wait(timeout, |book| {
            let (held, all) = book.held();
            if held > 0 && held == all {
                Ok(Held {
                    processes: held,
                    lost: book.lost().to_vec(),
                })
            } else {
                Err((held, all))
            }
        })
    }

    /// What was read, as [`Saved::encode`] writes it; complete when [`Helper::wait_held`] returns.
    pub fn saved(&self) -> Vec<u8> {
        self.shared.book().saved().encode()
    }

    /// Make all sockets, for processes that will be restarted. The old addresses have to be there
    /// and the network locked, if there are connections among them.
    ///
    /// # Errors
    ///
    /// [`Error::NotLocked`], [`Error::Restore`] for the first socket that cannot be made; those
    /// made before are gone without a word to their peers.
    pub fn restore(&self, saved: Saved) -> Result<()> {
        let net = &self.shared.options.net;
        if saved.sockets.iter().any(Socket::is_connected) && !net.locked()? {
            return Err(Error::NotLocked);
        }
        // Listeners first: a connection in repair mode takes a port that is in use, a listener
        // does not.
        let mut order: Vec<_> = saved.numbered().collect();
        order.sort_by_key(|(_, socket)| socket.is_connected());
        let made = net.inside(|| {
            let made = order.iter().map(|(id, socket)| Ok((*id, restore(socket)?)));
            made.collect::<Result<Vec<_>>>()
        })?;
        self.shared.book().restored(saved.tokens, made);
        Ok(())
    }

    /// Wait until all processes that [`Helper::restore`] knows are restored and held.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`] after `timeout`.
    pub fn wait_restored(&self, timeout: Duration) -> Result<usize> {
        self.wait(timeout, |book| {
            let (held, all) = book.restarted();
            if held == all {
                Ok(held)
            } else {
                Err((held, all))
            }
        })
    }

    /// Let the processes run: repair mode ends, then everybody who is held goes on. Those that are
    /// suspended write their images nevertheless, and are not held after it.
    ///
    /// # Errors
    ///
    /// [`Error::Release`] if repair mode could not be ended; the processes run nevertheless.
    pub fn release(&self) -> Result<()> {
        let result = self.shared.book().release();
        self.shared.changed.notify_all();
        result
    }

    /// The processes will be killed. What this helper has of their sockets is closed; in repair
    /// mode that is silent. The processes stay held.
    pub fn vanish(&self) {
        self.shared.book().vanish();
    }

    fn wait<T>(
        &self,
        timeout: Duration,
        ready: impl Fn(&Book) -> std::result::Result<T, (usize, usize)>,
    ) -> Result<T> {
        let deadline = Instant::now() + timeout;
        let mut book = self.shared.book();
        loop {
            let (held, expected) = match ready(&book) {
                Ok(value) => return Ok(value),
                Err(counts) => counts,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let waited = timeout;
                return Err(Error::NotHeld {
                    waited,
                    held,
                    expected,
                });
            }
            let waited = self.shared.changed.wait_timeout(book, left);
            book = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
