//! One HTTP/2 connection that this agent opened, and what both kinds of
//! connection share: what the peer proved, how long that holds, why it ended.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::seq::SliceRandom;
use rustls::pki_types::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::outbound_body::OutboundBody;
use super::shared::{OnTracker, Security, Shared};
use super::tls::{self, Proof, TlsConfigs};
use super::{CloseReason, PeerIdentity, close_reason};
use crate::discovery::PeerAddress;

/// How much of one stream a peer may send before this side has read it: what a
/// stalled reader costs in memory, and what a round trip can carry.
pub(super) const STREAM_WINDOW_BYTES: u32 = 1024 * 1024 + 64 * 1024;

/// The same for all streams of a connection, so that one stalled group does
/// not stall the others at once.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;

/// One HTTP/2 frame's payload at most.
pub(super) const HTTP_FRAME_BYTES: u32 = 64 * 1024;

/// How much of what it was given HTTP keeps for a stream.
pub(super) const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// Clocks may be set: how long a certificate's end is at most slept towards.
const EXPIRY_CHECK: Duration = Duration::from_mins(1);

/// Why a connection ended; `None` while it lives.
pub(super) type Verdict = Option<CloseReason>;

/// What is known about the other end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) remote: String,
    pub(super) identity: PeerIdentity,
    pub(super) verdict: watch::Receiver<Verdict>,
}

/// A connection that was dialled. It ends when the last handle is dropped and
/// its streams have ended.
pub(super) struct Connection {
    pub(super) sender: SendRequest<OutboundBody>,
    pub(super) peer: Arc<Peer>,
    /// What it ended with, before its verdict.
    pub(super) error: Arc<OnceLock<String>>,
    /// What both sides proved when it was made; `None` without TLS.
    proved: Option<Arc<TlsConfigs>>,
    /// Whether a group's link was refused for what was proved.
    is_outdated: AtomicBool,
}

impl Connection {
    /// Whether new links may use it: it has not ended, nor has the peer's certificate,
    /// and both sides would prove the same today. Certificates name groups, so one that
    /// is renewed may say more; links that are up stay where they are.
    pub(super) fn takes_links(&self, security: &Security) -> bool {
        let is_current = match (&self.proved, security) {
            (None, Security::Plain) => true,
            (Some(proved), Security::Tls(current)) => Arc::ptr_eq(proved, current),
            _ => false,
        };
        is_current
            && !self.is_outdated.load(Ordering::Relaxed)
            && !self.sender.is_closed()
            && self.peer.verdict.borrow().is_none()
    }

    /// A certificate on this connection does not name a group that it might name by
    /// now: the next link gets another connection.
    pub(super) fn outdate(&self) {
        self.is_outdated.store(true, Ordering::Relaxed);
    }
}

/// A byte stream, with or without TLS.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Why an address could not be connected to. It is tried again, with backoff.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The name could not be looked up, or nothing listens there.
    #[error("connect")]
    Connect(#[source] io::Error),
    /// There is no certificate to show yet.
    #[error("this agent has no certificate yet")]
    NoCertificate,
    /// Something took longer than the connect timeout.
    #[error("no answer in time")]
    Timeout,
    /// The peer does not speak TLS, or one side refused the other's certificate.
    #[error("shake hands")]
    Tls(#[source] io::Error),
    /// The peer does not speak HTTP/2.
    #[error("open HTTP/2")]
    Http(#[source] hyper::Error),
}

/// Connects to one of the address's hosts and starts its connection task.
pub(super) async fn connect(
    address: &PeerAddress,
    shared: &Arc<Shared>,
) -> Result<Connection, ConnectError> {
    let limit = shared.timing.connect;
    let late = |_elapsed| ConnectError::Timeout;
    let tcp =
        timeout(limit, connect_tcp(address)).await.map_err(late)?.map_err(ConnectError::Connect)?;
    let security = shared.security.borrow().clone();
    let (stream, proof, proved): (Box<dyn ByteStream>, Proof, _) = match security {
        Security::Plain => (Box::new(tcp), Proof::none(), None),
        Security::Pending => return Err(ConnectError::NoCertificate),
        Security::Tls(configs) => {
            let handshake = tls::connect(&configs, tcp);
            let (stream, proof) =
                timeout(limit, handshake).await.map_err(late)?.map_err(ConnectError::Tls)?;
            (Box::new(stream), proof, Some(configs))
        }
    };
    let handshake = builder(shared).handshake(TokioIo::new(stream));
    let (sender, connection) =
        timeout(limit, handshake).await.map_err(late)?.map_err(ConnectError::Http)?;

    let (ended, verdict) = watch::channel(None);
    let task_shared = Arc::clone(shared);
    let error = Arc::new(OnceLock::new());
    let ended_with = Arc::clone(&error);
    let expires = proof.not_after;
    shared.tracker.spawn(async move {
        let connection = async {
            let result = connection.await;
            if let Err(error) = &result {
                // Nobody else sets it.
                let _ = ended_with.set(root_of(error).to_string());
            }
            result
        };
        let reason = drive(connection, expires, &task_shared).await;
        ended.send_replace(Some(reason));
    });
    let peer = Peer { remote: address.to_string(), identity: proof.identity, verdict };
    let is_outdated = AtomicBool::new(false);
    Ok(Connection { sender, peer: Arc::new(peer), error, proved, is_outdated })
}

/// Moves a connection's bytes until it ends, the peer's certificate expires, or
/// the closing deadline after `shutdown` has passed.
async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    expires: Option<i64>,
    shared: &Shared,
) -> CloseReason {
    tokio::select! {
        result = connection => result.map_or_else(|error| reason_of(&error), |()| CloseReason::Io),
        () = expired(expires) => CloseReason::Tls,
        () = closing_passed(shared) => CloseReason::Shutdown,
    }
}

/// Waits for `shutdown` and then for as long as links may take to close.
pub(super) async fn closing_passed(shared: &Shared) {
    shared.shutdown.cancelled().await;
    sleep(shared.timing.closing + Duration::from_millis(500)).await;
}

/// Waits until a certificate's end, in Unix seconds; for ever without one.
pub(super) async fn expired(not_after: Option<i64>) {
    let Some(not_after) = not_after else { return std::future::pending().await };
    let not_after = u64::try_from(not_after).unwrap_or(0);
    loop {
        let left = not_after.saturating_sub(UnixTime::now().as_secs());
        if left == 0 {
            return;
        }
        sleep(Duration::from_secs(left).min(EXPIRY_CHECK)).await;
    }
}

/// The reason behind a connection's error.
pub(super) fn reason_of(error: &hyper::Error) -> CloseReason {
    if error.is_timeout() {
        return CloseReason::Timeout;
    }
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                // What rustls finds wrong; nothing else below HTTP says so.
                io::ErrorKind::InvalidData => CloseReason::Tls,
                io::ErrorKind::TimedOut => CloseReason::Timeout,
                _ => CloseReason::Io,
            };
        }
        cause = error.source();
    }
    CloseReason::Protocol
}

/// What an error was at first.
pub(super) fn root_of<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root
}

async fn connect_tcp(address: &PeerAddress) -> io::Result<TcpStream> {
    let mut hosts: Vec<_> = lookup_host((address.host(), address.port())).await?.collect();
    // One that does not answer uses up the timeout: start with another next time.
    hosts.shuffle(&mut rand::rng());
    let stream = TcpStream::connect(hosts.as_slice()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn builder(shared: &Shared) -> http2::Builder<OnTracker> {
    let mut builder = http2::Builder::new(OnTracker(shared.tracker.clone()));
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(shared.timing.ping_interval)
        .keep_alive_timeout(shared.timing.ping_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    builder
}

// === impl ConnectError ===

impl ConnectError {
    /// What is told apart in the log: not each host of a name, nor each wording.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => "refused",
            Self::Connect(_) => "connect",
            Self::Timeout => "timeout",
            Self::NoCertificate => "no-certificate",
            Self::Tls(error) => tls::mend(error),
            Self::Http(_) => "http",
        }
    }

    /// What a person can mend.
    pub(super) fn mend(&self) -> Option<&'static str> {
        match self {
            Self::Tls(error) => Some(tls::mend(error)),
            Self::Http(error) => close_reason::mend(reason_of(error).label()),
            Self::Connect(_) | Self::Timeout | Self::NoCertificate => None,
        }
    }

    /// The reason to count, for what went wrong once TCP was connected.
    pub(super) fn counted_reason(&self) -> Option<CloseReason> {
        match self {
            Self::Connect(_) | Self::Timeout | Self::NoCertificate => None,
            Self::Tls(_) => Some(CloseReason::Tls),
            Self::Http(error) => Some(reason_of(error)),
        }
    }
}
