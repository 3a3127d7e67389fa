//! One connection, from another network, through checkpoint, kill and restart.

use crate::client::{Client, Ends, Exchange, echo, memcached, redis};
use crate::pod::{Folder, LONG, Pod, dmtcp, has, python};
use crate::pump::{Pump, read_all};
use crate::support::{Nets, OLD4, old};
use mycedrive_connection::repair::{Purpose, Saved};
use std::fs::File;
use std::io::Write;

/// Checkpoint, kill and restart in the same network, then in another one, then roll a third
/// checkpoint back.
fn keeps_its_client(program: &[&str], exchange: Exchange) {
    let Some(prefix) = dmtcp() else { return };
    let (nets, folder) = (Nets::new(), Folder::new());
    let pod = Pod::new(&nets.a, &folder, &prefix);
    let text = |name: &str| match name {
        "threads.py" => Some(include_str!("threads.py")),
        "asyncio.py" => Some(include_str!("asyncio.py")),
        _ => None,
    };
    let program: Vec<String> = program
        .iter()
        .map(|word| match text(word) {
            Some(text) => folder.write("program.py", text),
            None if *word == "python3" => python(),
            None => (*word).to_owned(),
        })
        .collect();
    pod.launch(&program.iter().map(String::as_str).collect::<Vec<_>>());
    let client = Client::start(&nets.client, &format!("{OLD4}:7000"), exchange);
    let ends = Ends::watch(&nets.client);

    // Here.
    pod.lock_handle().lock_destination().unwrap();
    pod.helper().begin(Purpose::Move).unwrap();
    let held = pod.checkpoint();
    assert_eq!(held.lost, []);
    let saved = pod.helper().saved();
    pod.helper().vanish();
    pod.kill();
    drop(pod);
    let pod = Pod::new(&nets.a, &folder, &prefix);
    pod.helper()
        .restore(Saved::decode(&saved).unwrap())
        .unwrap();
    pod.restart();
    assert_eq!(pod.helper().wait_restored(LONG).unwrap(), held.processes);
    pod.helper().release().unwrap();
    pod.lock_handle().unlock_destination().unwrap();
    client.goes_on();

    // There.
    let lock = pod.lock_handle();
    lock.prepare_source(&old()).unwrap();
    let from = File::from(lock.open_tun().unwrap());
    lock.lock_source(&old()).unwrap();
    pod.helper().begin(Purpose::Move).unwrap();
    let held = pod.checkpoint();
    assert_eq!(held.lost, []);
    let saved = pod.helper().saved();
    pod.helper().vanish();
    drop(pod);
    let pod = Pod::new(&nets.b, &folder, &prefix);
    let lock = pod.lock_handle();
    lock.lock_destination().unwrap();
    lock.adopt(&old(), None).unwrap();
    let to = File::from(lock.open_tun().unwrap());
    pod.helper()
        .restore(Saved::decode(&saved).unwrap())
        .unwrap();
    pod.restart();
    assert_eq!(pod.helper().wait_restored(LONG).unwrap(), held.processes);
    pod.helper().release().unwrap();
    lock.unlock_destination().unwrap();
    for packet in read_all(&from) {
        let _ = (&to).write_all(&packet);
    }
    let _pump = Pump::between(from.into(), to.into());
    client.goes_on();

    // Not at all: the freeze, and back.
    lock.lock_destination().unwrap();
    pod.helper().begin(Purpose::Move).unwrap();
    pod.checkpoint();
    pod.helper().release().unwrap();
    lock.unlock_destination().unwrap();
    client.goes_on();

    let (answers, longest) = client.finish();
    assert_eq!(ends.seen(), 0, "segments with FIN or RST");
    eprintln!("{program:?}: {answers} answers, all right; the slowest took {longest:?}");
}

#[test]
fn threads_keep_their_client() {
    keeps_its_client(&["python3", "threads.py"], echo);
}

#[test]
fn asyncio_keeps_its_client() {
    keeps_its_client(&["python3", "asyncio.py"], echo);
}

#[test]
fn redis_keeps_its_client() {
    if has("redis-server") {
        let options = "redis-server --port 7000 --protected-mode no --jemalloc-bg-thread no --save";
        let words: Vec<_> = options.split(' ').chain([""]).collect();
        keeps_its_client(&words, redis);
    }
}

#[test]
fn memcached_keeps_its_client() {
    if has("memcached") {
        keeps_its_client(
            &["memcached", "-u", "root", "-p", "7000", "-U", "0"],
            memcached,
        );
    }
}
