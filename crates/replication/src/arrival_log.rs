//! Where in the arrival log a peer has to be served from, and what may go.
//!
//! The log holds every unit as it was applied, own and relayed, in order. Walking
//! it from the start, the floor vector raised by each unit is what this replica
//! had seen at each place. That vector is remembered at some places
//! ([`Checkpoint`]s), so that a peer's place is found without a walk and a trim
//! knows the new floor.
//!
//! Records go in whole stretches between checkpoints. A stretch therefore has a
//! bound in records, in bytes, and in the time between its first record and its
//! last; the last stretch, if nobody writes any more, ends by its age.
//!
//! Invariant: a checkpoint's vector is exactly what had been seen before its
//! record. Pure: no clock, no IO, no randomness.

use std::collections::VecDeque;

use coppice_crdt::VersionVector;

use crate::record::LogItem;

/// A checkpoint stands every so many records…
const RECORDS_PER_CHECKPOINT: u64 = 64;
/// …or bytes…
const BYTES_PER_CHECKPOINT: u64 = 128 << 10;
/// …or whenever this part of the log's greatest age is over: no record outlives
/// that age by more, and a slow log has no more checkpoints than this many more.
const CHECKPOINTS_PER_AGE: u64 = 16;

/// What had been seen before a record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The record.
    pub seq: u64,
    /// What had been seen before it.
    pub before: VersionVector,
    /// When the record before it was written, in milliseconds since 1970.
    older_ms: u64,
    /// Bytes of all records before it that were ever appended since the log was opened.
    bytes_before: u64,
}

/// The index of one replica's arrival log.
#[derive(Clone, Debug)]
pub struct ArrivalLog {
    checkpoints: VecDeque<Checkpoint>,
    next_seq: u64,
    end: VersionVector,
    bytes_appended: u64,
    max_age_ms: u64,
    /// When the first record since the last checkpoint was written.
    stretch_since_ms: Option<u64>,
    /// When the last record was written.
    last_ms: u64,
}

impl ArrivalLog {
    /// The log that begins with `first_seq`, before which `floor` had been seen,
    /// and of which nothing is to be older than `max_age_ms`.
    #[must_use]
    pub fn new(first_seq: u64, floor: VersionVector, max_age_ms: u64) -> Self {
        let first =
            Checkpoint { seq: first_seq, before: floor.clone(), older_ms: 0, bytes_before: 0 };
        Self {
            checkpoints: VecDeque::from([first]),
            next_seq: first_seq,
            end: floor,
            bytes_appended: 0,
            max_age_ms,
            stretch_since_ms: None,
            last_ms: 0,
        }
    }

    /// Takes another greatest age, which counts for what is appended from now on.
    pub const fn set_max_age(&mut self, max_age_ms: u64) {
        self.max_age_ms = max_age_ms;
    }

    /// The number of the next record.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The first record kept.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        self.checkpoints.front().map_or(self.next_seq, |first| first.seq)
    }

    /// What had been seen before the first record kept: who lacks any of it
    /// cannot be served from the log.
    #[must_use]
    pub fn floor(&self) -> &VersionVector {
        self.checkpoints.front().map_or(&self.end, |first| &first.before)
    }

    /// All that a write made now may have seen: the base of the next unit.
    #[must_use]
    pub const fn end(&self) -> &VersionVector {
        &self.end
    }

    /// Bytes of the records kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes_appended - self.checkpoints.front().map_or(0, |first| first.bytes_before)
    }

    /// Takes notice of the record `next_seq`: `items` in `bytes` at `time_ms`.
    pub fn append(&mut self, items: &[LogItem], bytes: u64, time_ms: u64) {
        let stretch_ms = self.stretch_since_ms.map_or(0, |since| time_ms.saturating_sub(since));
        let due = self.checkpoints.back().is_none_or(|last| {
            self.next_seq - last.seq >= RECORDS_PER_CHECKPOINT
                || self.bytes_appended - last.bytes_before >= BYTES_PER_CHECKPOINT
                || stretch_ms > self.max_age_ms / CHECKPOINTS_PER_AGE
        });
        if due {
            self.end_stretch();
        }
        self.stretch_since_ms.get_or_insert(time_ms);
        self.last_ms = time_ms;
        for item in items {
            match item {
                LogItem::Unit(unit) => unit.raise(&mut self.end),
                LogItem::Repair(vector) => self.end.join(vector),
            }
        }
        self.next_seq += 1;
        self.bytes_appended += bytes;
    }

    fn end_stretch(&mut self) {
        self.stretch_since_ms = None;
        self.checkpoints.push_back(Checkpoint {
            seq: self.next_seq,
            before: self.end.clone(),
            older_ms: self.last_ms,
            bytes_before: self.bytes_appended,
        });
    }

    /// Where to begin for a peer that has seen `vector`; `None` if the log does
    /// not reach back so far.
    #[must_use]
    pub fn locate(&self, vector: &VersionVector) -> Option<&Checkpoint> {
        let behind =
            self.checkpoints.partition_point(|checkpoint| checkpoint.before.is_covered_by(vector));
        self.checkpoints.get(behind.checked_sub(1)?)
    }

    /// The record before which who has seen `vector` has seen all that was seen
    /// here; 0 if it lacks something that the log does not hold any more.
    #[must_use]
    pub fn covered_before(&self, vector: &VersionVector) -> u64 {
        if self.end.is_covered_by(vector) {
            return self.next_seq;
        }
        self.locate(vector).map_or(0, |place| place.seq)
    }

    /// Drops what everybody has: all before the last checkpoint that `all_have`
    /// covers, and not beyond `pinned`. Returns the new first record if it moved;
    /// the records before it are the caller's to delete.
    pub fn trim_covered(&mut self, all_have: &VersionVector, pinned: u64) -> Option<u64> {
        let keep = self.checkpoints.partition_point(|checkpoint| {
            checkpoint.seq <= pinned && checkpoint.before.is_covered_by(all_have)
        });
        self.drop_before(keep.checked_sub(1)?)
    }

    /// Drops what is over the caps, whoever lacks it: the oldest records until at
    /// most `bytes` are left, and all that are older than `oldest_ms`, to the
    /// checkpoint. Of a log that nobody writes to any more nothing is left in the end.
    pub fn trim_to_caps(&mut self, bytes: u64, oldest_ms: u64) -> Option<u64> {
        if self.stretch_since_ms.is_some() && self.last_ms < oldest_ms {
            self.end_stretch();
        }
        let total = self.bytes_appended;
        let over = |next: &Checkpoint, first: &Checkpoint| {
            total - first.bytes_before > bytes || next.older_ms < oldest_ms
        };
        let pairs = self.checkpoints.iter().zip(self.checkpoints.iter().skip(1));
        let keep = pairs.take_while(|(first, next)| over(next, first)).count();
        self.drop_before(keep)
    }

    fn drop_before(&mut self, keep: usize) -> Option<u64> {
        if keep == 0 {
            return None;
        }
        self.checkpoints.drain(..keep);
        Some(self.first_seq())
    }
}

#[cfg(test)]
mod tests {
    use coppice_crdt::ActorId;

    use super::*;
    use crate::unit::{Cover, Unit};

    const ACTOR: ActorId = ActorId::from_bytes([1; 16]);

    fn write(n: u64) -> Vec<LogItem> {
        let covers = vec![Cover { actor: ACTOR, after: n - 1, upto: n }];
        vec![LogItem::Unit(Unit { covers, ..Unit::default() })]
    }

    fn seen(n: u64) -> VersionVector {
        [(ACTOR, n)].into_iter().collect()
    }

    fn log_of(writes: u64) -> ArrivalLog {
        let mut log = ArrivalLog::new(0, VersionVector::new(), u64::MAX);
        for n in 1..=writes {
            log.append(&write(n), 10, n);
        }
        log
    }

    #[test]
    fn a_peer_is_served_from_the_last_place_it_has_all_before() {
        let log = log_of(1000);
        for n in [0, 63, 64, 65, 500, 1000] {
            let place = log.locate(&seen(n)).expect("the log was never trimmed");
            assert!(place.before.is_covered_by(&seen(n)), "a gap before the place");
            assert_eq!(place.before.get(&ACTOR), place.seq, "each record here holds one write");
            assert!(n - place.seq < 64, "at most a checkpoint's distance is walked again");
        }
    }

    #[test]
    fn a_trimmed_log_refuses_peers_below_its_floor() {
        let mut log = log_of(1000);
        let first = log.trim_covered(&seen(300), u64::MAX).expect("something could go");
        assert!(first <= 300 && first > 300 - 64);
        assert_eq!(log.floor(), &seen(first));
        assert!(log.locate(&seen(first - 1)).is_none());
        assert!(log.locate(&seen(first)).is_some());
        assert_eq!(log.bytes(), (1000 - first) * 10);
        assert_eq!(log.trim_covered(&seen(300), u64::MAX), None);
    }

    #[test]
    fn what_a_repair_still_needs_is_pinned() {
        let mut log = log_of(1000);
        let first = log.trim_covered(&seen(1000), 200).expect("something could go");
        assert!(first <= 200, "a record behind the pin is gone");
    }

    #[test]
    fn caps_drop_the_oldest_records_to_a_checkpoint() {
        let mut log = log_of(1000);
        log.trim_to_caps(5_000, 0).expect("it is over the cap");
        assert!(log.bytes() <= 5_000 && log.bytes() > 5_000 - 64 * 10);
        let mut log = log_of(1000);
        log.trim_to_caps(u64::MAX, 500).expect("half of it is too old");
        assert!(log.first_seq() <= 500 && log.first_seq() > 500 - 65);
        assert_eq!(log.trim_to_caps(u64::MAX, 0), None);
    }

    #[test]
    fn a_slow_log_keeps_no_record_much_longer_than_its_age() {
        const AGE_MS: u64 = 160_000;
        let mut log = ArrivalLog::new(0, VersionVector::new(), AGE_MS);
        // A write every 7 s, and twice a pause that is longer than the age.
        let pause = |n| if n == 100 || n == 150 { 3 * AGE_MS } else { 7_000 };
        let times: Vec<u64> = (1..=200)
            .scan(0, |ms, n| {
                *ms += pause(n);
                Some(*ms)
            })
            .collect();
        let mut now_ms = 0;
        let mut next = 0;
        while now_ms < times[199] + 2 * AGE_MS {
            now_ms += 1_000;
            while times.get(next).is_some_and(|ms| *ms <= now_ms) {
                log.append(&write(next as u64 + 1), 10, times[next]);
                next += 1;
            }
            log.trim_to_caps(u64::MAX, now_ms.saturating_sub(AGE_MS));
            let oldest = times[..next].get(usize::try_from(log.first_seq()).unwrap());
            let age_ms = oldest.map_or(0, |ms| now_ms - ms);
            assert!(age_ms <= AGE_MS + AGE_MS / 16 + 1_000, "{age_ms} ms old at {now_ms}");
            let kept = times[..next].iter().filter(|ms| **ms + AGE_MS >= now_ms).count() as u64;
            assert!(log.next_seq() - log.first_seq() >= kept, "something young is gone");
        }
        assert_eq!(log.bytes(), 0, "nobody writes any more");
        assert_eq!((log.first_seq(), log.floor()), (200, &seen(200)));
        log.append(&write(201), 10, now_ms);
        assert_eq!(log.locate(&seen(200)).map(|place| place.seq), Some(200));
        assert!(log.locate(&seen(199)).is_none());
    }

    #[test]
    fn a_repair_in_the_log_raises_what_later_writes_may_have_seen() {
        let other = ActorId::from_bytes([2; 16]);
        let mut log = log_of(1);
        log.append(&[LogItem::Repair([(other, 7)].into_iter().collect())], 10, 2);
        assert_eq!(log.end().get(&other), 7);
    }
}
