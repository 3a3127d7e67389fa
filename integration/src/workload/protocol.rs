//! How to count in a program: one request, one answer, a number that is one more each time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// What a program speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// `INCR` (RESP2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>).
    Redis,
    /// `incr` (memcached's protocol.txt).
    Memcached,
    /// Publishes a number to itself (MQTT 3.1.1).
    Mqtt,
    /// `GET /` with keep-alive (RFC 9112); the client counts.
    Http,
    /// `UPDATE … RETURNING` (PostgreSQL's frontend/backend protocol 3).
    Postgres,
}

/// A connection that is ready for requests.
pub struct Connection {
    stream: BufReader<TcpStream>,
    protocol: Protocol,
}

/// Longest answer that is read, in bytes.
const LONGEST: usize = 64 * 1024;
const PG_TABLE: &str = "CREATE TABLE IF NOT EXISTS counter (n bigint); \
    INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT FROM counter)";
const PG_INCREMENT: &str = "UPDATE counter SET n = n + 1 RETURNING n";

impl Protocol {
    /// The name that the client's command line takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Memcached => "memcached",
            Self::Mqtt => "mqtt",
            Self::Http => "http",
            Self::Postgres => "postgres",
        }
    }

    /// Where the testbed's images serve it.
    pub fn port(self) -> u16 {
        match self {
            Self::Redis => 6379,
            Self::Memcached => 11211,
            Self::Mqtt => 1883,
            Self::Http => 8080,
            Self::Postgres => 5432,
        }
    }

    /// What comes before the first request.
    pub(super) fn open(self, stream: TcpStream) -> io::Result<Connection> {
        let mut connection = Connection {
            stream: BufReader::new(stream),
            protocol: self,
        };
        match self {
            Self::Redis | Self::Http => {}
            Self::Memcached => {
                connection.send(b"add counter 0 0 1\r\n0\r\n")?;
                let line = connection.line()?;
                if !line.ends_with("STORED") {
                    return Err(unexpected("add", &line));
                }
            }
            Self::Mqtt => {
                // CONNECT with a clean session, then SUBSCRIBE to the topic `c`.
                connection.send(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")?;
                connection.packet(0x20)?;
                connection.send(b"\x82\x06\x00\x01\x00\x01c\x00")?;
                connection.packet(0x90)?;
            }
            Self::Postgres => {
                let start = b"\x00\x03\x00\x00user\0postgres\0database\0postgres\0\0";
                connection.send(&(start.len() as u32 + 4).to_be_bytes())?;
                connection.send(start)?;
                connection.row()?;
                connection.query(PG_TABLE)?;
            }
        }
        Ok(connection)
    }
}

impl Connection {
    /// One request; answers with the number, which should be one more than `last`. Only Redis has counters
    /// of several names.
    pub(super) fn increment(&mut self, counter: &str, last: Option<u64>) -> io::Result<u64> {
        let next = last.unwrap_or(0) + 1;
        match self.protocol {
            Protocol::Redis => {
                let length = counter.len();
                let request = format!("*2\r\n$4\r\nINCR\r\n${length}\r\n{counter}\r\n");
                self.send(request.as_bytes())?;
                let line = self.line()?;
                number("INCR", line.strip_prefix(':').unwrap_or(&line))
            }
            Protocol::Memcached => {
                self.send(b"incr counter 1\r\n")?;
                number("incr", &self.line()?)
            }
            Protocol::Mqtt => {
                let text = next.to_string();
                self.send(&[0x30, text.len() as u8 + 3, 0, 1, b'c'])?;
                self.send(text.as_bytes())?;
                let body = self.packet(0x30)?;
                let body = body.get(3..).unwrap_or_default();
                number("PUBLISH", &String::from_utf8_lossy(body))
            }
            Protocol::Http => {
                self.send(b"GET / HTTP/1.1\r\nHost: counter\r\n\r\n")?;
                self.response()?;
                Ok(next)
            }
            Protocol::Postgres => number("UPDATE", &self.query(PG_INCREMENT)?),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection was closed",
            ));
        }
        Ok(line.trim_end().to_owned())
    }

    fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > LONGEST {
            return Err(unexpected("a request", &format!("{length} bytes")));
        }
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// An MQTT packet of this kind, shorter than 128 bytes.
    fn packet(&mut self, kind: u8) -> io::Result<Vec<u8>> {
        let header = self.bytes(2)?;
        if header[0] != kind || header[1] > 127 {
            return Err(unexpected("MQTT", &format!("{header:02x?}")));
        }
        self.bytes(usize::from(header[1]))
    }

    fn response(&mut self) -> io::Result<()> {
        let status = self.line()?;
        if !status.contains(" 200 ") {
            return Err(unexpected("GET", &status));
        }
        let mut length = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                return self.bytes(length).map(drop);
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = number("GET", value.trim())? as usize;
            }
        }
    }

    /// A simple query; answers with the first column of the last row.
    fn query(&mut self, text: &str) -> io::Result<String> {
        self.send(b"Q")?;
        self.send(&(text.len() as u32 + 5).to_be_bytes())?;
        self.send(text.as_bytes())?;
        self.send(b"\0")?;
        self.row()
    }

    /// Reads until the server is ready for a query.
    fn row(&mut self) -> io::Result<String> {
        let mut value = String::new();
        loop {
            let header = self.bytes(5)?;
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            let body = self.bytes((length as usize).saturating_sub(4))?;
            match header[0] {
                b'Z' => return Ok(value),
                b'E' => return Err(unexpected("SQL", &String::from_utf8_lossy(&body))),
                // Number of columns, length of the first one, its text.
                b'D' => {
                    let text = body.get(6..).unwrap_or_default();
                    value = String::from_utf8_lossy(text).into_owned();
                }
                _ => {}
            }
        }
    }
}

fn number(request: &str, text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| unexpected(request, text))
}

fn unexpected(request: &str, answer: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{request} answered: {answer}"),
    )
}
