//! What happens when the helper is not there.

use crate::client::{Client, Ends, echo};
use crate::moves::World;
use crate::pod::{LONG, Pod, python};
use crate::support::OLD4;
use mycedrive_connection::repair::{Purpose, Saved};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for a process to do what it must not do.
const WHILE: Duration = Duration::from_secs(2);

fn with_threads(world: &World) -> Pod<'_> {
    let pod = world.pod();
    let script = world.folder.write("program.py", include_str!("threads.py"));
    pod.launch(&[&python(), &script]);
    pod
}

fn connect(world: &World) -> TcpStream {
    let stream = world.nets.client.run(|| {
        let deadline = Instant::now() + LONG;
        loop {
            match TcpStream::connect((OLD4, 7000)) {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(100));
        }
    });
    stream.set_read_timeout(Some(WHILE)).unwrap();
    stream
}

fn answers(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<bool> {
    stream.write_all(text)?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer == text)
}

fn silent(stream: &mut TcpStream, text: &[u8]) {
    let heard = answers(stream, text).unwrap_err();
    assert!(
        matches!(heard.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{heard}"
    );
}

/// Held processes do not run when their helper has gone. The next one releases them.
#[test]
fn the_held_wait_for_the_next_helper() {
    let Some(world) = World::new() else { return };
    let mut pod = with_threads(&world);
    let client = Client::start(&world.nets.client, &format!("{OLD4}:7000"), echo);
    let mut other = connect(&world);
    let ends = Ends::watch(&world.nets.client);
    pod.lock_handle().lock_destination().unwrap();
    pod.helper().begin(Purpose::Move).unwrap();
    pod.checkpoint();
    pod.helper = None;
    // Open again, so that a process that ran would be heard.
    pod.lock_handle().unlock_destination().unwrap();
    silent(&mut other, b"anybody there?");
    pod.start_helper();
    assert_eq!(pod.helper().wait_held(LONG).unwrap().processes, 1);
    silent(&mut other, b"anybody?");
    pod.helper().release().unwrap();
    let mut rest = [0; 22];
    other.set_read_timeout(Some(LONG)).unwrap();
    other.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"anybody there?anybody?");
    client.goes_on();
    client.finish();
    assert_eq!(ends.seen(), 0);
}

/// A restarted process does not run before a helper has given its sockets back and said so.
#[test]
fn the_restarted_wait_for_a_helper() {
    let Some(world) = World::new() else { return };
    let pod = with_threads(&world);
    let client = Client::start(&world.nets.client, &format!("{OLD4}:7000"), echo);
    let ends = Ends::watch(&world.nets.client);
    pod.lock_handle().lock_destination().unwrap();
    pod.helper().begin(Purpose::Move).unwrap();
    pod.checkpoint();
    let saved = pod.helper().saved();
    drop(pod);
    let mut pod = world.pod();
    pod.helper = None;
    pod.restart();
    sleep(WHILE);
    pod.start_helper();
    sleep(WHILE);
    // It knows nothing of the process yet, and turns it away.
    pod.helper()
        .restore(Saved::decode(&saved).unwrap())
        .unwrap();
    assert_eq!(pod.helper().wait_restored(LONG).unwrap(), 1);
    // One that has got its sockets goes to the next helper, too: they are in repair mode.
    pod.helper = None;
    sleep(WHILE);
    pod.start_helper();
    assert_eq!(pod.helper().wait_held(LONG).unwrap().processes, 1);
    pod.helper().release().unwrap();
    pod.lock_handle().unlock_destination().unwrap();
    client.goes_on();
    client.finish();
    assert_eq!(ends.seen(), 0);
}

/// Nobody there at the checkpoint: the program goes on as if nothing had been; restarted from such
/// an image it has sockets without connections, as after a crash.
#[test]
fn without_a_helper_connections_end() {
    let Some(world) = World::new() else { return };
    let mut pod = with_threads(&world);
    let mut client = connect(&world);
    pod.helper = None;
    assert!(pod.command(&["--bcheckpoint"]).0);
    client.set_read_timeout(Some(LONG)).unwrap();
    assert!(answers(&mut client, b"goes on").unwrap());
    // As a machine that fails.
    pod.lock_handle().lock_destination().unwrap();
    drop(pod);
    let mut pod = world.pod();
    pod.helper = None;
    pod.restart();
    let deadline = Instant::now() + LONG;
    while pod.peers() > 0 || !pod.log().contains("Invalid argument") {
        // The program finds that its listener listens no more, and ends.
        assert!(Instant::now() < deadline, "{}", pod.log());
        sleep(Duration::from_millis(50));
    }
    pod.lock_handle().unlock_destination().unwrap();
    let heard = answers(&mut client, b"gone").unwrap_err();
    assert_eq!(heard.kind(), ErrorKind::ConnectionReset);
}

/// What a round before the freeze takes neither needs nor disturbs anything.
#[test]
fn rounds_pass_by() {
    let Some(world) = World::new() else { return };
    let pod = with_threads(&world);
    let client = Client::start(&world.nets.client, &format!("{OLD4}:7000"), echo);
    let ends = Ends::watch(&world.nets.client);
    for _ in 0..3 {
        pod.helper().begin(Purpose::Round).unwrap();
        assert!(pod.command(&["--bcheckpoint"]).0);
        client.goes_on();
    }
    let pod = world.here(pod);
    client.goes_on();
    client.finish();
    assert_eq!((ends.seen(), pod.peers()), (0, 1));
}
