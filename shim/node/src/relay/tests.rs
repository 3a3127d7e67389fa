use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use mycedrive_proto::migration::Packets;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::follow::carry;
use super::*;

/// A pump, and the "kernel's" end of its device.
fn pump() -> (Pump, UnixDatagram) {
    let (tun, kernel) = UnixDatagram::pair().unwrap();
    tun.set_nonblocking(true).unwrap();
    kernel
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    (Pump::over(OwnedFd::from(tun)).unwrap(), kernel)
}

fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0x45; 20];
    packet[16] = 10;
    packet.extend(number.to_be_bytes());
    packet
}

fn hello() -> Packets {
    Packets {
        migration_id: "m".to_owned(),
        ..Packets::default()
    }
}

fn received(kernel: &UnixDatagram) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let length = kernel.recv(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain");
}

const QUICK: Timing = Timing {
    retry: Duration::from_millis(5),
    longest: Duration::from_millis(20),
    check: Duration::from_millis(10),
    idle: Duration::from_millis(200),
};

#[tokio::test(flavor = "multi_thread")]
async fn holds_packets_and_carries_them_in_order_when_connected() {
    let (a, client) = pump();
    let (b, pod) = pump();
    for number in 0..20 {
        client.send(&packet(number)).unwrap();
    }
    until(|| a.held() == 20).await;
    let mut session = a.admit(0).unwrap();
    let to_b = session.outgoing().map(Ok);
    let mut other = b.connect(hello());
    let mut to_a = other.outgoing();
    assert_eq!(to_a.next().await.unwrap().migration_id, "m");
    tokio::spawn(async move { session.run(to_a.map(Ok)).await });
    tokio::spawn(async move { other.run(to_b).await });
    for number in 0..20 {
        assert_eq!(received(&pod), packet(number));
    }
    pod.send(&packet(7)).unwrap();
    assert_eq!(received(&client), packet(7));
    // Counted just after it was written.
    until(|| a.counts() == (20, 1, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_says_to_groups_stays_here() {
    let (a, kernel) = pump();
    let mut group = packet(1);
    group[16] = 224;
    let mut report = vec![0x60; 40];
    report[24] = 0xff;
    for noise in [group, report, vec![0x45; 10], vec![0; 40]] {
        kernel.send(&noise).unwrap();
    }
    kernel.send(&packet(2)).unwrap();
    until(|| a.held() > 0).await;
    assert_eq!(a.counts().0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_takes_over() {
    let (a, kernel) = pump();
    let first = a.admit(0).unwrap();
    let (_keep, waiting) = tokio::sync::mpsc::channel::<Result<Packets, Status>>(1);
    let run = tokio::spawn(async move { first.run(ReceiverStream::new(waiting)).await });
    let mut second = a.admit(0).unwrap();
    assert_eq!(run.await.unwrap(), End::Replaced);
    kernel.send(&packet(3)).unwrap();
    let got = second.outgoing().next().await.unwrap();
    assert_eq!(got.packets, [packet(3)]);
}

#[tokio::test]
async fn the_oldest_packets_go_when_there_is_no_room() {
    let queue = queue::Queue::default();
    for number in 0..20u8 {
        queue.push(vec![number; 1 << 20]);
    }
    assert_eq!(queue.count(), (16, 4));
    assert_eq!(queue.drain()[0][0], 4);
    queue.close();
    assert_eq!(queue.next().await, queue::Next::Closed);
}

/// A source that serves its pump, cutting every session but the last after one message.
struct Cutting {
    source: Pump,
    dialled: Mutex<u32>,
}

impl Cutting {
    fn dial(
        &self,
        mut outgoing: ReceiverStream<Packets>,
    ) -> impl Future<Output = Result<Incoming, Status>> + use<> {
        let source = self.source.clone();
        let count = {
            let mut dialled = self.dialled.lock().unwrap();
            *dialled += 1;
            *dialled
        };
        async move {
            if count == 1 {
                return Err(Status::unavailable("no route"));
            }
            let hello = outgoing.next().await.unwrap();
            assert_eq!(hello.migration_id, "m");
            let answer = serve(source.admit(0).unwrap(), "m", Box::pin(outgoing.map(Ok)));
            Ok(if count == 2 {
                answer.take(1).boxed()
            } else {
                answer.boxed()
            })
        }
    }
}

type Incoming = futures::stream::BoxStream<'static, Result<Packets, Status>>;

#[tokio::test(flavor = "multi_thread")]
async fn the_destination_dials_again_until_the_old_pod_is_gone() {
    let (a, client) = pump();
    let (b, pod) = pump();
    let source = Cutting {
        source: a.clone(),
        dialled: Mutex::new(0),
    };
    let route = tokio::spawn(async move {
        let dial = |out| source.dial(out);
        let ended = carry(&b, hello(), QUICK, dial, async || Ok(1), async || ()).await;
        (ended, *source.dialled.lock().unwrap())
    });
    client.send(&packet(1)).unwrap();
    assert_eq!(received(&pod), packet(1));
    // This one may be lost with the session that is cut; a client would repeat it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.send(&packet(2)).unwrap();
    assert_eq!(received(&pod), packet(2));
    pod.send(&packet(3)).unwrap();
    assert_eq!(received(&client), packet(3));
    a.close();
    assert_eq!(route.await.unwrap(), (Ended::Closed, 3));
}

/// The old pod goes: what the destination says at the end is out before the source is done.
#[tokio::test(flavor = "multi_thread")]
async fn the_destination_has_the_last_word() {
    let (a, client) = pump();
    let (b, pod) = pump();
    let source = Cutting {
        source: a.clone(),
        dialled: Mutex::new(5),
    };
    let route = tokio::spawn(async move {
        let reset = async || {
            pod.send(&packet(9)).unwrap();
        };
        let dial = |out| source.dial(out);
        carry(&b, hello(), QUICK, dial, async || Ok(1), reset).await
    });
    until(|| !a.inner.session.lock().unwrap().ended().is_cancelled()).await;
    a.farewell(Duration::from_secs(5)).await;
    client.set_nonblocking(true).unwrap();
    assert_eq!(received(&client), packet(9));
    assert_eq!(route.await.unwrap(), Ended::Closed);
}

/// Also one that never was.
#[tokio::test]
async fn a_node_that_is_not_connected_is_not_waited_for() {
    let (a, _kernel) = pump();
    let started = std::time::Instant::now();
    a.farewell(Duration::from_secs(5)).await;
    let (a, _kernel) = pump();
    drop(a.admit(0));
    a.farewell(Duration::from_secs(5)).await;
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_route_ends_when_no_connection_is_left_and_the_source_hears_it() {
    let (a, _client) = pump();
    let (b, _pod) = pump();
    let source = Cutting {
        source: a.clone(),
        dialled: Mutex::new(5),
    };
    let mut asked = 0;
    let started = std::time::Instant::now();
    let count = || {
        asked += 1;
        std::future::ready(Ok(usize::from(asked < 10)))
    };
    let ended = carry(
        &b,
        hello(),
        QUICK,
        |out| source.dial(out),
        count,
        async || (),
    )
    .await;
    assert_eq!(ended, Ended::Idle);
    assert!(started.elapsed() >= QUICK.idle);
    a.peer_closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_forgot_the_migration_ends_the_route() {
    let (b, _pod) = pump();
    let dial = async |_| Err::<Incoming, _>(Status::not_found("m"));
    let ended = carry(&b, hello(), QUICK, dial, async || Ok(1), async || ()).await;
    assert_eq!(ended, Ended::Closed);
}

#[tokio::test]
async fn the_node_to_which_the_pod_moved_last_has_the_packets() {
    let (a, _kernel) = pump();
    let first = a.admit(0).unwrap();
    let later = a.admit(2).unwrap();
    let (_keep, waiting) = tokio::sync::mpsc::channel::<Result<Packets, Status>>(1);
    assert_eq!(first.run(ReceiverStream::new(waiting)).await, End::Replaced);
    assert!(a.admit(0).is_none() && a.admit(1).is_none());
    let again = a.admit(2).unwrap();
    drop(later);
    assert!(a.admit(1).is_none(), "the new session was taken for ended");
    // It is cut: whoever comes is better than nobody, and gives way again.
    drop(again);
    let _earlier = a.admit(1).unwrap();
    assert!(a.admit(2).is_some());
}

#[test]
fn a_token_is_known_by_itself_only_and_not_shown() {
    let token = Token::random();
    assert!(token.matches(&token.reveal()) && !token.matches(&Token::random().reveal()));
    assert!(!token.matches("") && !Token::default().matches(""));
    assert_eq!(format!("{token:?}"), "Token(..)");
}
