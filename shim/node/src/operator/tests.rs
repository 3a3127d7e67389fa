use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use super::client::ask;
use super::*;
use crate::app::{App, Shared};
use crate::config::Config;
use crate::error::Result;
use crate::peers::Peers;
use crate::progress::{Phase, Side};

struct Bench {
    app: Shared,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        state_dir: dir.path().join("state"),
        ..Config::default()
    }
    .completed(Some(dir.path().to_owned()), "node-a");
    let peers = Peers::new(config.pki_dir.clone(), Duration::from_secs(1));
    let socket = config.operator_socket();
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let app = App::new(config, peers);
    tokio::spawn(server::run(app.clone(), listener));
    Bench {
        app,
        socket,
        _dir: dir,
    }
}

async fn one(bench: &Bench, question: Ask) -> Result<Answer> {
    ask(&bench.socket, &question).await?.one().await
}

#[tokio::test]
async fn lists_and_shows() {
    let bench = bench();
    assert_eq!(one(&bench, Ask::Pods).await.unwrap(), Answer::Pods(vec![]));
    let id = "aaaa-1".to_owned();
    let handle = bench.app.migrations.enter(Progress::new(&id, Side::Source));
    handle.event("open", "from node-b");
    let Answer::Migrations(all) = one(&bench, Ask::Migrations).await.unwrap() else {
        panic!()
    };
    assert_eq!(all, [handle.snapshot()]);
    let Answer::Migration(shown) = one(&bench, Ask::Show { id: "aaaa".into() }).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(shown.events[0].name, "open");
    let unknown = one(&bench, Ask::Show { id: "none".into() })
        .await
        .unwrap_err();
    assert!(
        unknown.to_string().contains("no migration none"),
        "{unknown}"
    );
    bench
        .app
        .migrations
        .enter(Progress::new("aaaa-2", Side::Source));
    let two = one(&bench, Ask::Show { id: "aaaa".into() })
        .await
        .unwrap_err();
    assert!(two.to_string().contains("more than one"), "{two}");
}

#[tokio::test]
async fn watches_until_the_end() {
    let bench = bench();
    let id = "bbbb-1".to_owned();
    let handle = bench
        .app
        .migrations
        .enter(Progress::new(&id, Side::Destination));
    let mut answers = ask(&bench.socket, &Ask::Watch { id }).await.unwrap();
    let Some(Answer::Migration(first)) = answers.next().await.unwrap() else {
        panic!()
    };
    assert_eq!(first.phase, Phase::Opening);
    handle.phase(Phase::Copying, "");
    handle.phase(Phase::Completed, "done");
    let mut last = first;
    while let Some(Answer::Migration(now)) = answers.next().await.unwrap() {
        last = now;
    }
    assert_eq!(last.phase, Phase::Completed);
}

#[tokio::test]
async fn refuses_what_cannot_be() {
    let bench = bench();
    let id = "cccc-1".to_owned();
    let handle = bench.app.migrations.enter(Progress::new(&id, Side::Source));
    handle.phase(Phase::Completed, "");
    let reason = String::new();
    let cancel = Ask::Cancel { id, reason };
    let ended = one(&bench, cancel).await.unwrap_err();
    assert!(ended.to_string().contains("has ended"), "{ended}");
    let id = "dddd".to_owned();
    let decide = Decide::RunHere;
    assert!(one(&bench, Ask::Resolve { id, decide }).await.is_err());
}

#[tokio::test]
async fn survives_nonsense() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bench = bench();
    for nonsense in ["{\"ask\":\"everything\"}\n", "GET / HTTP/1.1\r\n", "\n"] {
        let mut stream = tokio::net::UnixStream::connect(&bench.socket)
            .await
            .unwrap();
        stream.write_all(nonsense.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("bad question"), "{answer}");
    }
    // A line without an end is cut off.
    let mut stream = tokio::net::UnixStream::connect(&bench.socket)
        .await
        .unwrap();
    let _ = stream.write_all(&vec![b'x'; 200_000]).await;
    assert!(one(&bench, Ask::Pods).await.is_ok());
}

#[tokio::test]
async fn a_missing_daemon_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let error = ask(&dir.path().join("operator.sock"), &Ask::Pods)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("mycedrive serve"), "{error}");
}
