//! Programs that DMTCP carries only when they are started a little differently.

use serde_json::Value;

/// Redis and its kin switch jemalloc's background thread on by themselves, past `MALLOC_CONF`.
/// The thread is made in a way that DMTCP does not see, and the program then dies at its start or
/// at a checkpoint. The option leaves the work to the other threads.
const REDIS: [&str; 2] = ["redis-server", "valkey-server"];
const BACKGROUND_THREAD: &str = "--jemalloc-bg-thread";

/// Adds to the command line of the program called `name`, or of one that the second word names:
/// the first is then a script that runs the rest, as those of official images do. What the pod says
/// itself stays.
pub(super) fn arguments(name: &str, args: &mut Vec<Value>) {
    let second = args.get(1).and_then(Value::as_str).unwrap_or_default();
    let second = second.rsplit('/').next().unwrap_or_default();
    let said = |arg: &Value| {
        arg.as_str()
            .is_some_and(|arg| arg.contains("jemalloc-bg-thread"))
    };
    if (REDIS.contains(&name) || REDIS.contains(&second)) && !args.iter().any(said) {
        args.extend([BACKGROUND_THREAD, "no"].map(Value::from));
    }
}

#[cfg(test)]
mod tests;
