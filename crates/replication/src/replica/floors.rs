//! When the floor of a dead counter cell can be dropped.
//!
//! A cell of which everything is removed is kept for its floor: an increment
//! that the removal had not seen may still arrive, and only what stands above the
//! floor counts. It can go once no such increment can be under way: the owner
//! reported, over a link or through others, to have seen all that was seen here
//! when the cell died, so that its next increment opens a new cell, and all that
//! the owner had issued by that report is here. An own cell goes at once.
//!
//! A cell may die, live again by an increment that was under way, and die anew:
//! then only its last death counts, for the owner may know of the first alone. A
//! record of a death therefore holds the cell as it was left dead. Amounts and
//! floors only rise, so a cell that is not exactly that any more has lived since,
//! or another removal took more of it; then the record says nothing, and either
//! the cell is alive or a later record stands for it.
//!
//! `tests/model_counter_removal.rs` checks the rule and what breaks without it.

use std::collections::BTreeMap;

use coppice_crdt::mutant::{self, Mutant};
use coppice_crdt::{ActorId, Amounts, Cell, Entry, VersionVector};

use super::Replica;
use crate::record::{DeadCell, RecordKey, RecordWrite, encode_entry};
use crate::working_set::{Missing, without_dead};

/// So many owners' reports are looked at in one tick, in turns.
const OWNERS_PER_TICK: usize = 64;

/// How far the owners of cells know what is in the log here.
#[derive(Debug, Default)]
pub(super) struct Settling {
    owners: BTreeMap<ActorId, Owner>,
    after: Option<ActorId>,
}

#[derive(Debug, Default)]
struct Owner {
    /// A report that is looked at until all that the owner had issued by then is
    /// here. Under traffic the newest is always ahead of what came.
    report: Option<VersionVector>,
    /// Cells that died before this log record and did not change since are settled.
    settled: u64,
    /// All that died before this log record and was settled is dropped.
    cleared: u64,
}

impl Replica {
    /// Remembers which cells of others died with what is being sealed.
    pub(super) fn note_dead_cells(&mut self, writes: &mut Vec<RecordWrite>) {
        for (key, name, cell) in self.set.take_newly_dead() {
            let Some(owner) = crate::working_set::owner_of(&name) else { continue };
            let object = self.set.id_of(&key);
            // What is sealed goes to this log record; without one, the vector
            // before the next record covers at least as much.
            let died_seq = self.log.next_seq();
            let died = encode_entry(&Entry::Cells(vec![cell]));
            let cell = DeadCell { owner, died_seq, birth: cell.birth, object, name };
            writes.push((RecordKey::Floor(cell), Some(died)));
        }
    }

    /// Looks at what owners reported, a bounded number of them.
    pub(super) fn settle_floors(&mut self) {
        if self.is_under_repair() {
            return;
        }
        let Settling { owners, after } = &mut self.settling;
        let members = &self.members;
        owners.retain(|owner, _| members.get(owner).is_some());
        let mut looked_at = 0;
        let from = after.take();
        for (opening, member) in members.behind(from) {
            looked_at += 1;
            if looked_at > OWNERS_PER_TICK {
                break;
            }
            *after = Some(*opening);
            let here = self.visible.get(opening);
            if here == 0 {
                continue; // It has no cells.
            }
            let owner = owners.entry(*opening).or_default();
            if owner.settled == self.log.next_seq() {
                continue;
            }
            let report = owner.report.as_ref().unwrap_or(&member.seen);
            if report.get(opening) <= here {
                owner.settled = owner.settled.max(self.log.covered_before(report));
                owner.report = None;
            } else if owner.report.is_none() {
                owner.report = Some(member.seen.clone());
            }
        }
        if looked_at <= OWNERS_PER_TICK {
            *after = None;
        }
    }

    /// Owners whose dead cells can be dropped, with the log record before which
    /// they must have died. The owner of the replica tells of each when it has
    /// dropped them all ([`Replica::floors_cleared`]).
    #[must_use]
    pub fn settled_owners(&self) -> Vec<(ActorId, u64)> {
        if self.is_under_repair() {
            return Vec::new();
        }
        let owners = self.settling.owners.iter().filter(|(_, owner)| owner.settled > owner.cleared);
        owners.map(|(&id, owner)| (id, owner.settled)).collect()
    }

    /// Takes notice that no record is left of cells of `owner` that died before
    /// the log record `before`.
    pub fn floors_cleared(&mut self, owner: ActorId, before: u64) {
        if let Some(owner) = self.settling.owners.get_mut(&owner) {
            owner.cleared = owner.cleared.max(before);
        }
    }

    /// Drops a dead cell of a settled owner if it is as `died` says, which is what
    /// its record holds; the record goes in any case.
    ///
    /// # Errors
    ///
    /// [`Missing`]: supply it and call again; nothing was changed.
    pub fn drop_dead_cell(&mut self, cell: &DeadCell, died: &Entry) -> Result<(), Missing> {
        let key = &cell.object.key;
        let old = self.set.entry(key, &cell.name)?;
        if let (Some(Entry::Cells(mut cells)), Entry::Cells(died)) = (old.clone(), died) {
            if mutant::is(Mutant::FloorDroppedAlive) {
                let again = |alive: &&mut Cell| alive.birth == cell.birth && alive.is_live();
                let alive = cells.iter_mut().filter(again);
                alive.for_each(|alive| alive.floor = Amounts::default());
            }
            let new = without_dead(cells, |dead| dead.birth == cell.birth && died.contains(dead));
            let savepoint = self.set.savepoint();
            if let Err(missing) = self.set.replace_entry(key, &cell.name, old.as_ref(), new) {
                self.set.rollback(savepoint);
                return Err(missing);
            }
        }
        self.extra_writes.push((RecordKey::Floor(cell.clone()), None));
        Ok(())
    }
}
