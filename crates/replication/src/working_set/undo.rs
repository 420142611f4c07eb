//! Taking changes back that a missing record, or a refusal, cut short.

use std::collections::BTreeMap;
use std::sync::Arc;

use coppice_crdt::{Entry, EntryKey, FieldHeader, Header, RangeRemoval};

use super::WorkingSet;
use super::object::Slot;
use crate::unit::ObjectKey;

/// What one change replaced.
#[derive(Debug)]
pub(super) struct Undo {
    pub(super) key: ObjectKey,
    pub(super) header: Option<Header>,
    pub(super) change: Undone,
    pub(super) was_dirty: bool,
    pub(super) touched_ranges: u64,
}

#[derive(Debug)]
pub(super) enum Undone {
    Entry {
        name: EntryKey,
        slot: Option<Slot<Entry>>,
        field: Option<(Arc<str>, Option<Slot<FieldHeader>>)>,
        deadline_ms: Option<u64>,
        /// How many cells had died before.
        dead: usize,
    },
    /// What was hidden before, under which generation, and the fields whose
    /// summaries are other ones.
    Hidden { before: (Vec<RangeRemoval>, u64), fields: Vec<(Arc<str>, Option<Slot<FieldHeader>>)> },
}

/// A point to which changes can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savepoint(usize);

impl WorkingSet {
    /// Where changes can be taken back to.
    #[must_use]
    pub fn savepoint(&self) -> Savepoint {
        Savepoint(self.undo.len())
    }

    /// Takes back all changes since `savepoint`.
    pub fn rollback(&mut self, savepoint: Savepoint) {
        while self.undo.len() > savepoint.0 {
            let Some(undo) = self.undo.pop() else { return };
            self.set_header(&undo.key, undo.header);
            self.touched_ranges = undo.touched_ranges;
            match undo.change {
                Undone::Entry { name, slot, field, deadline_ms, dead } => {
                    self.newly_dead.truncate(dead);
                    self.count_change(&undo.key, &name, slot.as_ref());
                    let Some(object) = self.objects.get_mut(&undo.key) else { continue };
                    restore(&mut object.entries, name, slot);
                    if let Some((name, field)) = field {
                        restore(&mut object.fields, name, field);
                    }
                    object.deadline_ms = deadline_ms;
                }
                Undone::Hidden { before, fields } => {
                    self.newly_hidden.pop();
                    let Some(object) = self.objects.get_mut(&undo.key) else { continue };
                    (object.hidden, object.generation) = before;
                    for (name, slot) in fields.into_iter().rev() {
                        restore(&mut object.fields, name, slot);
                    }
                }
            }
            let Some(object) = self.objects.get_mut(&undo.key) else { continue };
            if !undo.was_dirty {
                // Changes are taken back last first, and this one was the first
                // of its object: it stands at the end.
                object.dirty = false;
                self.dirty.pop();
            }
        }
    }
}

fn restore<K: Ord, T>(slots: &mut BTreeMap<K, Slot<T>>, name: K, slot: Option<Slot<T>>) {
    match slot {
        Some(slot) => slots.insert(name, slot),
        None => slots.remove(&name),
    };
}
