//! As much HTTP as a scrape needs: one request, one answer, the connection ends.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::app::Shared;
use crate::error::{Error, Result};

const LIMIT: Duration = Duration::from_secs(5);
const LONGEST: usize = 8 * 1024;

/// Listens, and answers `GET /metrics` until the daemon stops. Returns where it listens.
pub async fn serve(app: Shared, listen: SocketAddr) -> Result<SocketAddr> {
    let failed = |error: std::io::Error| {
        Error::Failed(format!(
            "metrics.listen: cannot listen on {listen}: {error}"
        ))
    };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = app.stopping.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let app = app.clone();
                        tokio::spawn(async move {
                            let _ = timeout(LIMIT, answer(&app, stream)).await;
                        });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                },
            }
        }
    });
    Ok(address)
}

async fn answer(app: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !ends(&request) && request.len() < LONGEST {
        match stream.read(&mut piece).await? {
            0 => break,
            count => request.extend_from_slice(&piece[..count]),
        }
    }
    let (status, body) = if is_scrape(&request) {
        ("200 OK", super::render(app))
    } else {
        ("404 Not Found", "GET /metrics\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn ends(request: &[u8]) -> bool {
    request.windows(4).any(|four| four == b"\r\n\r\n")
}

fn is_scrape(request: &[u8]) -> bool {
    let line = request.split(|byte| *byte == b'\r').next();
    let mut words = line.unwrap_or_default().split(|byte| *byte == b' ');
    words.next() == Some(b"GET") && words.next() == Some(b"/metrics")
}
