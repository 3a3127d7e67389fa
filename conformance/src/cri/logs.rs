//! Logs.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::kube::soon;
use super::{Facts, Kube, code};

/// Lines that the container writes; kubelet rotates its log twice meanwhile.
const LINES: usize = 600;

pub fn rotation(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("logs")?;
    let script = format!(
        "i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; [ $((i % 20)) = 0 ] && sleep 0.05; done; echo error >&2; printf unfinished; sleep 1000000"
    );
    let id = kube.script(&pod, "main", &script)?;
    let file = format!("{}/main/0.log", pod.pod.log_directory());
    for number in 1..=2 {
        let lines = format!("wc -l <{file}");
        soon("some lines", || {
            Ok(kube.node.sh(&lines)?.parse::<usize>()? > 50)
        })?;
        kube.node.sh(&format!("mv {file} {file}.{number}"))?;
        kube.cri.reopen_container_log(&id)?;
        ensure!(kube.node.path(&file).exists(), "no new log");
    }
    soon("the last line", || {
        Ok(kube.log(&pod, "main")?.contains("error"))
    })?;
    // What has no line's end comes at the end of the container.
    kube.cri.stop_container(&id, Duration::ZERO)?;
    soon("the unfinished line", || {
        Ok(kube.log(&pod, "main")?.contains("unfinished"))
    })?;
    // The shell's pattern gives 0.log, 0.log.1, 0.log.2; the order of lines is that of their numbers.
    let text = kube.log(&pod, "main")?;
    let mut numbers: Vec<usize> = text
        .lines()
        .filter_map(|line| line.strip_prefix("line ")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let expected: Vec<usize> = (1..=LINES).collect();
    ensure!(numbers == expected, "{} lines of {LINES}", numbers.len());
    let format = kube.node.sh(&format!(
        "cat {file}* | awk '{{print $2, $3}}' | sort | uniq -c | awk '{{print $1, $2, $3}}'"
    ))?;
    facts.add("streams and tags", format.replace('\n', ", "));
    facts.add(
        "reopen for an ended one",
        code(kube.cri.reopen_container_log(&id))?,
    );
    kube.remove(&pod)
}
