//! The client: counts over one connection until it is told to stop.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::client::now_ns;
use super::protocol::{Connection, Protocol};
use super::report::{Answer, Report};

/// An answer that takes longer than this is an error, not a gap. A source waits for a lost link for
/// 30 s before it rolls back.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// An address that is gone answers nothing; the service may be at another one meanwhile.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// A program that was just started may not listen yet.
const FIRST_CONNECT: Duration = Duration::from_secs(10);

/// Runs until `stop` exists, at most `limit`. One request at a time, `pace` apart.
///
/// A connection that breaks is an error of the report; the client then connects again, as a
/// real one would, so that the report also says how long the service was away. `service` is a
/// file with the address, `IP:PORT`, read at each connect: what a name in DNS is to a real one.
///
/// # Errors
/// Only when no first connection can be made for ten seconds; everything later is in the report.
pub fn run(
    service: &Path,
    protocol: Protocol,
    counter: &str,
    pace: Duration,
    limit: Duration,
    stop: &Path,
) -> io::Result<Report> {
    let mut report = Report::default();
    let end = Instant::now() + limit;
    let mut connection = first_connect(service, protocol)?;
    let mut last = None;
    while Instant::now() < end && !stop.exists() {
        match connection.increment(counter, last) {
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
                match reconnect(service, protocol, end, stop) {
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

fn first_connect(service: &Path, protocol: Protocol) -> io::Result<Connection> {
    let until = Instant::now() + FIRST_CONNECT;
    loop {
        match connect(service, protocol) {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}

fn connect(service: &Path, protocol: Protocol) -> io::Result<Connection> {
    let address: SocketAddr = fs::read_to_string(service)?
        .trim()
        .parse()
        .map_err(io::Error::other)?;
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    protocol.open(stream)
}

fn reconnect(service: &Path, protocol: Protocol, end: Instant, stop: &Path) -> Option<Connection> {
    while Instant::now() < end && !stop.exists() {
        if let Ok(connection) = connect(service, protocol) {
            return Some(connection);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}
