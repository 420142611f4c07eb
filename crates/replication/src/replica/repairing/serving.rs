//! Serving repairs: what is held for a peer that pulls, and for how long.
//!
//! A repair is served from one snapshot of the store, and meanwhile the log keeps
//! all that came after it, so that it can go on where the repair ends. Both cost
//! room, so both end: when the peer says that it is done, when it does not ask
//! for long, when it takes too long as a whole, and when its link drops. A peer
//! that asks after that is refused, and begins again where it stood, with a newer
//! snapshot.
//!
//! Who is under repair serves all the same. Otherwise two replicas, each half
//! repaired of what only the other has whole, would wait for each other for ever
//! (`tests/model_mutual_repair.rs`).

use coppice_crdt::VersionVector;

use super::super::{Now, Replica};
use super::intervals::seen_at;
use crate::effect::{LinkId, Output};
use crate::message::{Message, RepairRequest};
use crate::record::{Intervals, Position};

/// A repair is served no longer if nothing of it was asked for so long, in
/// milliseconds: twice what a peer waits for a part.
const IDLE_MS: u64 = 60_000;

/// No snapshot is held for longer, in milliseconds: the store cannot clear away
/// anything that was deleted since.
const LONGEST_MS: u64 = 600_000;

/// So long after a repair the log still keeps what came after its snapshot, for
/// the peer to take it, in milliseconds.
const CATCHING_UP_MS: u64 = 30_000;

/// What is held for a peer that is repaired, or has just been.
#[derive(Debug)]
pub(in crate::replica) struct Served {
    /// The log keeps this record and all behind it.
    pin: u64,
    begun_ms: u64,
    asked_ms: u64,
    /// When the peer said that it needs the snapshot no more.
    ended_ms: Option<u64>,
}

/// What a state has seen, by interval: the contexts of the parts that are
/// served from a snapshot of it.
#[derive(Clone, Debug)]
pub struct Contexts {
    everywhere: VersionVector,
    ranges: Vec<(u8, Intervals)>,
}

impl Contexts {
    /// What was seen at a place of a range (`None`: its start), and where that
    /// ends.
    #[must_use]
    pub fn at(&self, range: u8, from: Option<&Position>) -> (VersionVector, Option<Position>) {
        let intervals = self.ranges.iter().find(|(known, _)| *known == range);
        let intervals = intervals.map_or(&[][..], |(_, intervals)| intervals);
        seen_at(intervals, from, &self.everywhere)
    }
}

impl Served {
    fn is_over(&self, now: Now) -> bool {
        let since = |ms: u64| now.steady_ms.saturating_sub(ms);
        match self.ended_ms {
            Some(ended_ms) => since(ended_ms) >= CATCHING_UP_MS,
            None => since(self.asked_ms) >= IDLE_MS || since(self.begun_ms) >= LONGEST_MS,
        }
    }
}

impl Replica {
    /// What the state as of the last commit has seen, by interval.
    #[must_use]
    pub fn contexts(&self) -> Contexts {
        Contexts { everywhere: self.visible.clone(), ranges: self.repair.ranges.clone() }
    }

    /// The log record that repairs under way need, and all behind it.
    pub(in crate::replica) fn pinned(&self) -> Option<u64> {
        self.served.values().map(|served| served.pin).min()
    }

    pub(in crate::replica) fn serve_repair(
        &mut self,
        link: LinkId,
        request: RepairRequest,
        now: Now,
    ) {
        let next_seq = self.log.next_seq();
        let known = self.served.get_mut(&link);
        match known.filter(|served| served.ended_ms.is_none()) {
            Some(served) if !request.begin => served.asked_ms = now.steady_ms,
            _ if !request.begin => return self.send(link, &Message::RepairRefused),
            _ => {
                self.counters.repairs_served += 1;
                // The peer goes on from what an earlier snapshot gave it, and the
                // log with it.
                let pin = self.served.get(&link).map_or(next_seq, |served| served.pin);
                let (begun_ms, asked_ms) = (now.steady_ms, now.steady_ms);
                self.served.insert(link, Served { pin, begun_ms, asked_ms, ended_ms: None });
                self.outputs.push(Output::OpenSnapshot(link));
            }
        }
        let RepairRequest { range, from, .. } = request;
        self.outputs.push(Output::ReadPart { link, range, from });
    }

    /// The peer needs no more parts; what it has yet to take stays in the log.
    pub(in crate::replica) fn repair_ended(&mut self, link: LinkId, now: Now) {
        let served = self.served.get_mut(&link).filter(|served| served.ended_ms.is_none());
        if let Some(served) = served {
            served.ended_ms = Some(now.steady_ms);
            self.outputs.push(Output::DropSnapshot(link));
        }
    }

    /// Nothing is held any more for this link.
    pub(in crate::replica) fn stop_serving(&mut self, link: LinkId) {
        if self.served.remove(&link).is_some_and(|served| served.ended_ms.is_none()) {
            self.outputs.push(Output::DropSnapshot(link));
        }
    }

    /// Lets go of what was held for long enough.
    pub(in crate::replica) fn expire_served(&mut self, now: Now) {
        let over = self.served.iter().filter(|(_, served)| served.is_over(now));
        for link in over.map(|(&link, _)| link).collect::<Vec<_>>() {
            self.stop_serving(link);
        }
    }
}
