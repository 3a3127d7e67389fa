//! One connection to one program.

use crate::client::{Client, Ends, Exchange, echo, memcached, redis};
use crate::moves::{self, World};
use crate::pod::{has, python};
use crate::support::OLD4;

/// Killed and restarted in the same network, then in another one; then a freeze that is undone.
fn keeps_its_client(world: &World, program: &[&str], exchange: Exchange) {
    let pod = world.pod();
    pod.launch(program);
    let client = Client::start(&world.nets.client, &format!("{OLD4}:7000"), exchange);
    let ends = Ends::watch(&world.nets.client);
    let pod = world.here(pod);
    client.goes_on();
    let (pod, _pump) = world.there(pod);
    client.goes_on();
    moves::back(&pod);
    client.goes_on();
    let (answers, longest) = client.finish();
    assert_eq!(ends.seen(), 0, "segments with FIN or RST");
    let name = program[0];
    eprintln!("{name}: {answers} answers, all right; the slowest took {longest:?}");
}

fn script_keeps_its_client(text: &str) {
    let Some(world) = World::new() else { return };
    let script = world.folder.write("program.py", text);
    keeps_its_client(&world, &[&python(), &script], echo);
}

#[test]
fn threads_keep_their_client() {
    script_keeps_its_client(include_str!("threads.py"));
}

#[test]
fn asyncio_keeps_its_client() {
    script_keeps_its_client(include_str!("asyncio.py"));
}

#[test]
fn redis_keeps_its_client() {
    let Some(world) = World::new().filter(|_| has("redis-server")) else {
        return;
    };
    let options = "redis-server --port 7000 --protected-mode no --jemalloc-bg-thread no --save";
    let words: Vec<_> = options.split(' ').chain([""]).collect();
    keeps_its_client(&world, &words, redis);
}

#[test]
fn memcached_keeps_its_client() {
    let Some(world) = World::new().filter(|_| has("memcached")) else {
        return;
    };
    let words = ["memcached", "-u", "root", "-p", "7000", "-U", "0"];
    keeps_its_client(&world, &words, memcached);
}
