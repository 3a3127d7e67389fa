//! What `kubectl exec -it`, `attach` and `port-forward` need.

use anyhow::{Result, ensure};
use mycedrive_integration::Container;

use super::kube::soon;
use super::stream::{RESIZE, STATUS, STDERR, STDIN, STDOUT, Stream};
use super::{Facts, Kube, code_or_ok};

/// A Kubernetes Status in few words: without the text that names ids.
fn status(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let field = |path: &str| {
        value
            .pointer(path)
            .and_then(|v| v.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    // Only an exit code is without ids in it.
    let code = match field("/reason").as_str() {
        "NonZeroExitCode" => field("/details/causes/0/message"),
        _ => String::new(),
    };
    [field("/status"), field("/reason"), code]
        .join(" ")
        .trim()
        .to_owned()
}

pub fn exec(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("streams")?;
    let id = kube.script(&pod, "main", "sleep 1000000")?;
    let script = "read word; echo got $word; echo wrong >&2; exit 4";
    let url = kube.cri.exec(&id, &["sh", "-c", script], false, true)?;
    let mut stream = Stream::open(&kube.node, &url)?;
    stream.send(STDIN, b"something\n")?;
    stream.expect(STDOUT, "got something")?;
    stream.end()?;
    facts.add("stderr", stream.text(STDERR).trim());
    facts.add("status", status(&stream.text(STATUS)));

    let url = kube.cri.exec(&id, &["sh"], true, true)?;
    let mut stream = Stream::open(&kube.node, &url)?;
    stream.send(RESIZE, br#"{"Width":91,"Height":37}"#)?;
    // The size arrives beside the input.
    soon("the size", || {
        stream.send(STDIN, b"stty size\n")?;
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok(stream.expect(STDOUT, "37 91").is_ok())
    })?;
    stream.send(STDIN, b"tty; exit 6\n")?;
    stream.expect(STDOUT, "/dev/pts/")?;
    stream.end()?;
    facts.add("with a terminal", status(&stream.text(STATUS)));

    let url = kube.cri.exec(&id, &["/no/such/program"], false, false)?;
    let mut stream = Stream::open(&kube.node, &url)?;
    stream.end()?;
    facts.add("missing program", status(&stream.text(STATUS)));
    // A client that goes away.
    let url = kube.cri.exec(
        &id,
        &["sh", "-c", "echo begun; cat; sleep 1000000"],
        false,
        true,
    )?;
    let mut stream = Stream::open(&kube.node, &url)?;
    stream.expect(STDOUT, "begun")?;
    drop(stream);
    ensure!(
        kube.exec(&id, &["echo", "here"])? == "here",
        "no exec after that"
    );
    // The same with a terminal: its end is not the program's.
    let script = ["sh", "-c", "echo begun; exec sleep 7654321"];
    let url = kube.cri.exec(&id, &script, true, true)?;
    let mut stream = Stream::open(&kube.node, &url)?;
    stream.expect(STDOUT, "begun")?;
    drop(stream);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let count = "ps -o args | grep -c '[s]leep 7654321' || true";
    facts.add(
        "programs of a terminal's client that went away",
        kube.exec(&id, &["sh", "-c", count])?,
    );
    kube.cri.stop_container(&id, std::time::Duration::ZERO)?;
    facts.add(
        "in an ended one",
        code_or_ok(kube.cri.exec(&id, &["true"], false, false))?,
    );
    kube.remove(&pod)
}

pub fn attach(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("attach")?;
    let script = "echo begun; while read word; do echo got $word; echo e-$word >&2; done; echo input ended; sleep 1000000";
    let container = Container::new("main", "busybox", &["sh", "-c", script]).terminal(false, true);
    let id = kube.start(&pod, &container, 0)?;
    for round in ["one", "two"] {
        let url = kube.cri.attach(&id, false, true)?;
        let mut stream = Stream::open(&kube.node, &url)?;
        stream.send(STDIN, format!("{round}\n").as_bytes())?;
        stream.expect(STDOUT, &format!("got {round}"))?;
        stream.expect(STDERR, &format!("e-{round}"))?;
    }
    soon("the log", || {
        Ok(kube.log(&pod, "main")?.contains("got two"))
    })?;
    ensure!(kube.running(&id)?, "it ended with its client");
    // With a terminal; the end of the container ends the attachment.
    let container = Container::new("tty", "busybox", &["sh"]).terminal(true, true);
    let tty = kube.start(&pod, &container, 0)?;
    let url = kube.cri.attach(&tty, true, true)?;
    let mut stream = Stream::open(&kube.node, &url)?;
    stream.send(STDIN, b"echo a$((1+1))b\n")?;
    stream.expect(STDOUT, "a2b")?;
    stream.send(STDIN, b"exit 8\n")?;
    stream.end()?;
    facts.add("terminal", kube.ended(&tty)?.exit_code);
    kube.cri.stop_container(&id, std::time::Duration::ZERO)?;
    facts.add(
        "to an ended one",
        code_or_ok(kube.cri.attach(&id, false, true))?,
    );
    kube.remove(&pod)
}

pub fn port_forward(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("forward")?;
    let script = "while :; do nc -l -p 4000 -e sh -c 'read word; echo hello $word'; done";
    let id = kube.script(&pod, "main", script)?;
    for round in ["one", "two"] {
        // It takes one connection, and is started again.
        soon("the listener", || {
            Ok(kube.exec(&id, &["sh", "-c", "netstat -ltn | grep -c :4000 || true"])? == "1")
        })?;
        let url = kube.cri.port_forward(&pod.id, 4000)?;
        let mut stream = Stream::open(&kube.node, &format!("{url}?port=4000"))?;
        // Channel 0 carries data, 1 errors; both begin with the port.
        stream.send(0, format!("{round}\n").as_bytes())?;
        stream.expect(0, &format!("hello {round}"))?;
        facts.add(
            format!("port of {round}"),
            format!("{:?}", &stream.bytes(0)[..2]),
        );
    }
    let url = kube.cri.port_forward(&pod.id, 4001)?;
    let mut stream = Stream::open(&kube.node, &format!("{url}?port=4001"))?;
    stream.expect(1, "4001")?;
    facts.add("nobody listens", stream.text(1).contains("refused"));
    kube.remove(&pod)
}
