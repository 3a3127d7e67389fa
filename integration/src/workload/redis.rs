//! Redis as the pod that moves.

use crate::{Error, Node, Pod, Result, RunningPod};

/// What one exec fills, so that none takes long.
const STEP: u64 = 32;
/// A value of 64 kB of hex digits, other ones for each key; it compresses to about a half.
const SCRIPT: &str = "math.randomseed(tonumber(ARGV[1])); local t = {}; \
    for i = 1, 8192 do t[i] = string.format('%08x', math.random(0, 2147483647)) end; \
    redis.call('SET', 'fill:' .. ARGV[1], table.concat(t)); return 1";

/// Redis that keeps everything in memory only.
pub fn pod(name: &str, handler: &str) -> Pod {
    Pod::new("shop", name)
        .handler(handler)
        .container("redis", "redis", &[])
}

/// Fills Redis with values that do not compress to nothing.
pub fn fill(node: &Node, pod: &RunningPod, megabytes: u64) -> Result<()> {
    for start in (0..megabytes).step_by(STEP as usize) {
        let (first, end) = (start * 16, megabytes.min(start + STEP) * 16);
        let commands = format!(
            "i={first}; while [ $i -lt {end} ]; do echo \"EVAL \\\"{SCRIPT}\\\" 0 $i\"; i=$((i+1)); done \
             | redis-cli"
        );
        let done = node.exec_in(pod, "redis", &["/bin/sh", "-c", &commands])?;
        if done.code != 0 || done.stdout.lines().any(|line| line != "1") {
            return Err(Error::Command {
                command: "redis-cli EVAL".to_owned(),
                status: format!("exit code {}", done.code),
                output: format!("{}{}", last(&done.stdout), done.stderr),
            });
        }
    }
    Ok(())
}

fn last(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}
