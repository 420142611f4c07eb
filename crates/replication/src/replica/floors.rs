//! When the floor of a dead counter cell can be dropped.
//!
//! A cell of which everything is removed is kept for its floor: an increment
//! that the removal had not seen may still arrive, and only what stands above the
//! floor counts. It can go once no such increment can be under way: the owner
//! reported to have seen all that was seen here when the cell died, so that its
//! next increment opens a new cell, and all that the owner had issued by that
//! report is here. An own cell goes at once.
//!
//! `tests/model_counter_removal.rs` checks the rule and what breaks without it.

use coppice_crdt::{ActorId, Entry};

use super::Replica;
use crate::record::{DeadCell, RecordKey, RecordWrite};
use crate::working_set::{Missing, without_dead};

impl Replica {
    /// Remembers which cells of others died with what is being sealed.
    pub(super) fn note_dead_cells(&mut self, writes: &mut Vec<RecordWrite>) {
        for (key, name, birth) in self.set.take_newly_dead() {
            let Some(owner) = crate::working_set::owner_of(&name) else { continue };
            let object = self.set.id_of(&key);
            // What is sealed goes to this log record; without one, the vector
            // before the next record covers at least as much.
            let died_seq = self.log.next_seq();
            let cell = DeadCell { owner, died_seq, birth, object, name };
            writes.push((RecordKey::Floor(cell), Some(Vec::new())));
        }
    }

    /// Owners whose dead cells can be dropped, with the log record before which
    /// they must have died.
    #[must_use]
    pub fn settled_owners(&self) -> Vec<(ActorId, u64)> {
        if self.is_under_repair() {
            return Vec::new();
        }
        let settled = self.members.iter().filter_map(|(&owner, member)| {
            let here = self.visible.get(&owner);
            if member.link.is_none() || here == 0 || here < member.seen.get(&owner) {
                return None;
            }
            // All that is here, and not only what was here when a cell died: one
            // that lived again and died anew has two records.
            let knows_all = self.log.end().is_covered_by(&member.seen);
            knows_all.then(|| (owner, self.log.next_seq()))
        });
        settled.collect()
    }

    /// Drops a dead cell of a settled owner; one that lives again stays.
    ///
    /// # Errors
    ///
    /// [`Missing`]: supply it and call again; nothing was changed.
    pub fn drop_dead_cell(&mut self, cell: &DeadCell) -> Result<(), Missing> {
        let key = &cell.object.key;
        let old = self.set.entry(key, &cell.name)?;
        if let Some(Entry::Cells(cells)) = old.clone() {
            let new = without_dead(cells, |dead| dead.birth == cell.birth);
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
