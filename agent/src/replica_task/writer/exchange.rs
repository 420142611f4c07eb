//! What waits for peers: `sync`, and the hand-over before the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coppice_crdt::{ActorId, VersionVector};
use coppice_replication::{LinkId as CoreLink, MemberView, Now, Traffic};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::links::Links;
use super::{Answer, Writer};
use crate::engine::{Engine, GroupFigures};
use crate::replica_task::former::former;
use crate::replica_task::handle::Ticket;
use crate::replica_task::{HandedOver, NotHandedOver, SubmitError, SyncOutcome, SyncResult};
use crate::store::Store;
use crate::store::keys::Slot;

/// How long stopping waits for a peer to have everything on disk.
const HAND_OVER_WAIT: Duration = Duration::from_secs(2);

/// Who waits for an exchange.
pub(super) type SyncTicket = Ticket<Result<Vec<SyncResult>, SubmitError>>;

/// A `sync` that is not over with each linked peer.
pub(super) struct PendingSync {
    slot: Slot,
    number: u64,
    /// What was here when it began.
    target: VersionVector,
    /// The links there were, and what had passed over them.
    asked: BTreeMap<ActorId, (CoreLink, Traffic)>,
    until: Instant,
    ticket: SyncTicket,
}

/// A hand-over under way: when it is given up, and who waits for it.
pub(super) struct HandOver {
    until: Instant,
    done: oneshot::Sender<HandedOver>,
}

impl PendingSync {
    /// What happened with one member by now.
    fn result(&self, view: &MemberView, here: &VersionVector, links: &Links) -> SyncResult {
        let member = &view.member;
        let asked = self.asked.get(&view.opening).filter(|(link, _)| member.link == Some(*link));
        // A link that came up meanwhile was not asked: its handshake said all.
        let brought = match asked {
            Some(_) => view.traffic.exchanged.is_some_and(|number| number >= self.number),
            None => member.seen.is_covered_by(here),
        };
        let outcome = match member.link {
            None => SyncOutcome::Unreachable,
            Some(_) if brought && self.target.is_covered_by(&member.seen) => SyncOutcome::Exchanged,
            Some(_) => SyncOutcome::TimedOut,
        };
        let before = asked.map_or_else(Traffic::default, |(_, traffic)| *traffic);
        SyncResult {
            name: member.name.to_string(),
            opening: view.opening.to_string(),
            address: member.link.and_then(|link| links.get(&link)).map(|link| link.remote.clone()),
            outcome,
            sent: view.traffic.sent.saturating_sub(before.sent),
            received: view.traffic.received.saturating_sub(before.received),
            lag_deltas: self.target.count_beyond(&member.seen),
        }
    }

    fn results(&self, figures: &GroupFigures, (links, own): (&Links, &str)) -> Vec<SyncResult> {
        let former = former(&figures.members, own);
        // Who is only told of has no link to exchange on; who lost its disk is here
        // under the same name.
        let met = figures.members.iter().filter(|view| view.member.said_hello);
        let met = met.filter(|view| !former.contains(&view.opening));
        met.map(|view| self.result(view, &figures.vector, links)).collect()
    }
}

impl<S: Store> Writer<S> {
    pub(super) fn begin_sync(
        &mut self,
        engine: &mut Engine<S, Answer>,
        (slot, wait): (Slot, Duration),
        ticket: SyncTicket,
        now: Now,
    ) {
        let (Some(figures), Some(number)) = (engine.figures(slot, now), engine.exchange_now(slot))
        else {
            let _ = ticket.send(Err(SubmitError::GroupGone));
            return;
        };
        let linked = figures
            .members
            .iter()
            .filter_map(|view| view.member.link.map(|link| (view.opening, (link, view.traffic))));
        self.syncs.push(PendingSync {
            slot,
            number,
            asked: linked.collect(),
            target: figures.vector,
            until: Instant::now() + wait,
            ticket,
        });
    }

    /// Answers those that are over with each linked peer, and those whose time is up.
    pub(super) fn finish_syncs(&mut self, engine: &Engine<S, Answer>, now: Now) {
        for sync in std::mem::take(&mut self.syncs) {
            let Some(figures) = engine.figures(sync.slot, now) else {
                let _ = sync.ticket.send(Err(SubmitError::GroupGone));
                continue;
            };
            let results = sync.results(&figures, (&self.links, &self.name));
            let waits = results.iter().any(|result| result.outcome == SyncOutcome::TimedOut);
            if waits && Instant::now() < sync.until {
                self.syncs.push(sync);
            } else {
                let _ = sync.ticket.send(Ok(results));
            }
        }
    }

    pub(super) fn begin_hand_over(
        &mut self,
        engine: &mut Engine<S, Answer>,
        done: oneshot::Sender<HandedOver>,
    ) {
        for slot in engine.slots().collect::<Vec<_>>() {
            engine.sync_now(slot);
        }
        self.handing_over = Some(HandOver { until: Instant::now() + HAND_OVER_WAIT, done });
    }

    /// Says so once one linked peer has everything on disk, or the wait is over.
    pub(super) fn finish_hand_over(&mut self, engine: &Engine<S, Answer>) {
        let Some(HandOver { until, .. }) = &self.handing_over else { return };
        let left = self.not_handed_over(engine);
        // A peer that is not connected is not waited for.
        let is_hopeless = left.iter().all(|group| group.peers.is_empty());
        if Instant::now() < *until && !is_hopeless {
            return;
        }
        self.end_hand_over(if left.is_empty() {
            HandedOver::Everything
        } else {
            HandedOver::Not(left)
        });
    }

    fn end_hand_over(&mut self, how: HandedOver) {
        if let Some(HandOver { done, .. }) = self.handing_over.take() {
            let _ = done.send(how);
        }
    }

    /// The store failed: nobody waits for what may never come.
    pub(super) fn abandon_exchanges(&mut self) {
        self.end_hand_over(HandedOver::StoreFailed);
        for sync in self.syncs.drain(..) {
            let _ = sync.ticket.send(Err(SubmitError::WriterStopped));
        }
    }

    fn not_handed_over(&self, engine: &Engine<S, Answer>) -> Vec<NotHandedOver> {
        let now = self.now();
        let left = self.served.iter().filter_map(|(&slot, served)| {
            let figures = engine.figures(slot, now)?;
            let expects_peers = served.spec.settings.replica.expects_peers;
            let (peers, only_here) = left_to_hand_over(&figures, expects_peers)?;
            Some(NotHandedOver { group: Arc::clone(&served.spec.name), peers, only_here })
        });
        left.collect()
    }
}

/// What each linked peer lacks on disk, and how many writes no member has there;
/// `None` if there is nothing left to hand over, or nobody to hand over to.
fn left_to_hand_over(
    figures: &GroupFigures,
    expects_peers: bool,
) -> Option<(Vec<(String, u64)>, u64)> {
    let lacks = |view: &MemberView| figures.vector.count_beyond(&view.member.durable);
    let linked = figures.members.iter().filter(|view| view.member.link.is_some());
    let peers: Vec<_> = linked.map(|view| (view.member.name.to_string(), lacks(view))).collect();
    let mut elsewhere = VersionVector::new();
    for view in &figures.members {
        elsewhere.join(&view.member.durable);
    }
    let only_here = figures.vector.count_beyond(&elsewhere);
    let is_done = if peers.is_empty() {
        // An agent that has no peers at all has handed over to nobody all along.
        only_here == 0 || (figures.members.is_empty() && !expects_peers)
    } else {
        peers.iter().any(|(_, lacks)| *lacks == 0)
    };
    (!is_done).then_some((peers, only_here))
}
