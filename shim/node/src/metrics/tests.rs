use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::config::Config;
use crate::peers::Peers;

#[tokio::test]
async fn counts_and_serves() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        pki_dir: dir.path().join("pki"),
        state_dir: dir.path().join("state"),
        ..Config::default()
    }
    .completed(Some(dir.path().join("run")), "node-a");
    let peers = Peers::new(config.pki_dir.clone(), Duration::from_secs(1));
    let app = App::new(config, peers);

    let done = app.migrations.enter(Progress::new("a", Side::Destination));
    done.update(|one| one.bytes_sent = 1000);
    done.update(|one| one.bytes_sent = 1500);
    done.update(|one| {
        one.freeze_ms = Some(180);
        one.phase = Phase::Relaying;
    });
    done.phase(Phase::Completed, "");
    let back = app.migrations.enter(Progress::new("b", Side::Source));
    back.phase(Phase::RolledBack, "");
    app.migrations.enter(Progress::new("c", Side::Source));

    let listen = ([127, 0, 0, 1], 0).into();
    let address = serve(app.clone(), listen).await.unwrap();
    let text = get(address, "/metrics").await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    for line in [
        "mycedrive_migrations_total{side=\"destination\",outcome=\"completed\"} 1",
        "mycedrive_migrations_total{side=\"source\",outcome=\"rolled_back\"} 1",
        "mycedrive_migrations_active{side=\"source\",phase=\"opening\"} 1",
        "mycedrive_sent_bytes_total{side=\"destination\"} 1500",
        "mycedrive_freeze_seconds_bucket{le=\"0.1\"} 0",
        "mycedrive_freeze_seconds_bucket{le=\"0.2\"} 1",
        "mycedrive_freeze_seconds_sum 0.18",
        "mycedrive_shims 0",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    assert!(get(address, "/").await.contains("404"));
    app.stopping.cancel();
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}
