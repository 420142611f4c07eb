//! What an operation changed, in a form that joins with state and with itself.
//!
//! An [`ObjectDelta`] speaks about one object: per entry what was put there and
//! what was removed, by dot; and, for a removal too large to name its dots, a
//! range of entries with the context that the remover had seen of it. Deltas of
//! one object join to one delta-group, in any order: this is how a frame
//! coalesces many operations. A dot that a later write superseded is named as
//! removed, so that a receiver which has it already drops it.
//!
//! Pure: no clock, no IO, no randomness.
//! Source: Almeida, Shoker, Baquero, arXiv:1603.01529, section 4 (delta-groups).

use std::collections::BTreeMap;
use std::collections::btree_map;

use crate::entry::Dotted;
use crate::{ActorId, Amounts, Cell, Dot, Entry, EntryKey, Version, VersionVector};

/// What some operations changed in one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectDelta {
    /// Changes by entry.
    pub entries: BTreeMap<EntryKey, EntryDelta>,
    /// Large removals: everything in a range of entries that a context covers.
    pub removals: Vec<RangeRemoval>,
}

/// The change of one entry. `removed` names dots that are gone, among them those
/// that the new ones replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryDelta {
    /// Of an existence, an element, an enabled flag. Both ascending, disjoint.
    Dots {
        /// New dots.
        added: Vec<Dot>,
        /// Dots that are gone.
        removed: Vec<Dot>,
    },
    /// Of a register. Both ascending, disjoint.
    Versions {
        /// New versions.
        written: Vec<Version>,
        /// Dots of versions that are gone.
        removed: Vec<Dot>,
    },
    /// Of one actor's counter cells. Both ascending by birth.
    Cells {
        /// Cells as their owner raised them, cumulative.
        raised: Vec<Raise>,
        /// Floors as removals recorded them.
        floors: Vec<Floor>,
    },
}

/// A counter cell after an increment: the cumulative amounts at the owner's `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raise {
    /// The owner's `n` at the cell's first increment.
    pub birth: u64,
    /// The owner's `n` at this increment.
    pub last: u64,
    /// What the owner had added up by then.
    pub amounts: Amounts,
}

/// The amounts of a cell that a removal saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The owner's `n` at the cell's first increment.
    pub birth: u64,
    /// What the removal saw.
    pub amounts: Amounts,
}

/// A half-open range of entry names of one object, by their encoded bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryRange {
    /// The first name in the range; empty: from the first entry on.
    pub from: Box<[u8]>,
    /// The first name behind the range; `None`: to the last entry.
    pub to: Option<Box<[u8]>>,
}

/// Removes every dot in a range that a context covers.
///
/// Counter cells are not touched by it: their removal needs the amounts seen,
/// so floors stand beside it in the delta's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRemoval {
    /// Where.
    pub range: EntryRange,
    /// What the remover had seen there.
    pub context: VersionVector,
}

impl EntryRange {
    /// Every entry of an object.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Every entry whose encoded name begins with `prefix`.
    #[must_use]
    pub fn with_prefix(prefix: &[u8]) -> Self {
        let mut to = prefix.to_vec();
        while to.last() == Some(&u8::MAX) {
            to.pop();
        }
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        Self { from: prefix.into(), to: (!to.is_empty()).then(|| to.into()) }
    }

    /// Every element of a set object.
    #[must_use]
    pub fn elements() -> Self {
        Self::with_prefix(&EntryKey::elements_prefix())
    }

    /// Every entry of every field of a map object.
    #[must_use]
    pub fn fields() -> Self {
        Self::with_prefix(&EntryKey::fields_prefix())
    }

    /// What both ranges hold; `None` if that is nothing.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let from = (&self.from).max(&other.from).clone();
        let to = match (&self.to, &other.to) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs).clone()),
            (Some(to), None) | (None, Some(to)) => Some(to.clone()),
            (None, None) => None,
        };
        to.as_ref().is_none_or(|to| from < *to).then_some(Self { from, to })
    }

    /// Whether the entry `name` (encoded) is in the range.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        *self.from <= *name && self.to.as_ref().is_none_or(|to| *name < **to)
    }
}

impl RangeRemoval {
    /// Whether this takes `dot` from the entry `name`.
    #[must_use]
    pub fn takes(&self, name: &EntryKey, dot: &Dot) -> bool {
        self.range.contains(name.as_bytes()) && self.context.covers(dot)
    }

    /// What is left of `entry` under this removal; cells stay as they are.
    #[must_use]
    pub fn survivors(&self, name: &EntryKey, entry: Entry) -> Option<Entry> {
        if !self.range.contains(name.as_bytes()) {
            return Some(entry);
        }
        let left = match entry {
            Entry::Dots(mut dots) => {
                dots.retain(|dot| !self.context.covers(dot));
                Entry::Dots(dots)
            }
            Entry::Versions(mut versions) => {
                versions.retain(|version| !self.context.covers(&version.dot));
                Entry::Versions(versions)
            }
            cells @ Entry::Cells(_) => cells,
        };
        left.non_empty()
    }
}

impl ObjectDelta {
    /// Whether this changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.removals.is_empty()
    }

    /// Joins another delta of the same object into this one.
    ///
    /// The result does to any state what both do, in either order. What a range
    /// removal of one takes from the other stands in neither.
    pub fn join(&mut self, mut other: Self) {
        for removal in &self.removals {
            other.drop_taken(removal);
        }
        for removal in &other.removals {
            self.drop_taken(removal);
        }
        for (key, delta) in other.entries {
            match self.entries.entry(key) {
                btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(delta);
                }
                btree_map::Entry::Occupied(mut occupied) => occupied.get_mut().join(delta),
            }
        }
        for removal in other.removals {
            match self.removals.binary_search_by(|known| known.range.cmp(&removal.range)) {
                Ok(at) => self.removals[at].context.join(&removal.context),
                Err(at) => self.removals.insert(at, removal),
            }
        }
    }

    /// Forgets what `removal` takes, and the entries of which nothing is left to say.
    fn drop_taken(&mut self, removal: &RangeRemoval) {
        self.entries.retain(|key, delta| {
            if !removal.range.contains(key.as_bytes()) {
                return true;
            }
            delta.drop_taken(&removal.context);
            !delta.is_empty()
        });
    }
}

impl EntryDelta {
    /// Joins another change of the same entry into this one. Two shapes under
    /// one name can only come from a damaged peer; the first is kept.
    pub fn join(&mut self, other: Self) {
        match (self, other) {
            (Self::Dots { added, removed }, Self::Dots { added: more, removed: gone }) => {
                join_dotted(added, removed, more, gone);
            }
            (
                Self::Versions { written, removed },
                Self::Versions { written: more, removed: gone },
            ) => join_dotted(written, removed, more, gone),
            (Self::Cells { raised, floors }, Self::Cells { raised: more, floors: gone }) => {
                for raise in more {
                    match raised.iter_mut().find(|known| known.birth == raise.birth) {
                        Some(known) => {
                            known.last = known.last.max(raise.last);
                            known.amounts = known.amounts.max(raise.amounts);
                        }
                        None => raised.push(raise),
                    }
                }
                for floor in gone {
                    match floors.iter_mut().find(|known| known.birth == floor.birth) {
                        Some(known) => known.amounts = known.amounts.max(floor.amounts),
                        None => floors.push(floor),
                    }
                }
                raised.sort_by_key(|raise| raise.birth);
                floors.sort_by_key(|floor| floor.birth);
            }
            _ => {}
        }
    }

    /// Whether this changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Dots { added, removed } => added.is_empty() && removed.is_empty(),
            Self::Versions { written, removed } => written.is_empty() && removed.is_empty(),
            Self::Cells { raised, floors } => raised.is_empty() && floors.is_empty(),
        }
    }

    /// Forgets dots that a range removal of the same delta takes: the new ones
    /// and those named as removed, which the removal says again.
    fn drop_taken(&mut self, taken: &VersionVector) {
        match self {
            Self::Dots { added, removed } => {
                added.retain(|dot| !taken.covers(dot));
                removed.retain(|dot| !taken.covers(dot));
            }
            Self::Versions { written, removed } => {
                written.retain(|version| !taken.covers(&version.dot));
                removed.retain(|dot| !taken.covers(dot));
            }
            Self::Cells { .. } => {}
        }
    }

    /// Applies this change to the state under its entry's name.
    ///
    /// `owner` is the actor in the entry's key if it holds cells. What `context`
    /// covers was seen before and is skipped: either it is in `state`, or it was
    /// removed. Removals are by dot and need no context. A floor for a cell that
    /// is absent is dropped: by causal delivery the cell was here, and its owner
    /// can raise it no more.
    #[must_use]
    pub fn apply(
        &self,
        owner: Option<ActorId>,
        state: Option<Entry>,
        context: &VersionVector,
    ) -> Option<Entry> {
        match (self, state) {
            (Self::Dots { added, removed }, None) => {
                Entry::Dots(put_dotted(Vec::new(), added, removed, context)).non_empty()
            }
            (Self::Dots { added, removed }, Some(Entry::Dots(dots))) => {
                Entry::Dots(put_dotted(dots, added, removed, context)).non_empty()
            }
            (Self::Versions { written, removed }, None) => {
                Entry::Versions(put_dotted(Vec::new(), written, removed, context)).non_empty()
            }
            (Self::Versions { written, removed }, Some(Entry::Versions(versions))) => {
                Entry::Versions(put_dotted(versions, written, removed, context)).non_empty()
            }
            (Self::Cells { raised, floors }, None) => {
                Entry::Cells(raise_cells(owner?, Vec::new(), raised, floors, context)).non_empty()
            }
            (Self::Cells { raised, floors }, Some(Entry::Cells(cells))) => {
                let Some(owner) = owner else { return Some(Entry::Cells(cells)) };
                Entry::Cells(raise_cells(owner, cells, raised, floors, context)).non_empty()
            }
            (_, state) => state,
        }
    }
}

fn join_dotted<T: Dotted>(
    added: &mut Vec<T>,
    removed: &mut Vec<Dot>,
    more: Vec<T>,
    gone: Vec<Dot>,
) {
    removed.extend(gone);
    removed.sort_unstable();
    removed.dedup();
    added.extend(more);
    added.sort_by_key(Dotted::dot);
    added.dedup_by_key(|item| item.dot());
    added.retain(|item| removed.binary_search(&item.dot()).is_err());
}

fn put_dotted<T: Dotted>(
    mut here: Vec<T>,
    added: &[T],
    removed: &[Dot],
    context: &VersionVector,
) -> Vec<T> {
    for item in added {
        if !context.covers(&item.dot())
            && let Err(at) = here.binary_search_by_key(&item.dot(), Dotted::dot)
        {
            here.insert(at, item.clone());
        }
    }
    here.retain(|item| !removed.contains(&item.dot()));
    here
}

fn raise_cells(
    owner: ActorId,
    mut cells: Vec<Cell>,
    raised: &[Raise],
    floors: &[Floor],
    context: &VersionVector,
) -> Vec<Cell> {
    for raise in raised {
        match cells.iter_mut().find(|cell| cell.birth == raise.birth) {
            Some(cell) => {
                cell.last = cell.last.max(raise.last);
                cell.amounts = cell.amounts.max(raise.amounts);
            }
            None if context.covers(&Dot::new(owner, raise.last)) => {}
            None => cells.push(Cell {
                birth: raise.birth,
                last: raise.last,
                amounts: raise.amounts,
                floor: Amounts::default(),
            }),
        }
    }
    for floor in floors {
        if let Some(cell) = cells.iter_mut().find(|cell| cell.birth == floor.birth) {
            cell.floor = cell.floor.max(floor.amounts);
        }
    }
    cells.sort_by_key(|cell| cell.birth);
    cells
}

#[cfg(test)]
mod tests;
