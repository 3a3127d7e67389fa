//! Checkpoints of a task that is paused, as `ctr` takes them.

use anyhow::{Result, ensure};
use mycedrive_integration::Node;

use super::{COUNT, CTR, exec, last_number, run, state};
use crate::expect;

/// Counts in memory and in a file, without a pause, and says when the two differ.
const COUNT_TWICE: &str = "import os
n = os.open(\"/n\", os.O_CREAT | os.O_RDWR)
i = 0
os.pwrite(n, b\"%012d\" % i, 0)
while True:
    j = int(os.pread(n, 12, 0))
    if j != i:
        with open(\"/verdict\", \"a\") as f: print(\"memory\", i, \"file\", j, file=f)
    i += 1
    os.pwrite(n, b\"%012d\" % i, 0)";

fn number(node: &Node) -> Result<u64> {
    Ok(exec(node, "cat /n")?.trim().parse()?)
}

pub(super) fn goes_on(node: &Node, engine: &str) -> Result<()> {
    run(node, engine, "", "python", &format!("python3 -c '{COUNT}'"))?;
    expect::soon("output", 10, || Ok(last_number(node)? > 2))?;
    // Without a checkpoint.
    node.sh(&format!("{CTR} ctr task pause t"))?;
    let stopped = last_number(node)?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    expect::equal("output of a paused task", last_number(node)?, stopped)?;
    node.sh(&format!("{CTR} ctr task resume t"))?;
    expect::soon("output after it", 5, || Ok(last_number(node)? > stopped))?;

    node.sh(&format!("{CTR} ctr task pause t"))?;
    node.sh(&format!(
        "{CTR} mkdir -p /tmp/image; ctr task checkpoint --image-path /tmp/image t"
    ))?;
    expect::equal("state", state(node)?.as_str(), "PAUSED")?;
    let stopped = last_number(node)?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    expect::equal("output of a paused task", last_number(node)?, stopped)?;
    if engine == "dmtcp" {
        let again = node.sh(&format!(
            "{CTR} mkdir /tmp/image/2; ctr task checkpoint --image-path /tmp/image/2 t 2>&1"
        ));
        let message = expect::failure("a second checkpoint in one pause", again)?;
        expect::contains("message", &message, &["since it was paused", "resume it"])?;
        expect::equal("state", state(node)?.as_str(), "PAUSED")?;
    }
    node.sh(&format!("{CTR} ctr task resume t"))?;
    expect::soon("output after it", 5, || Ok(last_number(node)? > stopped))
}

/// `ctr container checkpoint --task --rw`: memory and files are of one moment.
pub(super) fn of_one_moment(node: &Node, engine: &str) -> Result<()> {
    run(
        node,
        engine,
        "",
        "python",
        &format!("python3 -c '{COUNT_TWICE}'"),
    )?;
    expect::soon("a number", 10, || {
        Ok(number(node).is_ok_and(|number| number > 2))
    })?;
    node.sh(&format!(
        "{CTR} ctr c checkpoint --task --rw t localhost/checkpoint:1"
    ))?;
    let later = number(node)?;
    node.sh(&format!(
        "{CTR} ctr task rm -f t >/dev/null 2>&1 || true; ctr c rm t; \
         ctr c restore --live --rw t localhost/checkpoint:1 2>&1 </dev/null"
    ))?;
    expect::equal("state", state(node)?.as_str(), "RUNNING")?;
    let restored = number(node)?;
    expect::soon("it goes on", 10, || Ok(number(node)? > restored))?;
    let verdict = exec(node, "sh -c 'cat /verdict 2>/dev/null || true'")?;
    ensure!(
        verdict.is_empty(),
        "{verdict} ({later} after the checkpoint)"
    );
    Ok(())
}
