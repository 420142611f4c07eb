//! Asks a running agent for a snapshot: one request to its operations port.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde::Deserialize;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than a snapshot takes: a flush, small copies, and its checksums.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(10);

/// Longer than any answer.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// Why a running agent took no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answers there.
    #[error(
        "nobody answers at {address}: {source}; give --listen-operations ADDRESS or --config FILE of that agent"
    )]
    NoAnswer {
        /// Where it was looked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// It answered something else.
    #[error("what answers at {address} is no agent that takes snapshots: {answer:?}")]
    NoAgent {
        /// Who was asked.
        address: SocketAddr,
        /// The first line of its answer.
        answer: String,
    },
    /// It said no.
    #[error("it did not: {0}")]
    Refused(String),
}

/// A snapshot that the agent took.
#[derive(Debug, Deserialize)]
pub(super) struct Taken {
    pub(super) name: String,
    pub(super) bytes: u64,
}

#[derive(Deserialize)]
struct Problem {
    detail: String,
}

/// Has the agent whose operations port is bound to `listen` take one.
pub(super) fn take(listen: SocketAddr) -> Result<Taken, AskError> {
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    let answer = exchange(address).map_err(|source| AskError::NoAnswer { address, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("201")
        && let Ok(taken) = serde_json::from_str(body)
    {
        return Ok(taken);
    }
    match serde_json::from_str(body) {
        Ok(Problem { detail }) => Err(AskError::Refused(detail)),
        Err(_) => Err(AskError::NoAgent { address, answer: status.to_owned() }),
    }
}

/// Where a port that is bound to `listen` is reached from this machine.
fn reachable(listen: IpAddr) -> IpAddr {
    match listen {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn exchange(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(
        b"POST /snapshots HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    )?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
