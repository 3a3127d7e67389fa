//! What is in a container's own tmpfs comes back: archived by the shim where it is simple, else by the
//! node's `tar`.

use anyhow::{Result, ensure};
use mycedrive_integration::Node;

use super::{CTR, checkpoint, exec, restore, run};
use crate::expect;

/// Mount points: with few, simple entries, and with a hard link and a fifo.
const SIMPLE: &str = "/srv/simple";
const OTHER: &str = "/srv/other";
/// Fills them.
const FILL: &str = "cd /srv/simple; mkdir -m 1777 d; echo some > d/f; chmod 4750 d/f; chown 7:8 d/f; \
    ln -s ../nowhere d/l; mknod null c 1 3; touch -d @1000000001 d/f d; \
    cd ../other; echo one > a; ln a b; mkfifo p; touch -d @1000000002 a p";
/// What is there, without sizes of directories and times of their first entries.
const LIST: &str = "cd /srv; find simple/d simple/null other/a other/b other/p -exec stat -c \
    '%n %f %u:%g %h %t:%T %Y' {} +; readlink simple/d/l; cat simple/d/f other/b";

pub(super) fn comes_back(node: &Node, engine: &str) -> Result<()> {
    let mount = |at: &str| format!("--mount type=tmpfs,src=tmpfs,dst={at},options=mode=755");
    let options = format!("{} {}", mount(SIMPLE), mount(OTHER));
    // A dump interrupts a sleep.
    let program = "sh -c 'while true; do sleep 1; done'";
    run(node, engine, &options, "busybox", program)?;
    exec(node, &format!("sh -c \"{FILL}\""))?;
    let before = exec(node, &format!("sh -c \"{LIST}\""))?;
    ensure!(before.lines().count() == 10, "{before}");

    node.sh(&format!(
        "{CTR} mkdir -p /tmp/image /tmp/work; \
         ctr task checkpoint --image-path /tmp/image --work-path /tmp/work t"
    ))?;
    let said = node.sh("grep -h 'tar takes this one' /tmp/work/dump.log; rm -r /tmp/work")?;
    expect::equal("archives of the node's tar", said.lines().count(), 1)?;

    checkpoint(node)?;
    restore(node)?;
    let after = exec(node, &format!("sh -c \"{LIST}\""))?;
    expect::equal("what is there", after.as_str(), before.as_str())
}
