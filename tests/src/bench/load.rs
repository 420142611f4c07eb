//! The load generator: closed loops without pipelining, on one thread.
//!
//! One thread serves all connections with one `epoll` instance, whatever the
//! protocol, so that both servers find the same client in front of them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answer::{self, BadAnswer};
use super::workload::{Protocol, Requests, Workload};

/// Before the operations that are timed.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long an answer may take on the slowest of disks.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// What it speaks.
    pub(super) protocol: Protocol,
}

/// What is asked, by how many, for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// What.
    pub(super) workload: Workload,
    /// Connections, each with one request at a time.
    pub(super) connections: usize,
    /// The time that counts.
    pub(super) time: Duration,
    /// Numbers the drawing of keys.
    pub(super) round: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Operations answered, those before and after the time that counts too.
    pub(super) answered: u64,
    /// Operations answered per second of the time that counts.
    pub(super) rate: f64,
    /// How long each of these took, in microseconds, sorted.
    pub(super) latencies_us: Vec<u32>,
}

/// Why a load could not be put on a server.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The operation was not done.
    #[error(transparent)]
    Refused(#[from] BadAnswer),
    /// No answer came.
    #[error("no answer within {PATIENCE:?}")]
    TimedOut,
    /// A connection's task failed.
    #[error("a connection's task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// One connection.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    protocol: Protocol,
    received: Vec<u8>,
}

/// What one connection did.
#[derive(Debug, Default)]
struct Share {
    answered: u64,
    latencies_us: Vec<u32>,
}

/// A runtime for loads: one thread.
///
/// # Errors
///
/// If the system has no descriptor left.
pub(super) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Puts `load` on `target`.
///
/// # Errors
///
/// With the first operation that was not done.
pub(super) fn run(runtime: &Runtime, target: Target, load: Load) -> Result<Outcome, LoadError> {
    let all = async {
        let mut connections = Vec::new();
        for _ in 0..load.connections {
            connections.push(Connection::open(target).await?);
        }
        let begin = Instant::now() + WARM_UP;
        let mut running = JoinSet::new();
        for (number, connection) in connections.into_iter().enumerate() {
            let requests = Requests::new(target.protocol, load.workload, number, load.round);
            running.spawn(connection.work(requests, begin, begin + load.time));
        }
        let mut outcome = Outcome::default();
        while let Some(ended) = running.join_next().await {
            let share = ended??;
            outcome.answered += share.answered;
            outcome.latencies_us.extend(share.latencies_us);
        }
        outcome.latencies_us.sort_unstable();
        let counted = u32::try_from(outcome.latencies_us.len()).unwrap_or(u32::MAX);
        outcome.rate = f64::from(counted) / load.time.as_secs_f64();
        Ok(outcome)
    };
    let limit = WARM_UP + load.time + PATIENCE;
    let ended = runtime.block_on(async { tokio::time::timeout(limit, all).await });
    ended.unwrap_or(Err(LoadError::TimedOut))
}

/// Sends `requests` one after the other on one connection.
///
/// # Errors
///
/// With the first that was not done.
pub(super) fn send_all(
    runtime: &Runtime,
    target: Target,
    requests: &[Vec<u8>],
) -> Result<(), LoadError> {
    runtime.block_on(async {
        let mut connection = Connection::open(target).await?;
        for request in requests {
            let done = tokio::time::timeout(PATIENCE, connection.exchange(request)).await;
            done.unwrap_or(Err(LoadError::TimedOut))?;
        }
        Ok(())
    })
}

// === impl Connection ===

impl Connection {
    async fn open(target: Target) -> io::Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, protocol: target.protocol, received: Vec::with_capacity(4096) })
    }

    /// One request after the other until `end`; counts latencies from `begin` on.
    async fn work(
        mut self,
        mut requests: Requests,
        begin: Instant,
        end: Instant,
    ) -> Result<Share, LoadError> {
        let mut share = Share::default();
        let mut sent_at = Instant::now();
        while sent_at < end {
            self.exchange(requests.next()).await?;
            let answered_at = Instant::now();
            share.answered += 1;
            if answered_at >= begin && answered_at < end {
                let took = answered_at.duration_since(sent_at).as_micros();
                share.latencies_us.push(u32::try_from(took).unwrap_or(u32::MAX));
            }
            sent_at = answered_at;
        }
        Ok(share)
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<(), LoadError> {
        self.stream.write_all(request).await?;
        self.received.clear();
        loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if answer::length(self.protocol, &self.received)?.is_some() {
                return Ok(());
            }
        }
    }
}
