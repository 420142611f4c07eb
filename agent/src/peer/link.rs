//! One link: a stream's two halves, from `Up` to `Down`.
//!
//! The same for the side that dialled and the side that accepted. Invariant:
//! the owner hears one `Up`, then frames in order, then one `Down`; after the
//! reason to end is known no frame is delivered, and what was queued before an
//! orderly close is sent.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::close_reason;
use super::connection::{Peer, Verdict};
use super::faults::{Fault, host_of};
use super::frame_reader::{FrameReader, Read, ReadError};
use super::mailbox::MailboxClosed;
use super::outbound::{Queue, Signal};
use super::outbound_body::{LinkBody, OutboundBody};
use super::shared::Shared;
use super::{CloseReason, GroupName, LinkEvent, LinkId, LinkUp, Outbound};

/// How long to wait for the connection's own account of why it broke, which
/// says more than that a stream of it did.
const VERDICT_WAIT: Duration = Duration::from_millis(200);

/// What both sides know when they open a link.
pub(super) struct Opening {
    pub(super) group: GroupName,
    pub(super) dialled: bool,
    pub(super) peer: Arc<Peer>,
    /// Ends the link: its group or address was removed, or the agent stops.
    pub(super) stop: CancellationToken,
}

/// A stream that is about to become a link.
pub(super) struct Link {
    id: LinkId,
    opening: Opening,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
}

/// How a link ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// As told to the owner.
    pub(super) reason: CloseReason,
    /// The label of the peer's reason, if it gave one.
    pub(super) farewell: Option<String>,
    /// How long it was up.
    pub(super) lived: Duration,
}

// === impl Ended ===

impl Ended {
    /// Whether one side found that the other's certificate does not name the group.
    pub(super) fn is_for_proof(&self) -> bool {
        self.reason == CloseReason::Unauthorised
            || self.farewell.as_deref() == Some(CloseReason::Unauthorised.label())
    }
}

// === impl Link ===

impl Link {
    /// Makes a link and the body that sends for it. Dropping the body without
    /// running the link leaves nothing behind but an unused id.
    pub(super) fn new(opening: Opening, shared: Arc<Shared>) -> (Self, OutboundBody) {
        let queue = Queue::new(shared.limits.outbound_bytes);
        let sent = shared.metrics.sent(&opening.group);
        let body = OutboundBody::Link(LinkBody::new(Arc::clone(&queue), sent));
        let id = shared.next_link();
        (Self { id, opening, queue, shared }, body)
    }

    /// Runs the link until one side ends it, then sends what is queued and says
    /// `Down`. Ends within the closing deadline after a cancelled `stop`.
    pub(super) async fn run(self, incoming: Incoming) -> Ended {
        self.shared.enter_link(self.id);
        let opened = Instant::now();
        let received = self.shared.metrics.received(&self.opening.group);
        let large = Arc::clone(&self.shared.large_frames);
        let mut reader = FrameReader::new(incoming, large, received);
        let mut farewell = None;

        let reason = match self.announce().await {
            Ok(()) => self.serve(&mut reader, &mut farewell).await,
            Err(reason) => reason,
        };
        let lived = opened.elapsed();
        self.finish(reason, &mut reader).await;
        self.tell(reason, farewell.as_deref(), lived);
        Ended { reason, farewell, lived }
    }

    /// Says that the link ended, unless that is no news.
    fn tell(&self, reason: CloseReason, peer_said: Option<&str>, lived: Duration) {
        // Of two links to one peer one is closed each time both dial, and a list of
        // peers may name the agent itself: no news.
        let said = |label| peer_said == Some(label);
        let expected = matches!(reason, CloseReason::Duplicate { .. } | CloseReason::SelfLink)
            || said("duplicate")
            || said("self");
        let (id, Opening { group, dialled, peer, .. }) = (self.id, &self.opening);
        let (remote, reason_label) = (&peer.remote, reason.label());
        // A link that was up was between two peers, whatever broke it.
        let mend = close_reason::mend(reason_label)
            .filter(|_| reason != CloseReason::Protocol)
            .or_else(|| close_reason::mend_said(peer_said?));
        // Who dials has another port each time.
        let place = if *dialled { remote } else { host_of(remote) };
        let faults = &self.shared.faults;
        if lived >= self.shared.timing.stable {
            faults.all_over(place, Some(group));
        }
        let fault = Fault::new(place, Some(group), mend.unwrap_or(reason_label));
        let unauthorised = CloseReason::Unauthorised.label();
        let is_unnamed = reason_label == unauthorised || said(unauthorised);
        // By default at once: there nothing makes the certificates but people.
        let from = if is_unnamed { self.shared.group_faults_from / 2 } else { 1 };
        let fault = Fault { from, ..fault };
        let news = if expected { None } else { faults.note(fault) };
        match (news, mend) {
            (Some(times), Some(mend)) => {
                warn!(link = %id, %group, remote, reason_label, peer_said, times, "{mend}");
            }
            (Some(times), None) => {
                info!(link = %id, %group, remote, reason_label, peer_said, times,
                    "link to a peer closed");
            }
            (None, _) => {
                debug!(link = %id, %group, remote, reason_label, peer_said,
                    "link to a peer closed");
            }
        }
    }

    async fn announce(&self) -> Result<(), CloseReason> {
        let Opening { group, dialled, peer, .. } = &self.opening;
        debug!(link = %self.id, %group, remote = peer.remote, dialled, "link to a peer opened");
        let up = LinkEvent::Up(LinkUp {
            link: self.id,
            group: group.clone(),
            dialled: *dialled,
            remote: peer.remote.clone(),
            identity: peer.identity.clone(),
            outbound: Outbound::new(Arc::clone(&self.queue)),
        });
        self.unless_closed(self.shared.mailbox.send(up)).await
    }

    /// Passes frames up until there is a reason to end.
    async fn serve(
        &self,
        reader: &mut FrameReader<Incoming>,
        farewell: &mut Option<String>,
    ) -> CloseReason {
        // Nothing can be sent any more; what the peer still says tells why.
        let mut lost: Option<Instant> = None;
        loop {
            let read = tokio::select! {
                biased;
                () = self.opening.stop.cancelled() => return self.shared.stop_reason(),
                () = self.certificate_expired() => return CloseReason::Tls,
                signal = self.queue.signal(), if lost.is_none() => {
                    match signal {
                        Signal::Closed(reason) => return reason,
                        Signal::Lost => lost = Some(Instant::now() + VERDICT_WAIT),
                        Signal::Room => if let Err(reason) = self.tell_room().await {
                            return reason;
                        },
                    }
                    continue;
                }
                () = until(lost) => return self.verdict(CloseReason::Io).await,
                read = reader.next() => read,
            };
            if let Ok(Read::End { farewell: said }) = &read {
                farewell.clone_from(said);
            }
            if let Err(reason) = self.take(read).await {
                return reason;
            }
        }
    }

    /// Hands on what was read, or finds the reason for which the link ends.
    async fn take(&self, read: Result<Read, ReadError>) -> Result<(), CloseReason> {
        match read {
            Ok(Read::Frame { frame, large }) => {
                let sent = self.unless_closed(self.shared.mailbox.send_frame(self.id, frame)).await;
                drop(large);
                sent
            }
            Ok(Read::End { farewell: Some(_) }) => Err(CloseReason::PeerClosed),
            // HTTP shows some broken streams as ended ones; ours end with a word.
            Ok(Read::End { farewell: None }) => Err(self.verdict(CloseReason::PeerClosed).await),
            Err(error) => {
                debug!(link = %self.id, error = &error as &dyn std::error::Error, "link broke");
                match error {
                    ReadError::Broken(_) | ReadError::Truncated => {
                        Err(self.verdict(error.reason()).await)
                    }
                    ReadError::Oversized(_) | ReadError::Empty | ReadError::Stalled => {
                        Err(error.reason())
                    }
                }
            }
        }
    }

    async fn tell_room(&self) -> Result<(), CloseReason> {
        let room = LinkEvent::Room { link: self.id };
        self.unless_closed(self.shared.mailbox.send(room)).await
    }

    /// Waits for a delivery, but no longer than the link lives.
    async fn unless_closed(
        &self,
        delivery: impl Future<Output = Result<(), MailboxClosed>>,
    ) -> Result<(), CloseReason> {
        tokio::select! {
            biased;
            () = self.opening.stop.cancelled() => Err(self.shared.stop_reason()),
            reason = self.queue.closed() => Err(reason),
            delivered = delivery => delivered.map_err(|MailboxClosed| CloseReason::Shutdown),
        }
    }

    /// Waits until the certificate that let the peer in is over. A connection ends
    /// by itself only once nothing uses it any more.
    async fn certificate_expired(&self) {
        let mut verdict = self.opening.peer.verdict.clone();
        let expired = verdict.wait_for(|verdict| *verdict == Some(CloseReason::Tls)).await.is_ok();
        if !expired {
            std::future::pending::<()>().await;
        }
    }

    /// The connection's reason for ending, or `otherwise` if it goes on.
    pub(super) async fn verdict(&self, otherwise: CloseReason) -> CloseReason {
        let mut verdict: watch::Receiver<Verdict> = self.opening.peer.verdict.clone();
        let ended = timeout(VERDICT_WAIT, verdict.wait_for(Option::is_some)).await;
        match ended {
            Ok(Ok(reason)) => reason.unwrap_or(otherwise),
            _ => otherwise,
        }
    }

    /// Says `Down`, sends what is queued, waits for the peer to end its side
    /// too, so that nothing that it has not read yet is reset away.
    async fn finish(&self, reason: CloseReason, reader: &mut FrameReader<Incoming>) {
        self.queue.close(reason);
        self.shared.metrics.link_closed(reason);
        self.shared.leave_link(self.id);
        let ended = timeout(self.shared.timing.closing, async {
            tokio::join!(self.queue.ended(), reader.discard());
        });
        let ((), _late) = tokio::join!(self.tell_down(reason), ended);
        self.queue.end();
    }

    /// Waits as long as it takes: an owner that is slow must still learn that
    /// the link is gone. An owner that stops may have stopped listening.
    async fn tell_down(&self, reason: CloseReason) {
        let stopped = async {
            self.shared.shutdown.cancelled().await;
            sleep(self.shared.timing.closing).await;
        };
        tokio::select! {
            _closed = self.shared.mailbox.send(LinkEvent::Down { link: self.id, reason }) => {}
            () = stopped => {}
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
