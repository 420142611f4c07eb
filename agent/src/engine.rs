//! The executor of replicas: all groups of an agent over one store.
//!
//! Inputs are gathered, one commit makes them durable, and only then effects
//! come out, one at a time and in order: an answer, a frame, a closed link. The
//! caller decides when to stop between two of them, which is how a simulation
//! crashes an agent between any two effects; the agent's writer thread runs the
//! same code over RocksDB.
//!
//! One durable point: nothing a commit holds leaves before [`Engine::commit`]
//! returned. After a failed commit the engine is of no use: the caller answers
//! open tickets with "outcome unknown", reopens the store and opens a new
//! engine, whose replicas are new openings.
//!
//! No clock, no randomness, no threads: the caller brings time and random bits.

mod effect;
mod group;
mod named;
mod open;
mod removals;
mod serving;
mod syncing;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use coppice_crdt::Refusal;
use coppice_crdt::mutant::{self, Mutant};
use coppice_replication::{LinkId, Missing, Now};

pub use effect::Effect;
pub use group::{GroupFigures, GroupSettings};
pub use named::{Named, OtherGroup, Unserved};
pub use open::{AddError, OpenError, Opening, StoreIdentity};

use crate::records::RecordError;
use crate::replica_task::{Precondition, SubmitError, WriteAnswer, WriteRequest};
use crate::store::keys::{self, Slot};
use crate::store::{Batch, Durability, Read, Reader, Store, StoreError};
use group::Group;
use removals::LongRemoval;
pub use removals::RemovalProgress;
pub(crate) use serving::weight;
pub use syncing::GroupDurability;

/// About how many objects and entries the working set of a group may hold
/// between commits.
const CACHED_ITEMS: usize = 32_768;

/// Received units joined in one commit, so that answers do not wait for long.
const STEPS_PER_COMMIT: usize = 256;

/// Dead counter cells dropped in one tick.
const FLOORS_PER_TICK: usize = 256;

/// Expired registers purged in one tick.
const PURGES_PER_TICK: usize = 256;

/// Why the engine cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// All groups of an agent, over one store.
///
/// `T` is what the caller knows an open request by.
pub struct Engine<S: Store, T> {
    store: S,
    opening: Opening,
    groups: BTreeMap<Slot, Group<<S::Reader as Reader>::Snapshot>>,
    by_link: BTreeMap<LinkId, Slot>,
    answers: Vec<Unreleased<T>>,
    effects: VecDeque<Effect<T>>,
    batch: Batch,
    unsynced_since_ms: Option<u64>,
    /// Within how many milliseconds of that it has to be on disk, whatever settings
    /// are now: somebody was told so.
    sync_owed_ms: Option<u64>,
    /// Removals that take many steps, one after the other.
    removals: VecDeque<LongRemoval<T>>,
}

impl<S: Store, T> fmt::Debug for Engine<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("opening", &self.opening).finish_non_exhaustive()
    }
}

/// What a ticket is to be told once all that led to it is committed.
#[derive(Debug)]
struct Unreleased<T> {
    slot: Slot,
    ticket: T,
    answer: Result<WriteAnswer, SubmitError>,
}

impl<S: Store, T> Engine<S, T> {
    /// The store, for reading.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// The store, for a simulation to make it fail.
    pub const fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Ends the engine and gives the store back.
    pub fn into_store(self) -> S {
        self.store
    }

    /// The groups served, by slot.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.groups.keys().copied()
    }

    /// What a group looks like.
    pub fn figures(&self, slot: Slot, now: Now) -> Option<GroupFigures> {
        self.groups.get(&slot).map(|group| group.figures(now))
    }

    /// Takes new settings of a group, if it is served.
    pub(crate) fn set_settings(&mut self, slot: Slot, settings: GroupSettings) {
        self.owe_sync(slot);
        if let Some(group) = self.groups.get_mut(&slot) {
            group.set_settings(settings);
        }
    }

    /// Stops serving a group; its records stay.
    pub fn remove_group(&mut self, slot: Slot) {
        self.owe_sync(slot);
        self.groups.remove(&slot);
        // What is not committed yet goes with the group.
        for unreleased in self.answers.iter_mut().filter(|unreleased| unreleased.slot == slot) {
            if unreleased.answer.is_ok() {
                unreleased.answer = Err(SubmitError::OutcomeUnknown);
            }
        }
        self.drop_removals(slot);
        self.by_link.retain(|_, of| *of != slot);
    }

    /// Carries out a write. Its answer is an effect of the next commit; that of
    /// a removal that takes many steps, of a later one.
    ///
    /// # Errors
    ///
    /// If the store fails: the engine cannot go on.
    pub fn submit(
        &mut self,
        slot: Slot,
        request: &WriteRequest,
        ticket: T,
        now: Now,
    ) -> Result<(), EngineError> {
        let Some(group) = self.groups.get_mut(&slot) else {
            self.answers.push(Unreleased { slot, ticket, answer: Err(SubmitError::GroupGone) });
            return Ok(());
        };
        let answer = loop {
            match group.write(request, now) {
                Ok(answer) => break answer,
                Err(Missing(read)) => group.load(&self.store, &read)?,
            }
        };
        match answer {
            Err(SubmitError::Refused { refusal: Refusal::NeedsSteps { .. }, .. })
                if request.operations.len() == 1 =>
            {
                self.put_off(slot, request, ticket);
            }
            answer => self.answers.push(Unreleased { slot, ticket, answer }),
        }
        Ok(())
    }

    /// A connection to a peer of a group is up.
    pub fn link_up(&mut self, slot: Slot, link: LinkId, dialled: bool, now: Now) {
        if let Some(group) = self.groups.get_mut(&slot) {
            self.by_link.insert(link, slot);
            group.replica.link_up(link, dialled, now);
        }
    }

    /// A connection is down.
    pub fn link_down(&mut self, link: LinkId) {
        let slot = self.by_link.remove(&link);
        if let Some(group) = slot.and_then(|slot| self.groups.get_mut(&slot)) {
            group.replica.link_down(link);
        }
    }

    /// A frame came over a link.
    pub fn receive(&mut self, link: LinkId, frame: &[u8], now: Now) {
        let slot = self.by_link.get(&link);
        if let Some(group) = slot.and_then(|slot| self.groups.get_mut(slot)) {
            group.replica.receive(link, frame, now);
        }
    }

    /// All that is in a group's log is to be sent now.
    pub fn sync_now(&mut self, slot: Slot) {
        if let Some(group) = self.groups.get_mut(&slot) {
            group.replica.sync_now();
        }
    }

    /// Exchanges with the peers of a group, in both directions; the number by
    /// which its members' traffic tells that it is over.
    pub fn exchange_now(&mut self, slot: Slot) -> Option<u64> {
        self.groups.get_mut(&slot).map(|group| group.replica.exchange_now())
    }

    /// Lets time pass; to be called every 50 ms or so.
    ///
    /// # Errors
    ///
    /// If the store fails: the engine cannot go on.
    pub fn tick(&mut self, now: Now) -> Result<(), EngineError> {
        for group in self.groups.values_mut() {
            group.replica.tick(now);
            for (deadline_ms, key) in
                group.records(&self.store).expired(now.wall_ms, PURGES_PER_TICK)?
            {
                while let Err(Missing(read)) = group.replica.purge(&key, deadline_ms, now) {
                    group.load(&self.store, &read)?;
                }
            }
            drop_floors(group, &self.store)?;
        }
        Ok(())
    }

    /// Whether to commit again at once: received changes wait to be joined, or
    /// something takes many steps, or what its last one wrote waits.
    pub fn has_work(&self) -> bool {
        let removes = !self.removals.is_empty() || !self.answers.is_empty();
        removes || self.groups.values().any(|group| group.replica.has_work())
    }

    /// Joins what was received, writes everything in one batch, and fsyncs if
    /// any of it asks for that. From then on its effects may leave.
    ///
    /// # Errors
    ///
    /// If the store fails: which of the batch is there is unknown, and the
    /// engine cannot go on. [`Engine::abandon`] gives the open tickets.
    pub fn commit(&mut self, now: Now) -> Result<(), EngineError> {
        if mutant::is(Mutant::AnswerBeforeCommit) && self.owes_sync() {
            self.sync(now)?;
        }
        self.batch.clear();
        let mut sync = false;
        for (&slot, group) in &mut self.groups {
            group.join_received(&self.store, now)?;
            let writes = group.replica.seal(now);
            sync |= !writes.is_empty() && group.settings.durability == GroupDurability::Always;
            for (key, value) in writes {
                let (table, key) = keys::record(slot, &key);
                match value {
                    Some(value) => self.batch.put(table, &key, &value),
                    None => self.batch.delete(table, &key),
                }
            }
        }
        sync &= !mutant::is(Mutant::AnswerBeforeCommit);
        if !self.batch.is_empty() {
            let durability = if sync { Durability::Sync } else { Durability::NoSync };
            self.store.commit(&self.batch, durability)?;
            self.unsynced_since_ms =
                if sync { None } else { self.unsynced_since_ms.or(Some(now.steady_ms)) };
            self.sync_owed_ms = self.sync_owed_ms.filter(|_| !sync);
        }
        for group in self.groups.values_mut() {
            group.committed(sync, now);
        }
        for Unreleased { ticket, answer, .. } in self.answers.drain(..) {
            self.effects.push_back(Effect::Answer(ticket, answer));
        }
        self.release();
        self.sync_if_due(now)?;
        self.go_on_removing(now)?;
        for group in self.groups.values_mut() {
            while let Err(Missing(read)) = group.replica.after_commit() {
                group.load(&self.store, &read)?;
            }
        }
        Ok(())
    }

    /// Who this opening of the store is.
    pub const fn opening(&self) -> &Opening {
        &self.opening
    }
}

/// Drops dead counter cells that their owners can raise no more, some at a time.
fn drop_floors<S: Store, Snapshot: Read>(
    group: &mut Group<Snapshot>,
    store: &S,
) -> Result<(), EngineError> {
    let mut room = FLOORS_PER_TICK;
    for (owner, before) in group.replica.settled_owners() {
        let cells = group.records(store).dead_cells(owner, before, room)?;
        room = room.saturating_sub(cells.len());
        for (cell, died) in cells {
            while let Err(Missing(read)) = group.replica.drop_dead_cell(&cell, &died) {
                group.load(store, &read)?;
            }
        }
        if room == 0 {
            return Ok(()); // The rest is found by the next tick.
        }
        group.replica.floors_cleared(owner, before);
    }
    Ok(())
}

/// Whether a precondition holds for an object with this etag (`None`: absent).
fn holds(precondition: &Precondition, etag: Option<&str>) -> bool {
    match precondition {
        Precondition::Matches(any) if any.is_empty() => etag.is_some(),
        Precondition::Matches(any) => etag.is_some_and(|etag| any.iter().any(|one| one == etag)),
        Precondition::MatchesNone(any) if any.is_empty() => etag.is_none(),
        Precondition::MatchesNone(none) => {
            etag.is_none_or(|etag| none.iter().all(|one| one != etag))
        }
    }
}
