//! What the processes of a moving pod talk through beside TCP: terminals, standard input, locks, fifos.

use anyhow::{Result, ensure};
use mycedrive_integration::{Attach, Container, Node, Pod, RunningPod, Testbed};

use crate::expect;
use crate::migration::{START_TIME, migrate};
use crate::world::{Scenario, need_daemon, three};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("streams::terminal", terminal),
        Scenario::new("streams::standard_input", standard_input),
        Scenario::new("streams::unread_standard_input", unread_standard_input),
        Scenario::new("streams::locks", locks),
        Scenario::new("streams::fifo_between_containers", fifo_between_containers),
        Scenario::new(
            "streams::socket_between_containers",
            socket_between_containers,
        ),
    ]
}

/// Waits for a text in a session.
fn said(session: &Attach, text: &str) -> Result<()> {
    let waited = expect::soon(&format!("`{text}`"), 10, || {
        Ok(session.output().contains(text))
    });
    waited.map_err(|error| error.context(format!("the session shows {:?}", session.output())))
}

/// Answers each line with the terminal's size. It has switched the echo off, and counts Ctrl-C.
const IN_TERMINAL: &str = "
import os, signal, sys, termios
mode = termios.tcgetattr(0); mode[3] &= ~termios.ECHO; termios.tcsetattr(0, termios.TCSANOW, mode)
signal.signal(signal.SIGINT, lambda *_: print('interrupted', flush=True))
print('ready', flush=True)
while line := sys.stdin.readline():
    size = os.get_terminal_size(0)
    print('got', line.strip().upper(), size.columns, size.lines, os.ttyname(0), flush=True)
print('end', flush=True)
";

fn terminal(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let container =
        Container::new("main", "python", &["python3", "-c", IN_TERMINAL]).terminal(true, true);
    let pod = Pod::new("shop", "terminal").with(container);
    let source = a.run_pod(&pod)?;
    expect::soon("the program", 10, || {
        Ok(a.container_log(&source, "main")?.contains("ready"))
    })?;
    let mut session = Attach::start(a, &source, "main", true)?;
    session.resize(91, 17)?;
    expect::soon("the size", 5, || {
        session.send("size\n")?;
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(session.output().contains("got SIZE 91 17 /dev/pts/0"))
    })?;
    drop(session);

    let destination = migrate(a, b, &pod)?;
    let mut session = Attach::start(b, &destination, "main", true)?;
    session.send("second\n")?;
    said(&session, "got SECOND 91 17 /dev/pts/0")?;
    ensure!(
        !session.output().contains("second"),
        "the terminal echoes again: {:?}",
        session.output()
    );
    session.send("\x03")?;
    said(&session, "interrupted")?;
    session.resize(120, 40)?;
    expect::soon("the new size", 5, || {
        session.send("third\n")?;
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(session.output().contains("got THIRD 120 40"))
    })?;
    // Ctrl-D ends the program's input.
    session.send("\x04")?;
    said(&session, "end")?;
    expect::equal("exit code", expect::exit_code(b, &destination, "main")?, 0)?;
    expect::contains(
        "log on B",
        &b.container_log(&destination, "main")?,
        &["got SECOND", "end"],
    )
}

const LINES: &str = "
import sys
print('ready', flush=True)
while line := sys.stdin.readline(): print('got', line.strip().upper(), flush=True)
";

/// Without a terminal: `stdin: true`.
fn standard_input(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let container =
        Container::new("main", "python", &["python3", "-c", LINES]).terminal(false, true);
    let pod = Pod::new("shop", "input").with(container);
    let source = a.run_pod(&pod)?;
    let mut session = Attach::start(a, &source, "main", false)?;
    session.send("first\n")?;
    said(&session, "got FIRST")?;
    drop(session);
    let destination = migrate(a, b, &pod)?;
    let mut session = Attach::start(b, &destination, "main", false)?;
    session.send("second\n")?;
    said(&session, "got SECOND")
}

/// Reads its input only when it is told to.
const LATE: &str = "
import os, sys, time
while not os.path.exists('/tmp/go'): time.sleep(0.05)
print('got', sys.stdin.readline().strip().upper(), flush=True)
time.sleep(1000)
";

/// Bytes that the program has not read would be lost: refused, and they are still there.
fn unread_standard_input(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    for tty in [false, true] {
        let container =
            Container::new("main", "python", &["python3", "-c", LATE]).terminal(tty, true);
        let pod = Pod::new("shop", if tty { "tty" } else { "pipe" }).with(container);
        let source = a.run_pod(&pod)?;
        let mut session = Attach::start(a, &source, "main", tty)?;
        session.send("early\n")?;
        std::thread::sleep(std::time::Duration::from_millis(500));
        let message = expect::failure("the arrival", b.run_pod(&pod.migrate_from(&a.address())))?;
        expect::contains("message", &message, &["standard input", "main", "6 bytes"])?;
        expect::exec(a, &source, "main", &["touch", "/tmp/go"])?;
        said(&session, "got EARLY")?;
        let destination = migrate(a, b, &pod)?;
        b.remove_pod(&destination)?;
        a.remove_pod(&source)?;
    }
    Ok(())
}

/// Holds a lock of each kind; a child waits for one of them.
const HOLDER: &str = "
import fcntl, os, sys, time
flock = open('/tmp/flock', 'w'); fcntl.flock(flock, fcntl.LOCK_EX)
posix = open('/tmp/posix', 'w+'); posix.write('x' * 100); posix.flush(); fcntl.lockf(posix, fcntl.LOCK_EX, 10, 20)
if os.fork() == 0:
    flock.close(); posix.close()
    waiter = open('/tmp/flock'); fcntl.flock(waiter, fcntl.LOCK_EX)
    open('/tmp/waiter', 'w').write('has it'); time.sleep(1000)
open('/tmp/ready', 'w')
while not os.path.exists('/tmp/release'): time.sleep(0.05)
flock.close(); posix.close(); time.sleep(1000)
";

/// Prints for each lock whether it can be taken.
const TRY: &str = "
import fcntl
def free(take, name, *range):
    try: take(open(name, 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB, *range); return 'free'
    except BlockingIOError: return 'held'
print(free(fcntl.flock, '/tmp/flock'), free(fcntl.lockf, '/tmp/posix', 1, 25), free(fcntl.lockf, '/tmp/posix', 1, 5))
";

fn locks(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = Pod::new("shop", "locks").container("main", "python", &["python3", "-c", HOLDER]);
    let source = a.run_pod(&pod)?;
    let there = |node: &Node, pod: &RunningPod, file: &str| -> Result<bool> {
        Ok(node.exec_in(pod, "main", &["test", "-e", file])?.code == 0)
    };
    let attempt =
        |node: &Node, pod: &RunningPod| expect::exec(node, pod, "main", &["python3", "-c", TRY]);
    expect::soon("the locks", 10, || there(a, &source, "/tmp/ready"))?;
    expect::equal(
        "locks on A",
        attempt(a, &source)?.as_str(),
        "held held free",
    )?;
    let destination = migrate(a, b, &pod)?;
    expect::equal(
        "locks on B",
        attempt(b, &destination)?.as_str(),
        "held held free",
    )?;
    ensure!(
        !there(b, &destination, "/tmp/waiter")?,
        "a lock was given away while it was held"
    );
    expect::exec(b, &destination, "main", &["touch", "/tmp/release"])?;
    expect::soon("the lock for the one that waits", 5, || {
        there(b, &destination, "/tmp/waiter")
    })?;
    // Now the waiter holds it.
    expect::equal(
        "locks at the end",
        attempt(b, &destination)?.as_str(),
        "held free free",
    )
}

/// Writes numbers into a fifo, in bursts, so that some are always on their way.
const WRITER: &str = "
import os, time
try: os.mkfifo('/dev/shm/fifo')
except FileExistsError: pass
out = open('/dev/shm/fifo', 'w')
n = 0
while True:
    for _ in range(20): out.write('%d\\n' % n); n += 1
    out.flush(); time.sleep(0.02)
";

/// Reads them slowly and checks that none is missing or double.
const READER: &str = "
import os, time
while not os.path.exists('/dev/shm/fifo'): time.sleep(0.05)
expected = 0
for line in open('/dev/shm/fifo', buffering=1):
    if int(line) != expected: open('/dev/shm/wrong', 'w').write('%s instead of %d' % (line.strip(), expected)); time.sleep(1000)
    expected += 1
    if expected % 20 == 0: open('/dev/shm/count', 'w').write(str(expected)); time.sleep(0.025)
";

fn fifo_between_containers(testbed: &Testbed) -> Result<()> {
    between(testbed, "fifo", WRITER, READER)
}

const UNIX_SERVER: &str = "
import os, socket
s = socket.socket(socket.AF_UNIX); s.bind('/dev/shm/socket'); s.listen()
while True:
    c, _ = s.accept()
    while d := c.recv(100): c.sendall(d)
";
const UNIX_CLIENT: &str = "
import os, socket, time
while not os.path.exists('/dev/shm/socket'): time.sleep(0.05)
time.sleep(0.2)
s = socket.socket(socket.AF_UNIX); s.connect('/dev/shm/socket')
n = 0
while True:
    s.sendall(b'%d' % n)
    if s.recv(100) != b'%d' % n: open('/dev/shm/wrong', 'w').write(str(n))
    n += 1
    open('/dev/shm/count', 'w').write(str(n)); time.sleep(0.02)
";

fn socket_between_containers(testbed: &Testbed) -> Result<()> {
    between(testbed, "socket", UNIX_SERVER, UNIX_CLIENT)
}

fn pair(name: &str, one: &str, two: &str) -> Pod {
    Pod::new("shop", name)
        .container("one", "python", &["python3", "-c", one])
        .container("two", "python", &["python3", "-c", two])
}

fn count(node: &Node, pod: &RunningPod) -> Result<u64> {
    Ok(expect::exec(node, pod, "one", &["cat", "/dev/shm/count"])?
        .parse()
        .unwrap_or(0))
}

fn goes_on(node: &Node, pod: &RunningPod, before: u64) -> Result<()> {
    expect::soon("more", 10, || Ok(count(node, pod)? > before + 50))?;
    let wrong = node.exec_in(pod, "one", &["cat", "/dev/shm/wrong"])?;
    ensure!(wrong.code != 0, "wrong: {}", wrong.stdout);
    Ok(())
}

/// Two containers that talk over something in the pod's shared memory go on talking.
fn between(testbed: &Testbed, name: &str, one: &str, two: &str) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = pair(name, one, two);
    let source = a.run_pod(&pod)?;
    expect::soon("the first words", 10, || {
        Ok(count(a, &source).unwrap_or(0) > 100)
    })?;
    let before = count(a, &source)?;
    let destination = b.run_pod_within(&pod.migrate_from(&a.address()), START_TIME)?;
    let after = count(b, &destination)?;
    ensure!(
        after >= before,
        "the count went back from {before} to {after}"
    );
    goes_on(b, &destination, after)
}
