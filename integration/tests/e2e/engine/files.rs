//! `ctr container checkpoint --task --rw`: memory and files are of one moment.

use anyhow::{Result, ensure};
use mycedrive_integration::Node;

use super::{CTR, exec, run, state};
use crate::expect;

/// Counts in memory and in a file, without a pause, and says when the two differ.
const COUNT: &str = "import os
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

pub(super) fn of_one_moment(node: &Node, engine: &str) -> Result<()> {
    run(node, engine, "", "python", &format!("python3 -c '{COUNT}'"))?;
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
