//! Short pieces of work inside a network namespace, each on a thread of its own: a thread that
//! has entered a namespace is not used again.

use std::fs::File;
use std::io;
use std::thread;

use nix::sched::{CloneFlags, setns};

/// Runs `work` inside the namespace that `namespace` is an open file of.
pub(crate) fn within<T: Send + 'static>(
    namespace: &File,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let namespace = namespace.try_clone()?;
    let thread = thread::Builder::new()
        .name("netns".to_owned())
        .stack_size(128 << 10)
        .spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            work()
        })?;
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a helper thread ended")))
}
