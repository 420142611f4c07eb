//! What waits for peers: `sync`, and the hand-over before the end.

use std::time::Duration;

use coppice_crdt::VersionVector;
use coppice_replication::Now;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Answer, Writer};
use crate::engine::Engine;
use crate::replica_task::SyncResult;
use crate::replica_task::handle::Ticket;
use crate::store::Store;
use crate::store::keys::Slot;

/// How long `sync` waits for its peers.
const SYNC_WAIT: Duration = Duration::from_secs(5);

/// How long stopping waits for a peer to have everything on disk.
const HAND_OVER_WAIT: Duration = Duration::from_secs(2);

/// A `sync` whose peers do not have everything yet.
pub(super) struct PendingSync {
    slot: Slot,
    target: VersionVector,
    until: Instant,
    ticket: Ticket<Vec<SyncResult>>,
}

/// A hand-over under way: when it is given up, and who waits for it.
pub(super) struct HandOver {
    until: Instant,
    done: oneshot::Sender<()>,
}

impl<S: Store> Writer<S> {
    pub(super) fn begin_sync(
        &mut self,
        engine: &mut Engine<S, Answer>,
        slot: Slot,
        ticket: Ticket<Vec<SyncResult>>,
        now: Now,
    ) {
        let Some(figures) = engine.figures(slot, now) else { return };
        engine.sync_now(slot);
        let until = Instant::now() + SYNC_WAIT;
        self.syncs.push(PendingSync { slot, target: figures.vector, until, ticket });
    }

    pub(super) fn finish_syncs(&mut self, engine: &Engine<S, Answer>, now: Now) {
        let mut still = Vec::new();
        for sync in std::mem::take(&mut self.syncs) {
            let mut members =
                engine.figures(sync.slot, now).map_or_else(Vec::new, |now| now.members);
            members.retain(|view| view.member.said_hello);
            let results: Vec<SyncResult> = members
                .iter()
                .map(|view| SyncResult {
                    name: view.member.name.to_string(),
                    in_sync: sync.target.is_covered_by(&view.member.seen),
                    lag_deltas: sync.target.count_beyond(&view.member.seen),
                })
                .collect();
            let linked =
                members.iter().zip(&results).filter(|(view, _)| view.member.link.is_some());
            let done = linked.into_iter().all(|(_, result)| result.in_sync);
            if done || Instant::now() >= sync.until {
                let _ = sync.ticket.send(results);
            } else {
                still.push(sync);
            }
        }
        self.syncs = still;
    }

    pub(super) fn begin_hand_over(
        &mut self,
        engine: &mut Engine<S, Answer>,
        done: oneshot::Sender<()>,
    ) {
        for slot in engine.slots().collect::<Vec<_>>() {
            engine.sync_now(slot);
        }
        self.handing_over = Some(HandOver { until: Instant::now() + HAND_OVER_WAIT, done });
    }

    /// Says so once one linked peer has everything on disk, or the wait is over.
    pub(super) fn finish_hand_over(&mut self, engine: &Engine<S, Answer>) {
        let Some(HandOver { until, .. }) = &self.handing_over else { return };
        if Instant::now() < *until && !self.is_handed_over(engine) {
            return;
        }
        if let Some(HandOver { done, .. }) = self.handing_over.take() {
            let _ = done.send(());
        }
    }

    fn is_handed_over(&self, engine: &Engine<S, Answer>) -> bool {
        let now = self.now();
        engine.slots().all(|slot| {
            engine.figures(slot, now).is_none_or(|figures| {
                let mut linked =
                    figures.members.iter().filter(|view| view.member.link.is_some()).peekable();
                linked.peek().is_none()
                    || linked.any(|view| figures.vector.is_covered_by(&view.member.durable))
            })
        })
    }
}
