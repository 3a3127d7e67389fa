//! Programs that DMTCP carries only when they are started a little differently.

use serde_json::Value;

/// Redis and its kin switch jemalloc's background thread on by themselves, past `MALLOC_CONF`.
/// The thread is made in a way that DMTCP does not see, and the program then dies at its start or
/// at a checkpoint. The option leaves the work to the other threads.
const REDIS: [&str; 2] = ["redis-server", "valkey-server"];
const BACKGROUND_THREAD: &str = "--jemalloc-bg-thread";

/// Adds to the command line of the program called `name`. What the pod says itself stays.
pub(super) fn arguments(name: &str, args: &mut Vec<Value>) {
    let said = |arg: &Value| {
        arg.as_str()
            .is_some_and(|arg| arg.contains("jemalloc-bg-thread"))
    };
    if REDIS.contains(&name) && !args.iter().any(said) {
        args.extend([BACKGROUND_THREAD, "no"].map(Value::from));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(name: &str, args: &[&str]) -> Vec<Value> {
        let mut args = args.iter().map(|arg| json!(arg)).collect();
        arguments(name, &mut args);
        args
    }

    #[test]
    fn redis_is_told_once() {
        assert_eq!(
            with("redis-server", &["redis-server", "/etc/redis.conf"]),
            [
                "redis-server",
                "/etc/redis.conf",
                "--jemalloc-bg-thread",
                "no"
            ]
        );
        let own = ["redis-server", "--jemalloc-bg-thread", "yes"];
        assert_eq!(with("redis-server", &own), own);
        assert_eq!(with("python3", &["python3"]), ["python3"]);
    }
}
