//! Dialling: one task for each listed address and served group, which opens
//! the group's stream on the address's shared connection, runs the link, and
//! decides from how it ended when to try again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::connection::{Connection, connect, reason_of};
use super::link::{Ended, Link, Opening};
use super::server::GROUP_PATH;
use super::settings::Timing;
use super::shared::Shared;
use super::{CloseReason, GroupName, LinkId, close_reason};
use crate::discovery::PeerAddress;

/// The longest wait before a duplicate is tried again although the link that
/// was kept is still there: the address may lead to another peer by then.
const LAST_DUPLICATE_RECHECK: Duration = Duration::from_mins(10);

/// A listed address: its connection, shared by all groups, and its end.
pub(super) struct Address {
    name: PeerAddress,
    /// Cancelled when the address turns out to be this agent's own.
    own: CancellationToken,
    /// How often in a row what answers here was no peer.
    refusals: AtomicU64,
    connecting: Mutex<Connecting>,
}

struct Connecting {
    live: Weak<Connection>,
    backoff: Backoff,
    /// Whether it was said that nobody is reached here.
    is_missed: bool,
    retry_at: Instant,
}

/// Dials one address for one group.
pub(super) struct Dial {
    pub(super) address: Arc<Address>,
    pub(super) group: GroupName,
    /// Cancelled when the address or the group is removed, or the agent stops.
    pub(super) stop: CancellationToken,
    pub(super) shared: Arc<Shared>,
}

/// The waits between attempts.
struct Waits {
    backoff: Backoff,
    recheck: Backoff,
    stable: Duration,
}

/// When to try again.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Not at all: the address is this agent.
    Never,
    /// After a backoff that grows.
    Backoff,
    /// When the address may be connected to again.
    At(Instant),
    /// When this link is gone, or from time to time.
    Duplicate(Option<LinkId>),
}

// === impl Address ===

impl Address {
    pub(super) fn new(name: PeerAddress, shared: &Shared) -> Self {
        let connecting = Connecting {
            live: Weak::new(),
            backoff: Backoff::new(shared.timing.first_retry, shared.timing.last_retry),
            is_missed: false,
            retry_at: Instant::now(),
        };
        let (own, refusals) = (CancellationToken::new(), AtomicU64::new(0));
        Self { name, own, refusals, connecting: Mutex::new(connecting) }
    }

    /// Whether the address is this agent's own: it is not dialled again.
    pub(super) fn is_self(&self) -> bool {
        self.own.is_cancelled()
    }

    /// The open connection, or a new one, or when to try again.
    ///
    /// Cancel-safe: a connection that is only half made is dropped.
    async fn connection(&self, shared: &Arc<Shared>) -> Result<Arc<Connection>, Instant> {
        let mut connecting = self.connecting.lock().await;
        let live = connecting.live.upgrade().filter(|live| live.takes_links());
        if let Some(live) = live {
            return Ok(live);
        }
        if Instant::now() < connecting.retry_at {
            return Err(connecting.retry_at);
        }
        match connect(&self.name, shared).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                connecting.live = Arc::downgrade(&connection);
                connecting.backoff.reset();
                if std::mem::take(&mut connecting.is_missed) {
                    info!(address = %self.name, "peer reached");
                }
                Ok(connection)
            }
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                if std::mem::replace(&mut connecting.is_missed, true) {
                    debug!(address = %self.name, error = cause, "peer not reached");
                } else {
                    warn!(address = %self.name, error = cause,
                        "peer not reached: trying again until it answers");
                }
                if let Some(reason) = error.counted_reason() {
                    shared.metrics.link_closed(reason);
                }
                connecting.retry_at = Instant::now() + connecting.backoff.next();
                Err(connecting.retry_at)
            }
        }
    }
}

// === impl Dial ===

impl Dial {
    /// Keeps a link to the address up until `stop` is cancelled or the address
    /// turns out to be this agent. A link that is up is closed in order first.
    pub(super) async fn run(self) {
        let mut waits = Waits::new(&self.shared.timing);
        while !self.stop.is_cancelled() && !self.address.is_self() {
            let (next, lived) = self.attempt().await;
            waits.note(&next, lived);
            let wait = async {
                match next {
                    Next::Never => self.address.own.cancel(),
                    Next::Backoff => sleep(waits.backoff.next()).await,
                    Next::At(instant) => sleep_until(instant).await,
                    Next::Duplicate(None) => sleep(waits.recheck.next()).await,
                    Next::Duplicate(Some(kept)) => {
                        let gone = self.shared.link_gone(kept);
                        let _recheck = timeout(waits.recheck.next(), gone).await;
                    }
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.address.own.cancelled() => return,
                () = wait => {}
            }
        }
    }

    /// One link, from connecting to its end; how long it was up.
    async fn attempt(&self) -> (Next, Duration) {
        let opened = tokio::select! {
            () = self.stop.cancelled() => return (Next::Backoff, Duration::ZERO),
            opened = self.open() => opened,
        };
        match opened {
            Err(next) => (next, Duration::ZERO),
            Ok((link, incoming, connection)) => {
                let ended = link.run(incoming).await;
                drop(connection);
                (next_after(&ended), ended.lived)
            }
        }
    }

    /// Opens the group's stream. Cancelled, it resets a stream that was asked for.
    async fn open(&self) -> Result<(Link, hyper::body::Incoming, Arc<Connection>), Next> {
        let connection = self.address.connection(&self.shared).await.map_err(Next::At)?;
        let opening = Opening {
            group: self.group.clone(),
            dialled: true,
            peer: Arc::clone(&connection.peer),
            stop: self.stop.clone(),
        };
        let (link, body) = Link::new(opening, Arc::clone(&self.shared));
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri();
        let answer = connection.sender.clone().send_request(request);
        let refused = match timeout(self.shared.timing.connect, answer).await {
            Ok(Ok(response)) if response.status() == StatusCode::OK => {
                self.address.refusals.store(0, Ordering::Relaxed);
                return Ok((link, response.into_body(), connection));
            }
            // An agent's port for peers says no more; the app's port and others explain.
            Ok(Ok(response))
                if response.status() == StatusCode::NOT_FOUND
                    && !response.headers().contains_key(CONTENT_TYPE) =>
            {
                CloseReason::UnknownGroup
            }
            Ok(Ok(_)) => CloseReason::Protocol,
            Ok(Err(error)) => link.verdict(reason_of(&error)).await,
            Err(_elapsed) => CloseReason::Timeout,
        };
        self.shared.metrics.link_closed(refused);
        let (address, group, reason) = (&self.address.name, &self.group, refused.label());
        match close_reason::mend(reason) {
            // The first may be a peer that stops.
            Some(mend) if self.address.refusals.fetch_add(1, Ordering::Relaxed) == 1 => {
                warn!(%address, %group, reason, "{mend}");
            }
            _ => debug!(%address, %group, reason, "link to a peer refused"),
        }
        Err(Next::Backoff)
    }

    fn uri(&self) -> http::Uri {
        // Both parts are checked characters, so this is always a legal URI.
        let uri = format!("http://{}{GROUP_PATH}{}", self.address.name, self.group);
        uri.parse().unwrap_or_default()
    }
}

// === impl Waits ===

impl Waits {
    fn new(timing: &Timing) -> Self {
        Self {
            backoff: Backoff::new(timing.first_retry, timing.last_retry),
            recheck: Backoff::new(timing.duplicate_recheck, LAST_DUPLICATE_RECHECK),
            stable: timing.stable,
        }
    }

    /// Begins with short waits again after a link that was up for long.
    ///
    /// Not after one that was up until a newer one took its place: two addresses of
    /// one peer would take turns for ever.
    fn note(&mut self, next: &Next, lived: Duration) {
        if lived >= self.stable && !matches!(next, Next::Duplicate(_)) {
            self.backoff.reset();
            self.recheck.reset();
        }
    }
}

/// What the end of a link says about the next attempt.
fn next_after(ended: &Ended) -> Next {
    match ended.reason {
        CloseReason::SelfLink => Next::Never,
        CloseReason::Duplicate { kept } => Next::Duplicate(Some(kept)),
        // The core may have closed the other end first, here or at the peer.
        CloseReason::PeerClosed => match ended.farewell.as_deref() {
            Some("self") => Next::Never,
            Some("duplicate") => Next::Duplicate(None),
            _ => Next::Backoff,
        },
        CloseReason::Io
        | CloseReason::Protocol
        | CloseReason::OversizedFrame
        | CloseReason::UnknownGroup
        | CloseReason::Tls
        | CloseReason::Timeout
        | CloseReason::Removed
        | CloseReason::Shutdown
        | CloseReason::MalformedFrame
        | CloseReason::UnexpectedMessage
        | CloseReason::DamagedUnit
        | CloseReason::UnsupportedVersion
        | CloseReason::GroupMismatch
        | CloseReason::TypeMismatch
        | CloseReason::Unauthorised => Next::Backoff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_addresses_of_one_peer_take_turns_less_and_less_often() {
        let timing = Timing::default();
        let mut waits = Waits::new(&timing);
        let long = timing.stable * 2;
        for _ in 0..12 {
            waits.note(&Next::Duplicate(None), long);
            waits.recheck.next();
        }
        assert!(waits.recheck.next() >= LAST_DUPLICATE_RECHECK / 2, "it is settled by now");
        waits.note(&Next::Backoff, long);
        assert!(waits.recheck.next() <= timing.duplicate_recheck, "the kept link is gone");
    }
}
