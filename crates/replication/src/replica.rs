//! One group's replica: inputs in, effects out.
//!
//! The owner (the agent's writer thread, or a simulation) calls, in this order
//! and never interleaved:
//!
//! 1. inputs, any number: [`Replica::submit`] for local writes,
//!    [`Replica::receive`] for frames, [`Replica::step`] until it is idle,
//!    [`Replica::tick`];
//! 2. [`Replica::seal`]: the records of one commit. The owner writes them, in
//!    one atomic batch, and fsyncs if that was asked for;
//! 3. [`Replica::committed`]: from now on what was written may be seen;
//! 4. [`Replica::after_commit`]: a little of what takes many steps;
//! 5. outputs: [`Replica::take_outputs`] and [`Replica::wanted_records`].
//!
//! Nothing that a commit holds leaves before step 3: that is the one durable
//! point. If a commit fails, the replica is dropped and recovered from its store
//! as a new opening, so that no dot is ever used twice.
//!
//! Inputs that touch records which are not loaded answer [`crate::Missing`]; the owner
//! supplies them to the working set and calls again with the same input.

mod floors;
mod identity;
mod links;
mod recovery;
mod removing;
mod repairing;
mod sweeping;
mod writing;

use std::collections::{BTreeMap, VecDeque};

use coppice_crdt::{EntryRange, HybridClock, HybridTimestamp, VersionVector};

pub use identity::Identity;
pub use links::{LinkStatus, MemberView, Traffic};
pub use recovery::{Recovered, RecoveryError};
pub use repairing::{Contexts, LocalListing};
pub use writing::{Submission, SubmitRefusal, WriteLimits};

use crate::arrival_log::ArrivalLog;
use crate::codec::DecodeError;
use crate::effect::{CloseReason, LinkId, Output};
use crate::membership::Membership;
use crate::message::PROTOCOL_VERSION;
use crate::record::{HeadRecord, LogItem, LogRecord, RecordKey, RecordWrite, RepairRecord};
use crate::unit::Unit;
use crate::working_set::{RemovalPace, WorkingSet};

use links::{Link, Waiting};
use repairing::Repairing;

/// The state is written to the head record at least every so many log records.
const RECORDS_PER_HEAD: u64 = 256;

/// How far ahead of its use a bound of register stamps is persisted, in milliseconds.
const STAMP_LEASE_MS: u64 = 1_000;

/// What a replica may keep and how fast it sends; may change at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaSettings {
    /// Whether deltas leave as soon as they are committed.
    pub eager: bool,
    /// How often deltas leave in any case, and how long a relayed unit is held
    /// back for a peer that has a link with its origin, in milliseconds.
    pub interval_ms: u64,
    /// The log is trimmed above so many bytes, whoever lacks what.
    pub log_bytes: u64,
    /// The log is trimmed of what is older, whoever lacks it, in milliseconds.
    pub log_age_ms: u64,
    /// How long a replica that opened empty counts as bootstrapping while it
    /// hears nobody, in milliseconds.
    pub startup_wait_ms: u64,
    /// Whether there are peers to be heard.
    pub expects_peers: bool,
    /// A frame of deltas takes no further unit once it holds about so many bytes.
    pub frame_bytes: usize,
    /// How large removals are carried out.
    pub removals: RemovalPace,
}

impl ReplicaSettings {
    /// After how long a member that nobody heard is forgotten, in milliseconds:
    /// when the log no longer holds what it lacks, but not before a day is over.
    const fn forget_ms(&self) -> u64 {
        const DAY_MS: u64 = 86_400_000;
        if self.log_age_ms > DAY_MS { self.log_age_ms } else { DAY_MS }
    }
}

/// Counts since the replica was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Writes sent to peers.
    pub deltas_sent: u64,
    /// Writes received from peers, those already known included.
    pub deltas_received: u64,
    /// Writes received and joined.
    pub deltas_merged: u64,
    /// Repairs by state that this replica completed.
    pub repairs_completed: u64,
    /// Repairs by state that this replica began to serve.
    pub repairs_served: u64,
    /// Times a peer with the same vector had another digest.
    pub digest_mismatches: u64,
    /// Times the log was trimmed.
    pub trims: u64,
    /// Expired registers that this replica purged.
    pub purges: u64,
    /// Ranges that a large removal hid and that were swept.
    pub ranges_swept: u64,
}

/// The clocks an input comes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Wall time in milliseconds since 1970; may jump.
    pub wall_ms: u64,
    /// Milliseconds of a clock that only runs forward.
    pub steady_ms: u64,
}

/// One group's replica.
#[derive(Debug)]
pub struct Replica {
    identity: Identity,
    settings: ReplicaSettings,
    /// All that was seen, as the context of every entry: one range, or while a
    /// repair is under way the context of what it has not reached.
    seen: Vec<(EntryRange, VersionVector)>,
    /// `seen` as of the last commit: what may be told to others.
    visible: VersionVector,
    /// What of it is on disk.
    durable: VersionVector,
    log: ArrivalLog,
    set: WorkingSet,
    pending: Vec<LogItem>,
    clock: HybridClock,
    stamp_bound: HybridTimestamp,
    head_seq: u64,
    head_due: bool,
    former_actors: Vec<coppice_crdt::ActorId>,
    links: BTreeMap<LinkId, Link>,
    last_exchange: u64,
    members: Membership,
    /// Answers to peers so far, over all links.
    reports: u64,
    settling: floors::Settling,
    /// A submission that waits for records.
    begun: Option<writing::Begun>,
    inbox: VecDeque<(LinkId, Unit, VersionVector)>,
    /// So many objects of the inbox's first unit are joined already.
    joined_objects: usize,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    repair: RepairRecord,
    repairing: Repairing,
    extra_writes: Vec<RecordWrite>,
    sweeps: sweeping::Sweeps,
    removing: Option<removing::Removing>,
    outputs: Vec<Output>,
    served: BTreeMap<LinkId, repairing::Served>,
    counters: Counters,
    start: Start,
}

/// How this opening of the replica began.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// The store held nothing.
    empty: bool,
    /// On the owner's steady clock.
    opened_ms: u64,
    /// Some peer said hello.
    heard_anyone: bool,
    /// All that some peer had seen is here.
    reached_peer: bool,
}

impl Replica {
    /// Who this replica is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What was committed here: the vector that peers and readers may be told.
    #[must_use]
    pub const fn visible(&self) -> &VersionVector {
        &self.visible
    }

    /// What of it is on disk.
    #[must_use]
    pub const fn durable(&self) -> &VersionVector {
        &self.durable
    }

    /// Counts since the replica was opened.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The working set: to supply what was [`crate::Missing`], and for figures.
    pub const fn working_set(&mut self) -> &mut WorkingSet {
        &mut self.set
    }

    /// Bytes of the arrival log.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Objects and entries that exist, changes not yet committed included.
    #[must_use]
    pub const fn totals(&self) -> crate::record::Totals {
        self.set.totals()
    }

    /// The sum of the range digests: equal for replicas with equal live state.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.set.digests().iter().fold(0, |sum, digest| sum.wrapping_add(*digest))
    }

    /// The actors of former openings of this store that wrote.
    #[must_use]
    pub fn former_actors(&self) -> &[coppice_crdt::ActorId] {
        &self.former_actors
    }

    /// Takes other settings.
    pub const fn set_settings(&mut self, settings: ReplicaSettings) {
        self.log.set_max_age(settings.log_age_ms);
        self.members.set_forget_ms(settings.forget_ms());
        self.set.pace = settings.removals;
        self.settings = settings;
    }

    /// What was seen everywhere in the group's state.
    fn seen(&self) -> &VersionVector {
        &self.seen[0].1
    }

    fn raise_seen(&mut self, unit: &Unit) {
        unit.raise(&mut self.seen[0].1);
    }

    /// Whether this replica is still being filled by its peers.
    #[must_use]
    pub fn is_bootstrapping(&self, now: Now) -> bool {
        self.is_under_repair()
            || (self.start.empty
                && self.settings.expects_peers
                && !self.start.heard_anyone
                && now.steady_ms.saturating_sub(self.start.opened_ms)
                    < self.settings.startup_wait_ms)
    }

    /// Whether the first exchange reached a peer's vector, or nobody is to be
    /// expected, or the wait for it is over.
    #[must_use]
    pub fn has_started(&self, now: Now) -> bool {
        self.start.reached_peer
            || !self.settings.expects_peers
            || now.steady_ms.saturating_sub(self.start.opened_ms) >= self.settings.startup_wait_ms
    }

    /// The records of all changes since the last seal, as one atomic batch; empty
    /// if nothing changed.
    pub fn seal(&mut self, now: Now) -> Vec<RecordWrite> {
        self.forget_listing();
        // What was decided on committed state first: a change made since then is
        // to stand, as that of an entry whose old form a sweep deletes.
        let mut writes = std::mem::take(&mut self.extra_writes);
        writes.append(&mut self.set.take_writes());
        self.begin_sweeps(&mut writes);
        self.note_dead_cells(&mut writes);
        let items = std::mem::take(&mut self.pending);
        let digests = self.set.take_digests();
        if !items.is_empty() {
            let record =
                LogRecord { time_ms: now.wall_ms, items, totals: self.set.totals(), digests };
            let bytes = record.encode();
            let seq = self.log.next_seq();
            self.log.append(&record.items, bytes.len() as u64, now.wall_ms);
            writes.push((RecordKey::Log(seq), Some(bytes)));
        } else if !digests.is_empty() {
            self.head_due = true;
        }
        if self.clock.last() > self.stamp_bound {
            let bound = HybridTimestamp::new(self.clock.last().ms() + STAMP_LEASE_MS, 0);
            self.stamp_bound = bound;
            self.head_due = true;
        }
        let overdue = self.log.next_seq() - self.head_seq >= RECORDS_PER_HEAD;
        if self.head_due || overdue {
            self.head_due = false;
            self.head_seq = self.log.next_seq();
            writes.push((RecordKey::Head, Some(self.head_record().encode())));
        }
        writes
    }

    fn head_record(&self) -> HeadRecord {
        HeadRecord {
            crdt_type: self.identity.crdt_type,
            next_seq: self.log.next_seq(),
            first_seq: self.log.first_seq(),
            floor: self.log.floor().clone(),
            vector: self.seen().clone(),
            stamp_bound: self.stamp_bound.bits(),
            totals: self.set.totals(),
            digests: self.set.digests().to_vec(),
            former_actors: self.actors_written(),
        }
    }

    /// Former actors, and this opening's once it wrote.
    fn actors_written(&self) -> Vec<coppice_crdt::ActorId> {
        let mut actors = self.former_actors.clone();
        if self.seen().get(&self.identity.opening) > 0 {
            actors.push(self.identity.opening);
        }
        actors
    }

    /// Takes notice that everything sealed is committed, and on disk if `synced`.
    pub fn committed(&mut self, synced: bool, now: Now) {
        let risen = self.visible != *self.seen();
        if risen {
            self.visible = self.seen().clone();
        }
        if synced && self.durable != self.visible {
            self.durable = self.visible.clone();
        }
        if risen {
            self.wake_links(now);
        }
        self.tell_ended(now);
        #[cfg(debug_assertions)]
        self.debug_check();
    }

    /// Takes notice that everything committed is on disk.
    pub fn mark_durable(&mut self, now: Now) {
        if self.durable != self.visible {
            self.durable = self.visible.clone();
            self.tell_durable(now);
        }
    }

    /// What the owner is to do, in order. Call only after [`Self::committed`].
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    fn send(&mut self, link: LinkId, message: &crate::message::Message) {
        let frame = self.encode_for(link, message);
        self.outputs.push(Output::Send(link, frame));
    }

    /// A frame's bytes in the version that the peer speaks.
    #[must_use]
    pub fn encode_for(&self, link: LinkId, message: &crate::message::Message) -> Vec<u8> {
        let version = self.links.get(&link).map_or(PROTOCOL_VERSION, |link| link.version);
        message.encode_at(version)
    }

    fn close_damaged(&mut self, link: LinkId, error: DecodeError) {
        let reason = match error {
            DecodeError::UnsupportedVersion(_) => CloseReason::UnsupportedVersion,
            DecodeError::Oversized(_) => CloseReason::OversizedFrame,
            _ => CloseReason::MalformedFrame,
        };
        self.close(link, reason);
    }

    /// Checks what holds after every commit.
    #[cfg(debug_assertions)]
    fn debug_check(&self) {
        debug_assert!(
            self.durable.is_covered_by(&self.visible),
            "nothing is on disk that was not committed"
        );
        debug_assert!(
            self.visible.is_covered_by(self.log.end()),
            "a write's base covers all that it may have seen"
        );
        debug_assert!(
            self.log.floor().is_covered_by(&self.visible) || self.is_under_repair(),
            "what was trimmed from the log was here"
        );
    }
}

#[cfg(test)]
mod tests;
