//! What large removals leave of an object, counted in small steps.
//!
//! Where a removal is made it takes all that is there but counter cells, and
//! what it leaves is known. Elsewhere entries may survive, added concurrently:
//! they are counted before the removal is joined, page by page, and changes made
//! meanwhile in what was counted already are added to the count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coppice_crdt::{
    CrdtType, Entry, EntryKey, EntryRange, EtagKey, FieldHeader, Header, Part, RangeRemoval, Reach,
};

use super::hiding::EntryPage;
use super::object::WorkingObject;
use crate::unit::ObjectKey;

/// What removals leave of a set's elements, or of a map's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// Of a set.
    pub(super) elements: Header,
    /// Of a map, by name: the fields of which something is left.
    pub(super) fields: BTreeMap<Arc<str>, FieldHeader>,
}

/// A count of what the large removals of one delta leave.
#[derive(Debug)]
pub(super) struct LeftCount {
    pub(super) key: ObjectKey,
    removals: Vec<RangeRemoval>,
    /// What is to be counted: disjoint ranges, ascending.
    ranges: Vec<EntryRange>,
    /// How many of them are counted.
    at: usize,
    /// The last name counted of the next one.
    upto: Option<EntryKey>,
    left: Left,
}

/// A removal that is carried out in steps, and the entries that changed since it
/// began: of all others it is known what it takes.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) key: ObjectKey,
    pub(super) removal: RangeRemoval,
    pub(super) changed: BTreeSet<EntryKey>,
}

/// What is left of an entry under removals.
pub(super) fn survivor(
    removals: &[RangeRemoval],
    name: &EntryKey,
    entry: Option<Entry>,
) -> Option<Entry> {
    removals.iter().fold(entry, |left, removal| removal.survivors(name, left?))
}

impl Left {
    pub(super) fn nothing(crdt_type: CrdtType) -> Self {
        Self { elements: Header::new(crdt_type), fields: BTreeMap::new() }
    }

    /// Takes notice that what is left of an entry changed.
    pub(super) fn change(
        &mut self,
        etag_key: EtagKey,
        (key, name): (&str, &EntryKey),
        (old, new): (Option<&Entry>, Option<&Entry>),
    ) {
        let Some(field) = name.field() else {
            return self.elements.update(etag_key, (key, name), None, (old, new));
        };
        let of: Arc<str> = field.name.as_ref().into();
        let header = self.fields.entry(Arc::clone(&of)).or_default();
        // The map's own figures are made of its fields' in the end.
        let mut scratch = Header::new(CrdtType::ORMap);
        scratch.update(etag_key, (key, name), Some(header), (old, new));
        if header.types.is_empty() {
            self.fields.remove(&of);
        }
    }

    /// Live counter cells that are left.
    pub(super) fn cells(&self) -> u64 {
        self.fields.values().map(|field| field.totals().cells).sum()
    }
}

impl LeftCount {
    pub(super) fn new(key: &ObjectKey, removals: &[RangeRemoval], crdt_type: CrdtType) -> Self {
        let reaches = removals.iter().filter_map(|removal| Reach::of(&removal.range, crdt_type));
        let reaches: BTreeSet<Reach> = reaches.collect();
        let ranges = if let Some(Reach::Object) = reaches.first() {
            vec![Reach::Object.range(crdt_type)]
        } else {
            let ranges = reaches.iter().map(|reach| reach.range(crdt_type));
            ranges.collect::<BTreeSet<_>>().into_iter().collect()
        };
        Self {
            key: Arc::clone(key),
            removals: removals.to_vec(),
            ranges,
            at: 0,
            upto: None,
            left: Left::nothing(crdt_type),
        }
    }

    pub(super) fn is_of(&self, key: &ObjectKey, removals: &[RangeRemoval]) -> bool {
        self.key == *key && self.removals == removals
    }

    /// What is left, once all is counted.
    pub(super) fn done(&self) -> Option<&Left> {
        (self.at == self.ranges.len()).then_some(&self.left)
    }

    /// What to read next.
    pub(super) fn next(&self) -> Option<EntryRange> {
        let mut range = self.ranges.get(self.at)?.clone();
        if let Some(upto) = &self.upto {
            range.from = super::behind(upto);
        }
        Some(range)
    }

    /// Counts a page of `object` as it is stored.
    pub(super) fn add(&mut self, etag_key: EtagKey, object: &WorkingObject, page: &EntryPage) {
        for (name, entry) in &page.entries {
            let left = object.visible(name, Some(entry.clone()));
            let left = survivor(&self.removals, name, left);
            self.left.change(etag_key, (&page.key, name), (None, left.as_ref()));
        }
        if let Some((name, _)) = page.entries.last() {
            self.upto = Some(name.clone());
        }
        if !page.more {
            (self.at, self.upto) = (self.at + 1, None);
        }
    }

    /// Keeps the count right when an entry changes.
    pub(super) fn change(
        &mut self,
        etag_key: EtagKey,
        name: &EntryKey,
        (before, after): (Option<&Entry>, Option<&Entry>),
    ) {
        let at = self.ranges.iter().position(|range| range.contains(name.as_bytes()));
        let counted = at.is_some_and(|at| {
            at < self.at || (at == self.at && self.upto.as_ref().is_some_and(|upto| name <= upto))
        });
        if !counted {
            return;
        }
        let before = survivor(&self.removals, name, before.cloned());
        let after = survivor(&self.removals, name, after.cloned());
        let key = Arc::clone(&self.key);
        self.left.change(etag_key, (&key, name), (before.as_ref(), after.as_ref()));
    }

    /// Begins anew: what was counted may be hidden now.
    pub(super) fn restart(&mut self, crdt_type: CrdtType) {
        (self.at, self.upto, self.left) = (0, None, Left::nothing(crdt_type));
    }
}

impl Watch {
    /// Takes notice that an entry changed to `after`.
    pub(super) fn change(&mut self, name: &EntryKey, after: Option<&Entry>) {
        if !self.removal.range.contains(name.as_bytes())
            || name.part() == Part::Existence && name.field().is_none()
        {
            return;
        }
        let left = after.cloned().and_then(|entry| self.removal.survivors(name, entry));
        if left.is_some_and(|entry| entry.is_live()) {
            self.changed.insert(name.clone());
        } else {
            self.changed.remove(name);
        }
    }
}
