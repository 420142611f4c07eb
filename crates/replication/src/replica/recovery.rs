//! From what a store holds to a replica.

use std::collections::{BTreeMap, VecDeque};

use coppice_crdt::{CrdtType, EntryRange, HybridClock, HybridTimestamp, VersionVector};

use super::repairing::Repairing;
use super::{Counters, Identity, Now, Replica, ReplicaSettings, Start};
use crate::arrival_log::ArrivalLog;
use crate::membership::Membership;
use crate::record::{HeadRecord, LogItem, LogRecord, RANGES, RepairRecord, Totals};
use crate::working_set::WorkingSet;

/// What a store holds is not what this replica can go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// The group's objects are of another type than is configured.
    #[error(
        "the stored group is {}, not {}; a group's type cannot change: give the new group another name",
        stored.with_article(), configured.with_article()
    )]
    TypeMismatch {
        /// What the store holds.
        stored: CrdtType,
        /// What is configured.
        configured: CrdtType,
    },
    /// A record of the arrival log is not there.
    #[error("record {expected} of the arrival log is missing, the next is {found}")]
    LogGap {
        /// The record expected.
        expected: u64,
        /// The record found.
        found: u64,
    },
    /// The head record does not have one digest per range.
    #[error("the head record is damaged")]
    DamagedHead,
}

/// A replica that is being read from its store: give it every log record, in
/// order, then finish.
#[derive(Debug)]
pub struct Recovered {
    identity: Identity,
    settings: ReplicaSettings,
    head: HeadRecord,
    log: ArrivalLog,
    repair: RepairRecord,
    digests: Box<[u128; RANGES]>,
    empty: bool,
}

impl Recovered {
    /// Begins with the head record and the repair record, if the store has them.
    ///
    /// # Errors
    ///
    /// If they do not fit the identity, or are damaged.
    pub fn new(
        identity: Identity,
        settings: ReplicaSettings,
        head: Option<HeadRecord>,
        repair: Option<RepairRecord>,
    ) -> Result<Self, RecoveryError> {
        let empty = head.is_none();
        let head = head.unwrap_or_else(|| HeadRecord {
            crdt_type: identity.crdt_type,
            next_seq: 0,
            first_seq: 0,
            floor: VersionVector::new(),
            vector: VersionVector::new(),
            stamp_bound: 0,
            totals: Totals::default(),
            digests: vec![0; RANGES],
            former_actors: Vec::new(),
        });
        if head.crdt_type != identity.crdt_type {
            let (stored, configured) = (head.crdt_type, identity.crdt_type);
            return Err(RecoveryError::TypeMismatch { stored, configured });
        }
        let digests: Box<[u128; RANGES]> = head
            .digests
            .clone()
            .into_boxed_slice()
            .try_into()
            .map_err(|_| RecoveryError::DamagedHead)?;
        let log = ArrivalLog::new(head.first_seq, head.floor.clone(), settings.log_age_ms);
        let repair = repair.unwrap_or_default();
        Ok(Self { identity, settings, head, log, repair, digests, empty })
    }

    /// The first log record to read.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        self.log.first_seq()
    }

    /// Takes the next log record, `bytes` long.
    ///
    /// # Errors
    ///
    /// If one is missing before it.
    pub fn replay(
        &mut self,
        seq: u64,
        record: &LogRecord,
        bytes: u64,
    ) -> Result<(), RecoveryError> {
        let expected = self.log.next_seq();
        if seq != expected {
            return Err(RecoveryError::LogGap { expected, found: seq });
        }
        self.empty = false;
        self.log.append(&record.items, bytes, record.time_ms);
        if seq >= self.head.next_seq {
            for item in &record.items {
                if let LogItem::Unit(unit) = item {
                    unit.raise(&mut self.head.vector);
                }
            }
            self.head.totals = record.totals;
            for &(range, digest) in &record.digests {
                if let Some(slot) = self.digests.get_mut(usize::from(range)) {
                    *slot = digest;
                }
            }
        }
        Ok(())
    }

    /// The replica. All that the store held when it was opened counts as on disk.
    ///
    /// # Errors
    ///
    /// If log records are missing that the head record counted on.
    pub fn finish(self, now: Now) -> Result<Replica, RecoveryError> {
        if self.log.next_seq() < self.head.next_seq {
            let (expected, found) = (self.head.next_seq, self.log.next_seq());
            return Err(RecoveryError::LogGap { expected: found, found: expected });
        }
        let bound = HybridTimestamp::from_bits(self.head.stamp_bound);
        let vector = self.head.vector;
        let etag_key = self.identity.etag_key();
        let crdt_type = self.identity.crdt_type;
        let mut set = WorkingSet::new(crdt_type, etag_key, self.head.totals, self.digests);
        set.set_own(self.identity.opening);
        set.pace = self.settings.removals;
        let (store, number) = (self.identity.store, self.identity.opening_number);
        let members = Membership::new(store, number, self.settings.forget_ms());
        Ok(Replica {
            set,
            identity: self.identity,
            settings: self.settings,
            seen: vec![(EntryRange::all(), vector.clone())],
            visible: vector.clone(),
            durable: vector,
            head_seq: self.head.next_seq,
            log: self.log,
            pending: Vec::new(),
            clock: HybridClock::resume(bound),
            stamp_bound: bound,
            head_due: false,
            former_actors: self.head.former_actors,
            links: BTreeMap::new(),
            last_exchange: 0,
            members,
            reports: 0,
            settling: super::floors::Settling::default(),
            begun: None,
            inbox: VecDeque::new(),
            joined_objects: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            repair: self.repair,
            repairing: Repairing::default(),
            extra_writes: Vec::new(),
            sweeps: super::sweeping::Sweeps::default(),
            removing: None,
            outputs: Vec::new(),
            served: BTreeMap::new(),
            counters: Counters::default(),
            start: Start {
                empty: self.empty,
                opened_ms: now.steady_ms,
                heard_anyone: false,
                reached_peer: false,
            },
        })
    }
}
