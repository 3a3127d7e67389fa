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
    assert_eq!(
        with("dash", &["docker-entrypoint.sh", "redis-server"]).len(),
        4
    );
    assert_eq!(with("dash", &["sh", "-c", "redis-server"]).len(), 3);
    let own = ["redis-server", "--jemalloc-bg-thread", "yes"];
    assert_eq!(with("redis-server", &own), own);
    assert_eq!(with("python3", &["python3"]), ["python3"]);
}
