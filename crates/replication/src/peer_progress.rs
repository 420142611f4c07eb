//! What one peer has, and what to send it next.
//!
//! A link ships the arrival log in order, from the place that the peer's vector
//! reaches, skipping units that the peer has. Consecutive units are joined to a
//! frame. Each frame says its base: what this replica had seen before the
//! frame's first unit. A relayed unit that the peer probably gets from its origin
//! is passed over for a while; what follows then begins a new frame, whose base
//! covers the unit passed over, so that the peer applies nothing too early.
//!
//! Pure: no clock, no IO, no randomness.

use std::collections::BTreeSet;

use coppice_crdt::mutant::{self, Mutant};
use coppice_crdt::{ActorId, VersionVector};

use crate::arrival_log::ArrivalLog;
use crate::message::{Base, Delta};
use crate::record::{LogItem, LogRecord};
use crate::unit::Unit;

/// Frames that may be on their way without an answer.
const WINDOW_FRAMES: u64 = 8;

/// How long a repair in the log may bar a peer's way before the peer is told
/// that only a repair helps it, in milliseconds.
const BAR_GRACE_MS: u64 = 1_000;

/// What a frame of deltas holds where nothing else is set: large enough that the
/// cost per frame does not matter, small enough not to hold up what is behind it.
pub const FRAME_BYTES: usize = 256 << 10;

/// A place in the log: the item `item` of the record `seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    seq: u64,
    item: usize,
    /// What this replica had seen before that item.
    before: VersionVector,
}

/// How far the log can serve the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// From the cursor on.
    FromLog,
    /// The log does not reach back to the peer's vector.
    TooOld,
}

/// The sending half of one link.
#[derive(Debug)]
pub struct PeerProgress {
    /// The peer's opening, which is the actor of its own writes.
    peer: ActorId,
    /// What the peer reported to have seen, on this connection.
    seen: VersionVector,
    /// What the peer reported to have on its disk, on this connection.
    durable: VersionVector,
    /// `seen`, and all that was sent on this connection.
    sent: VersionVector,
    /// Where the peer's reckoning of bases stands: the end of the last frame.
    frame_end: VersionVector,
    cursor: Option<Cursor>,
    /// The first unit passed over, and when that is to be looked at again.
    held: Option<(Cursor, u64)>,
    /// Records before this are sent whatever their origin.
    no_hold_before: u64,
    epoch: u32,
    frames_sent: u64,
    frames_taken: u64,
    /// The openings that the peer has live links with, once it said.
    peer_links: Option<BTreeSet<ActorId>>,
    /// What a repair in the log brought that the peer lacks, and since when that
    /// bars the way.
    barred: Option<(VersionVector, u64)>,
}

/// What relaying depends on.
#[derive(Clone, Copy, Debug)]
pub struct RelayRule {
    /// This replica's actor: its own writes are never held back.
    pub own: ActorId,
    /// The time, in milliseconds of any steady clock.
    pub now_ms: u64,
    /// How long a relayed unit is held back for a peer that has a live link with
    /// its origin.
    pub hold_ms: u64,
    /// A frame takes no further unit once it holds about so many bytes.
    pub frame_bytes: usize,
}

impl PeerProgress {
    /// The state at a handshake: what the peer says it has replaces all that was
    /// known of it.
    #[must_use]
    pub fn new(
        peer: ActorId,
        (seen, durable): (VersionVector, VersionVector),
        log: &ArrivalLog,
    ) -> Self {
        let mut progress = Self {
            peer,
            sent: seen.clone(),
            frame_end: VersionVector::new(),
            seen,
            durable,
            cursor: None,
            held: None,
            no_hold_before: 0,
            epoch: 0,
            frames_sent: 0,
            frames_taken: 0,
            peer_links: None,
            barred: None,
        };
        progress.locate(log);
        progress
    }

    /// What the peer reported to have seen.
    #[must_use]
    pub const fn seen(&self) -> &VersionVector {
        &self.seen
    }

    /// What the peer reported to have on its disk.
    #[must_use]
    pub const fn durable(&self) -> &VersionVector {
        &self.durable
    }

    /// How far the log can serve the peer. A peer that lacks what a repair
    /// brought here may be about to get it elsewhere, and is given a moment.
    #[must_use]
    pub fn serving(&self, now_ms: u64) -> Serving {
        let barred = self.barred.as_ref().is_some_and(|(vector, since_ms)| {
            now_ms.saturating_sub(*since_ms) >= BAR_GRACE_MS && !vector.is_covered_by(&self.seen)
        });
        if self.cursor.is_some() && !barred { Serving::FromLog } else { Serving::TooOld }
    }

    /// The record to read next, if there is something to send and room for it.
    #[must_use]
    pub fn wants_records_from(&self, log: &ArrivalLog) -> Option<u64> {
        if self.frames_sent - self.frames_taken >= WINDOW_FRAMES {
            return None;
        }
        if self.barred.as_ref().is_some_and(|(vector, _)| !vector.is_covered_by(&self.seen)) {
            return None;
        }
        let cursor = self.cursor.as_ref()?;
        (cursor.seq < log.next_seq()).then_some(cursor.seq)
    }

    /// Takes notice of what the peer has by now.
    pub fn acknowledged(
        &mut self,
        (seen, durable): (&VersionVector, &VersionVector),
        frames: u64,
        log: &ArrivalLog,
    ) {
        self.seen.join(seen);
        self.durable.join(durable);
        self.sent.join(seen);
        self.frames_taken = self.frames_taken.max(frames.min(self.frames_sent));
        if self.cursor.is_none() {
            self.locate(log);
        }
    }

    /// Takes notice of the openings the peer has live links with.
    pub fn peer_links(&mut self, links: impl IntoIterator<Item = ActorId>) {
        self.peer_links = Some(links.into_iter().collect());
    }

    /// Whether the peer said by now whom it has links with.
    #[must_use]
    pub const fn has_reported_links(&self) -> bool {
        self.peer_links.is_some()
    }

    /// Whether the peer reported a live link with `opening`.
    #[must_use]
    pub fn is_linked_with(&self, opening: &ActorId) -> bool {
        self.peer_links.as_ref().is_some_and(|links| links.contains(opening))
    }

    /// Begins again from what the peer says it has.
    pub fn restart(&mut self, epoch: u32, seen: VersionVector, log: &ArrivalLog) {
        self.epoch = epoch;
        self.sent = seen.clone();
        self.frame_end = VersionVector::new();
        self.seen = seen;
        self.frames_taken = self.frames_sent;
        self.held = None;
        self.no_hold_before = log.next_seq();
        self.locate(log);
    }

    fn locate(&mut self, log: &ArrivalLog) {
        self.barred = None;
        self.cursor = log.locate(&self.seen).map(|place| Cursor {
            seq: place.seq,
            item: 0,
            before: place.before.clone(),
        });
    }

    /// The log no longer holds what is before `log.first_seq()`.
    pub fn log_was_trimmed(&mut self, log: &ArrivalLog) {
        let gone = |cursor: &Cursor| cursor.seq < log.first_seq();
        if self.held.as_ref().is_some_and(|(cursor, _)| gone(cursor)) {
            self.held = None;
        }
        if mutant::is(Mutant::LogTrimmedTooSoon)
            && let Some(cursor) = self.cursor.as_mut().filter(|cursor| gone(cursor))
        {
            (cursor.seq, cursor.item) = (log.first_seq(), 0);
        }
        if self.cursor.as_ref().is_some_and(gone) {
            self.locate(log);
        }
    }

    /// Goes back to a unit passed over whose time has come, unless the peer has
    /// it by now. Returns when to ask again, if something is still held.
    pub fn release_held(&mut self, now_ms: u64) -> Option<u64> {
        let (_, due_ms) = self.held.as_ref()?;
        if now_ms < *due_ms {
            return Some(*due_ms);
        }
        let (cursor, _) = self.held.take()?;
        if let Some(current) = &self.cursor {
            self.no_hold_before = current.seq + u64::from(current.item > 0);
            self.cursor = Some(cursor);
        }
        None
    }

    /// Sends all that is in the log by now whatever its origin, units passed over
    /// included.
    pub fn hold_nothing(&mut self, log: &ArrivalLog) {
        if let (Some(current), Some((held, _))) = (&mut self.cursor, self.held.take()) {
            *current = held;
        }
        self.no_hold_before = log.next_seq();
    }

    /// The next frame, from `records`, which begin with the record last wanted.
    ///
    /// `None` if all of them are to be skipped, or if a repair bars the way: then
    /// [`PeerProgress::serving`] says so.
    pub fn next_frame(&mut self, records: &[(u64, LogRecord)], rule: RelayRule) -> Option<Delta> {
        self.leave_out_its_own(records);
        let mut frame: Option<(VersionVector, Unit)> = None;
        let mut bytes = 0;
        for (seq, record) in records {
            let Some(cursor) = &mut self.cursor else { break };
            if *seq != cursor.seq {
                continue;
            }
            while let Some(item) = record.items.get(cursor.item) {
                match item {
                    LogItem::Repair(vector) if vector.is_covered_by(&self.seen) => {
                        cursor.before.join(vector);
                        if let Some((before, _)) = &mut frame {
                            before.join(vector);
                        }
                    }
                    LogItem::Repair(vector) => {
                        // What that repair brought is not in the log.
                        if frame.is_none() {
                            let since_ms = self.barred.take().map_or(rule.now_ms, |bar| bar.1);
                            self.barred = Some((vector.clone(), since_ms));
                        }
                        return self.finish(frame);
                    }
                    LogItem::Unit(unit) if unit.is_covered_by(&self.sent) => {
                        // What follows may have seen this unit, so a frame that
                        // is open has to say so. It can if the peer has the unit;
                        // one that is only on its way may wait for this frame.
                        match &mut frame {
                            Some((before, _)) if is_at(self.peer, &self.seen, unit) => {
                                unit.raise(before);
                            }
                            Some(_) => return self.finish(frame),
                            None => {}
                        }
                        unit.raise(&mut cursor.before);
                    }
                    // A frame's runs are whole: what stood between them came by
                    // a repair, or the peer has it.
                    LogItem::Unit(unit)
                        if frame.as_ref().is_some_and(|(_, joined)| !joined.reaches(unit)) =>
                    {
                        return self.finish(frame);
                    }
                    LogItem::Unit(unit) => {
                        let relayed = unit.covers.iter().any(|cover| cover.actor != rule.own);
                        let links = self.peer_links.as_ref();
                        let origin_is_near = links.is_some_and(|links| {
                            unit.covers.iter().all(|cover| links.contains(&cover.actor))
                        });
                        if relayed && origin_is_near && *seq >= self.no_hold_before {
                            if frame.is_some() {
                                return self.finish(frame);
                            }
                            let due_ms = rule.now_ms.saturating_add(rule.hold_ms);
                            self.held.get_or_insert_with(|| (cursor.clone(), due_ms));
                            unit.raise(&mut cursor.before);
                        } else {
                            let (_, joined) = frame
                                .get_or_insert_with(|| (cursor.before.clone(), Unit::default()));
                            bytes += weight(unit);
                            joined.join(unit.clone());
                            unit.raise(&mut cursor.before);
                            unit.raise(&mut self.sent);
                        }
                    }
                }
                cursor.item += 1;
                if bytes >= rule.frame_bytes {
                    return self.finish(frame);
                }
            }
            cursor.seq += 1;
            cursor.item = 0;
        }
        self.finish(frame)
    }

    /// What the peer issued it has, whatever it has reported by now.
    fn leave_out_its_own(&mut self, records: &[(u64, LogRecord)]) {
        for item in records.iter().flat_map(|(_, record)| &record.items) {
            if let LogItem::Unit(unit) = item
                && let Some(last) = unit.issued_by(self.peer)
            {
                self.sent.raise(self.peer, last);
            }
        }
    }

    fn finish(&mut self, frame: Option<(VersionVector, Unit)>) -> Option<Delta> {
        let (before, unit) = frame?;
        let base = if self.frame_end.is_covered_by(&before) {
            let risen = before.iter().filter(|(actor, n)| *n > self.frame_end.get(actor));
            Base::Continued(risen.collect())
        } else {
            Base::Exact(before.clone())
        };
        self.frame_end = before;
        unit.raise(&mut self.frame_end);
        self.frames_sent += 1;
        Some(Delta { epoch: self.epoch, base, unit })
    }
}

/// Whether `peer`, which reported `seen`, has a unit: what it issued it has.
fn is_at(peer: ActorId, seen: &VersionVector, unit: &Unit) -> bool {
    unit.covers.iter().all(|run| run.actor == peer || run.upto <= seen.get(&run.actor))
}

/// About how many bytes a unit adds to a frame; exact enough to bound it.
fn weight(unit: &Unit) -> usize {
    let names = |delta: &coppice_crdt::ObjectDelta| {
        let entries =
            delta.entries.iter().map(|(name, change)| name.as_bytes().len() + size(change));
        entries.sum::<usize>() + delta.removals.len() * 64
    };
    unit.objects.iter().map(|(key, delta)| key.len() + 8 + names(delta)).sum()
}

fn size(change: &coppice_crdt::EntryDelta) -> usize {
    use coppice_crdt::EntryDelta;
    match change {
        EntryDelta::Dots { added, removed } => 4 * (added.len() + removed.len()),
        EntryDelta::Versions { written, removed } => {
            let values = written.iter().map(|version| version.bytes.len() + 32);
            values.sum::<usize>() + 4 * removed.len()
        }
        EntryDelta::Cells { raised, floors } => 12 * (raised.len() + floors.len()),
    }
}

#[cfg(test)]
mod tests;
