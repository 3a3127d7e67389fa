//! The client: `INCR` over one connection until it is told to stop.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::client::now_ns;
use super::report::{Answer, Report};

/// An answer that takes longer than this is an error, not a gap.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// An address that is gone answers nothing; the service may be at another one meanwhile.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// Runs until `stop` exists, at most `limit`. One request at a time, `pace` apart.
///
/// A connection that breaks is an error of the report; the client then connects again, as a
/// real one would, so that the report also says how long the service was away. `service` is a
/// file with the address, `IP:PORT`, read at each connect: what a name in DNS is to a real one.
///
/// # Errors
/// Only when the first connection cannot be made; everything later is in the report.
pub fn run(
    service: &Path,
    counter: &str,
    pace: Duration,
    limit: Duration,
    stop: &Path,
) -> io::Result<Report> {
    let mut report = Report::default();
    let end = Instant::now() + limit;
    let mut connection = connect(service)?;
    let mut last = None;
    while Instant::now() < end && !stop.exists() {
        match connection.increment(counter) {
            Ok(value) => {
                if let Some(last) = last {
                    report.count_step(last, value);
                }
                last = Some(value);
                report.answers.push(Answer {
                    at_ns: now_ns(),
                    value,
                });
            }
            Err(error) => {
                report.errors += 1;
                report.first_error.get_or_insert_with(|| error.to_string());
                match reconnect(service, end, stop) {
                    Some(fresh) => connection = fresh,
                    None => break,
                }
                report.connections += 1;
            }
        }
        std::thread::sleep(pace);
    }
    report.connections += 1;
    Ok(report)
}

struct Connection {
    stream: BufReader<TcpStream>,
}

fn connect(service: &Path) -> io::Result<Connection> {
    let address: SocketAddr = fs::read_to_string(service)?
        .trim()
        .parse()
        .map_err(io::Error::other)?;
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(Connection {
        stream: BufReader::new(stream),
    })
}

fn reconnect(service: &Path, end: Instant, stop: &Path) -> Option<Connection> {
    while Instant::now() < end && !stop.exists() {
        if let Ok(connection) = connect(service) {
            return Some(connection);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

impl Connection {
    /// One `INCR` (RESP2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>).
    fn increment(&mut self, counter: &str) -> io::Result<u64> {
        let length = counter.len();
        let request = format!("*2\r\n$4\r\nINCR\r\n${length}\r\n{counter}\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        line.strip_prefix(':')
            .and_then(|number| number.trim_end().parse().ok())
            .ok_or_else(|| {
                let what = if line.is_empty() {
                    "the connection was closed"
                } else {
                    line.trim()
                };
                io::Error::new(io::ErrorKind::InvalidData, format!("INCR answered: {what}"))
            })
    }
}
