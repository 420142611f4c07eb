//! Dialling: one task for each listed address and served group, which opens
//! the group's stream on the address's shared connection, runs the link, and
//! decides from how it ended when to try again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::connection::{ConnectError, Connection, connect, reason_of, root_of};
use super::faults::Fault;
use super::link::{Ended, Link, Opening};
use super::server::GROUP_PATH;
use super::settings::Timing;
use super::shared::Shared;
use super::{CloseReason, GroupName, LinkId, close_reason, tls};
use crate::discovery::PeerAddress;

/// The longest wait before a duplicate is tried again although the link that
/// was kept is still there: the address may lead to another peer by then.
const LAST_DUPLICATE_RECHECK: Duration = Duration::from_mins(10);

/// A listed address: its connection, shared by all groups, and its end.
pub(super) struct Address {
    name: PeerAddress,
    /// Cancelled when the address turns out to be this agent's own.
    own: CancellationToken,
    /// Whether it was said that nobody is reached here.
    is_missed: AtomicBool,
    connecting: Mutex<Connecting>,
}

struct Connecting {
    live: Weak<Connection>,
    backoff: Backoff,
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
            retry_at: Instant::now(),
        };
        let (own, is_missed) = (CancellationToken::new(), AtomicBool::new(false));
        Self { name, own, is_missed, connecting: Mutex::new(connecting) }
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
        let live = connecting.live.upgrade();
        let live = live.filter(|live| live.takes_links(&shared.security.borrow()));
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
                Ok(connection)
            }
            Err(error) => {
                self.tell_missed(&error, shared);
                if let Some(reason) = error.counted_reason() {
                    shared.metrics.link_closed(reason);
                }
                connecting.retry_at = Instant::now() + connecting.backoff.next();
                Err(connecting.retry_at)
            }
        }
    }
}

impl Address {
    /// Says that nobody is reached, when that or its cause is new.
    fn tell_missed(&self, error: &ConnectError, shared: &Shared) {
        self.is_missed.store(true, Ordering::Relaxed);
        let (place, mend) = (self.name.to_string(), error.mend());
        let fault = Fault::new(&place, None, error.kind());
        // A peer that is switched off is nothing to be reminded of.
        let news = shared.faults.note(Fault { repeats: mend.is_some(), ..fault });
        let cause = error as &dyn std::error::Error;
        let mend = mend.unwrap_or("nobody answers there now");
        if let Some(times) = news {
            warn!(address = %self.name, error = cause, times,
                "peer not reached: {mend}; trying again until it answers");
        } else {
            debug!(address = %self.name, error = cause, "peer not reached");
        }
    }

    /// An agent answered here.
    fn reached(&self, shared: &Shared) {
        shared.faults.all_over(&self.name.to_string(), None);
        if self.is_missed.swap(false, Ordering::Relaxed) {
            info!(address = %self.name, "peer reached");
        }
    }
}

// === impl Dial ===

impl Dial {
    /// Keeps a link to the address up until `stop` is cancelled or the address
    /// turns out to be this agent. A link that is up is closed in order first.
    pub(super) async fn run(self) {
        let mut waits = Waits::new(&self.shared.timing);
        let mut security = self.shared.security.clone();
        while !self.stop.is_cancelled() && !self.address.is_self() {
            security.mark_unchanged();
            let (next, lived) = self.attempt().await;
            waits.note(&next, lived);
            let is_refused = next == Next::Backoff;
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
                // A new certificate may be let in where the last one was not.
                Ok(()) = security.changed(), if is_refused => waits.backoff.reset(),
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
                if ended.is_for_proof() {
                    connection.outdate();
                }
                drop(connection);
                (next_after(&ended), ended.lived)
            }
        }
    }

    /// Opens the group's stream. Cancelled, it resets a stream that was asked for.
    async fn open(&self) -> Result<(Link, hyper::body::Incoming, Arc<Connection>), Next> {
        self.shared.secured().await;
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
        let mut error = None;
        let refused = match timeout(self.shared.timing.connect, answer).await {
            Ok(Ok(response)) if response.status() == StatusCode::OK => {
                self.address.reached(&self.shared);
                let place = self.address.name.to_string();
                let unknown = CloseReason::UnknownGroup.label();
                self.shared.faults.over(&place, Some(&self.group), unknown);
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
            Ok(Err(failed)) => {
                let reason = link.verdict(reason_of(&failed)).await;
                // The connection's own error says more than that of a request on it.
                let said = connection.error.get().cloned();
                error = Some(said.unwrap_or_else(|| root_of(&failed).to_string()));
                reason
            }
            Err(_elapsed) => CloseReason::Timeout,
        };
        self.shared.metrics.link_closed(refused);
        self.tell_refused(refused, error.as_deref());
        Err(Next::Backoff)
    }

    /// Says that a connection was had and no link, when that is news.
    fn tell_refused(&self, reason: CloseReason, error: Option<&str>) {
        let Self { address, group, shared, .. } = self;
        let (place, label) = (address.name.to_string(), reason.label());
        // What answers with another group, or in another protocol, is of this address.
        let (of, repeats, mend) = match reason {
            CloseReason::UnknownGroup => (
                Some(group),
                false,
                "no peer at this address serves the group: if it should, give it the same name \
                 on both sides",
            ),
            CloseReason::Tls => (None, true, tls::REFUSED_BY_PEER),
            CloseReason::Io | CloseReason::Timeout => {
                (None, true, "the peer breaks off before it answers: its log says why")
            }
            reason => match close_reason::mend(reason.label()) {
                Some(mend) => (None, true, mend),
                None => {
                    return debug!(%place, %group, reason = label, "link to a peer refused");
                }
            },
        };
        if reason == CloseReason::UnknownGroup {
            address.reached(shared);
        } else {
            address.is_missed.store(true, Ordering::Relaxed);
        }
        let kind = if of.is_some() { label } else { mend };
        // The first may be a peer that stops; who has an alert knows.
        let from = match reason {
            CloseReason::Tls => 1,
            CloseReason::UnknownGroup => shared.group_faults_from,
            _ => 2,
        };
        let fault = Fault { from, repeats, ..Fault::new(&place, of, kind) };
        let address = &address.name;
        if let Some(times) = shared.faults.note(fault) {
            warn!(%address, %group, reason = label, error, times, "link to a peer refused: {mend}");
        } else {
            debug!(%address, %group, reason = label, error, "link to a peer refused");
        }
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
