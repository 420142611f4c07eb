//! What a link brings: deltas, which are joined once all that they may have seen
//! is here, and the mending of gaps.

use std::collections::VecDeque;

use coppice_crdt::mutant::{self, Mutant};
use coppice_crdt::{EntryDelta, VersionVector};

use crate::effect::{CloseReason, LinkId};
use crate::message::{Base, Delta, Message, Want};
use crate::record::LogItem;
use crate::replica::{Now, Replica};
use crate::unit::Unit;
use crate::working_set::Missing;

/// Units that wait for what is before them: at most so many, of so many bytes.
const WAITING_UNITS: usize = 256;
const WAITING_BYTES: usize = 32 << 20;

/// A unit that waits this long makes its sender begin again, in milliseconds.
const GAP_MS: u64 = 100;

/// A unit whose base is not covered yet.
#[derive(Debug)]
pub(in crate::replica) struct Waiting {
    pub(super) link: LinkId,
    pub(super) base: VersionVector,
    pub(super) unit: Unit,
    pub(super) bytes: usize,
    pub(super) since_ms: u64,
}

impl Replica {
    pub(super) fn take_delta(&mut self, link: LinkId, delta: Delta, bytes: usize, now: Now) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.frames_taken += 1;
        if delta.epoch != state.epoch {
            return; // Sent before the peer knew that it is to begin again.
        }
        let base = match delta.base {
            Base::Continued(risen) => {
                let mut base = std::mem::take(&mut state.frame_end);
                base.join(&risen);
                base
            }
            Base::Exact(base) => base,
        };
        state.frame_end = base.clone();
        delta.unit.raise(&mut state.frame_end);
        state.peer_says_too_old = false;
        let runs_follow_base =
            delta.unit.covers.iter().all(|cover| cover.after <= base.get(&cover.actor));
        let removals_follow = delta.unit.removals_are_covered_by(&state.frame_end);
        let damaged = !runs_follow_base
            || !removals_follow
            || delta.unit.check(self.identity.crdt_type).is_err()
            || self.claims_own_writes(&delta.unit);
        if damaged {
            return self.close(link, CloseReason::DamagedUnit);
        }
        let writes = delta.unit.writes();
        if let Some(state) = self.links.get_mut(&link) {
            state.exchanges.received = state.exchanges.received.saturating_add(writes);
        }
        let received = &mut self.counters.deltas_received;
        *received = received.saturating_add(writes);
        if is_next(&delta.unit, &base, self.seen()) {
            self.inbox.push_back((link, delta.unit, base));
        } else {
            let since_ms = now.steady_ms;
            self.keep_waiting(Waiting { link, base, unit: delta.unit, bytes, since_ms });
        }
    }

    /// Whether a unit holds writes of this opening that it never made: nobody
    /// else can have made them, and the next write would use a dot twice.
    fn claims_own_writes(&self, unit: &Unit) -> bool {
        let own = self.identity.opening;
        let made = self.seen().get(&own);
        unit.covers.iter().any(|cover| cover.actor == own && cover.upto > made)
    }

    fn keep_waiting(&mut self, waiting: Waiting) {
        let full = self.waiting.len() >= WAITING_UNITS
            || self.waiting_bytes + waiting.bytes > WAITING_BYTES;
        if full {
            if let Some(state) = self.links.get_mut(&waiting.link) {
                state.dropped_since_ms.get_or_insert(waiting.since_ms);
            }
        } else {
            self.waiting_bytes += waiting.bytes;
            self.waiting.push_back(waiting);
        }
    }

    /// Whether [`Replica::step`] has something to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.inbox.is_empty()
            || self.has_part_to_merge()
            || self.has_sweeps()
            || self.is_removing()
    }

    /// Joins one received unit, or a piece of a repair part, into the state.
    /// Returns whether to go on at once; where it does not, the owner commits
    /// first, calls [`Replica::after_commit`], and asks [`Replica::has_work`].
    ///
    /// # Errors
    ///
    /// [`Missing`]: supply it and call again, before anything else; what was done of
    /// a unit is kept.
    pub fn step(&mut self, now: Now) -> Result<bool, Missing> {
        let Some((link, unit, base)) = self.inbox.pop_front() else {
            return self.merge_part(now);
        };
        if !is_next(&unit, &base, self.seen()) {
            let bytes = 64 * unit.objects.len();
            self.keep_waiting(Waiting { link, base, unit, bytes, since_ms: now.steady_ms });
            return Ok(true);
        }
        if unit.is_covered_by(self.seen()) {
            return Ok(true);
        }
        let ready = if self.joined_objects == 0 { self.is_ready(&unit) } else { Ok(true) };
        match ready {
            Ok(true) => {}
            unready => {
                self.inbox.push_front((link, unit, base));
                return unready;
            }
        }
        if let Err(missing) = self.join_unit(&unit) {
            self.inbox.push_front((link, unit, base));
            return Err(missing);
        }
        self.joined_objects = 0;
        self.set.drop_counts();
        self.observe_stamps(&unit, now);
        let before = self.seen().clone();
        self.raise_seen(&unit);
        let merged = self.seen().count_beyond(&before);
        self.counters.deltas_merged = self.counters.deltas_merged.saturating_add(merged);
        self.pending.push(LogItem::Unit(unit));
        self.retry_waiting();
        Ok(true)
    }

    /// Whether a unit can be joined now, as far as its large removals go.
    fn is_ready(&mut self, unit: &Unit) -> Result<bool, Missing> {
        if unit.objects.values().all(|delta| delta.removals.is_empty()) {
            return Ok(true);
        }
        Ok(self.uncounted(unit)?.is_none() && !self.must_be_swept_first(unit)?)
    }

    /// Joins what is not joined yet of the inbox's first unit.
    fn join_unit(&mut self, unit: &Unit) -> Result<(), Missing> {
        if self.joined_objects == 0 {
            let wanted = unit.objects.iter().map(|(key, delta)| (key, delta.entries.keys()));
            self.set.require(wanted)?;
        }
        for (key, delta) in unit.objects.iter().skip(self.joined_objects) {
            let savepoint = self.set.savepoint();
            let joined = if self.is_under_repair() {
                let seen = self.seen_of(key);
                self.set.join_delta(key, delta, &seen)
            } else {
                self.set.join_delta(key, delta, &self.seen)
            };
            if let Err(missing) = joined {
                self.set.rollback(savepoint);
                return Err(missing);
            }
            self.joined_objects += 1;
        }
        Ok(())
    }

    fn observe_stamps(&mut self, unit: &Unit, now: Now) {
        let changes = unit.objects.values().flat_map(|delta| delta.entries.values());
        for change in changes {
            if let EntryDelta::Versions { written, .. } = change {
                for version in written {
                    self.clock.observe(version.stamp, now.wall_ms);
                }
            }
        }
    }

    /// Moves units whose base is covered by now to the inbox.
    pub(in crate::replica) fn retry_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut still = VecDeque::new();
        while let Some(waiting) = self.waiting.pop_front() {
            if is_next(&waiting.unit, &waiting.base, &self.seen[0].1) {
                self.waiting_bytes -= waiting.bytes;
                self.inbox.push_back((waiting.link, waiting.unit, waiting.base));
            } else {
                still.push_back(waiting);
            }
        }
        self.waiting = still;
    }

    /// A unit that waits too long, or had to be dropped, makes its sender begin again.
    pub(super) fn mend_gap(&mut self, id: LinkId, now: Now) {
        let waiting = self.waiting.iter().filter(|waiting| waiting.link == id);
        let waiting_since_ms = waiting.map(|waiting| waiting.since_ms).min();
        let visible = self.visible.clone();
        // What is missing is likely to come with the parts.
        let pulling = self.is_pulling();
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.frame_end.is_covered_by(&visible) {
            link.dropped_since_ms = None; // It came another way.
        }
        let since_ms = waiting_since_ms.into_iter().chain(link.dropped_since_ms).min();
        let overdue = since_ms.is_some_and(|since| now.steady_ms.saturating_sub(since) >= GAP_MS);
        if !overdue || pulling {
            return;
        }
        link.dropped_since_ms = None;
        link.epoch = link.epoch.wrapping_add(1);
        link.frame_end = VersionVector::new();
        let want = Want { epoch: link.epoch, vector: visible };
        self.waiting.retain(|waiting| waiting.link != id);
        self.waiting_bytes = self.waiting.iter().map(|waiting| waiting.bytes).sum();
        self.send(id, &Message::Want(want));
    }
}

/// Whether all that a unit may have seen is `here`.
fn is_next(unit: &Unit, base: &VersionVector, here: &VersionVector) -> bool {
    if mutant::is(Mutant::DeltaOverGap) {
        return true;
    }
    if mutant::is(Mutant::CausalPerOrigin) {
        return unit.covers.iter().all(|cover| cover.after <= here.get(&cover.actor));
    }
    base.is_covered_by(here)
}
