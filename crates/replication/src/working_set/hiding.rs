//! Large removals from large sets, in constant time where they are made and in
//! small steps everywhere else.
//!
//! A removal of a range is written at once as a *hidden* range of the object:
//! reads leave out what it takes, and a sweep deletes the entries bit by bit.
//! The object's figures must be right at once. Where the removal is made it takes
//! everything in the range, for a removal takes all that it saw. Elsewhere some
//! entries may survive, added concurrently: they are counted before the removal
//! is joined, page by page, and changes made meanwhile in the pages that were
//! counted already are added to the count.

use std::sync::Arc;

use coppice_crdt::{
    Entry, EntryKey, EntryRange, EtagKey, Header, ObjectDelta, Part, RangeRemoval, Summary,
    VersionVector,
};

use super::object::Slot;
use super::{Missing, Undo, Undone, WorkingSet};
use crate::record::{ObjectId, RecordKey, RecordWrite, encode_entry};
use crate::unit::ObjectKey;

/// Up to so many entries a removal looks at each of them.
const FEW_ENTRIES: u64 = 1_024;

/// Entries counted, or swept, in one step.
pub(crate) const ENTRIES_PER_STEP: usize = 1_024;

/// The elements that a removal leaves, as far as they are counted.
#[derive(Debug)]
pub(super) struct SurvivorCount {
    pub(super) key: ObjectKey,
    removal: RangeRemoval,
    /// The last name counted.
    upto: Option<EntryKey>,
    done: bool,
    left: Survivors,
}

/// What a removal leaves of a set's elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survivors {
    entries: u64,
    etag: u128,
}

/// Entry records of one object as they are stored, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPage {
    /// The object.
    pub key: ObjectKey,
    /// The entries.
    pub entries: Vec<(EntryKey, Entry)>,
    /// Whether there may be more behind them.
    pub more: bool,
}

/// A count that has to go on before a removal can be joined: what to read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CountStep {
    pub(crate) range: EntryRange,
}

impl WorkingSet {
    /// Whether a removal is one to hide: it takes all elements of a set that has
    /// many, in records of their own.
    fn is_to_hide(
        &self,
        key: &ObjectKey,
        delta: &ObjectDelta,
        removal: &RangeRemoval,
    ) -> Result<bool, Missing> {
        self.object(key)?;
        let Some(object) = self.objects.get(key) else { return Ok(false) };
        let elements = EntryRange::elements();
        let takes_all = removal.range.from <= elements.from
            && match (&removal.range.to, &elements.to) {
                (None, _) => true,
                (Some(to), Some(end)) => to >= end,
                (Some(_), None) => false,
            };
        let many = object.header.is_some_and(|header| header.summary.entries > FEW_ENTRIES);
        let alone = delta.removals.len() == 1;
        Ok(self.crdt_type.is_set()
            && object.spilled
            && !object.complete
            && takes_all
            && many
            && alone)
    }

    /// What a removal leaves, if it is to be hidden and that is known.
    pub(super) fn survivors(
        &self,
        key: &ObjectKey,
        delta: &ObjectDelta,
        removal: &RangeRemoval,
        seen: &[(EntryRange, VersionVector)],
    ) -> Result<Option<Survivors>, Missing> {
        if !self.is_to_hide(key, delta, removal)? {
            return Ok(None);
        }
        // A removal made here has seen all that is here.
        if seen.iter().all(|(_, context)| context.is_covered_by(&removal.context)) {
            return Ok(Some(Survivors::default()));
        }
        let counted =
            self.counts.iter().find(|count| count.key == *key && count.removal == *removal);
        Ok(counted.filter(|count| count.done).map(|count| count.left))
    }

    /// What to read before a received removal can be joined; `None` if nothing.
    pub(crate) fn next_count(
        &mut self,
        key: &ObjectKey,
        delta: &ObjectDelta,
    ) -> Result<Option<CountStep>, Missing> {
        let [removal] = &delta.removals[..] else { return Ok(None) };
        if !self.is_to_hide(key, delta, removal)? {
            return Ok(None);
        }
        let known =
            self.counts.iter().position(|count| count.key == *key && count.removal == *removal);
        let at = known.unwrap_or_else(|| {
            self.counts.push(SurvivorCount {
                key: Arc::clone(key),
                removal: removal.clone(),
                upto: None,
                done: false,
                left: Survivors::default(),
            });
            self.counts.len() - 1
        });
        let count = &self.counts[at];
        if count.done {
            return Ok(None);
        }
        let mut range = EntryRange::elements();
        if let Some(upto) = &count.upto {
            range.from = behind(upto);
        }
        Ok(Some(CountStep { range }))
    }

    /// Counts a page that [`WorkingSet::next_count`] asked for. There must be no
    /// changes that the store does not have.
    pub(crate) fn count_page(&mut self, page: &EntryPage) {
        let Some(object) = self.objects.get(&page.key) else { return };
        let Some(count) = self.counts.iter_mut().find(|count| count.key == page.key && !count.done)
        else {
            return;
        };
        for (name, entry) in &page.entries {
            let left = object.visible(name, Some(entry.clone()));
            let left = left.and_then(|entry| count.removal.survivors(name, entry));
            count.left.add(contribution(self.etag_key, &page.key, name, left.as_ref()));
        }
        count.upto = page.entries.last().map(|(name, _)| name.clone()).or(count.upto.take());
        count.done = !page.more;
    }

    /// Forgets counts: the unit they were made for is joined or gone.
    pub(crate) fn drop_counts(&mut self) {
        self.counts.clear();
    }

    /// Keeps counts right when an entry changes to what `slot` holds.
    pub(super) fn count_change(
        &mut self,
        key: &ObjectKey,
        name: &EntryKey,
        slot: Option<&Slot<Entry>>,
    ) {
        if self.counts.is_empty() || !matches!(name.part(), Part::Element(_)) {
            return;
        }
        let Some(object) = self.objects.get(key) else { return };
        let before = object.entries.get(name).and_then(|slot| slot.state.clone());
        let before = object.visible(name, before);
        let after = object.visible(name, slot.and_then(|slot| slot.state.clone()));
        for count in &mut self.counts {
            let counted = count.done || count.upto.as_ref().is_some_and(|upto| name <= upto);
            if count.key != *key || !counted {
                continue;
            }
            let left = |entry: Option<&Entry>| {
                let left = count.removal.survivors(name, entry?.clone());
                contribution(self.etag_key, key, name, left.as_ref())
            };
            let (gone, come) = (left(before.as_ref()), left(after.as_ref()));
            count.left.take(gone);
            count.left.add(come);
        }
    }

    /// Hides what a removal takes; `left` is what it leaves of the elements.
    pub(super) fn hide(
        &mut self,
        key: &ObjectKey,
        removal: &RangeRemoval,
        left: Survivors,
    ) -> Result<(), Missing> {
        let name = EntryKey::of_object(Part::Existence);
        let existence = self.entry(key, &name)?.and_then(|entry| removal.survivors(&name, entry));
        let etag = contribution(self.etag_key, key, &name, existence.as_ref()).unwrap_or(0);
        let etag = etag.wrapping_add(left.etag);
        let Some(object) = self.objects.get_mut(key) else { return Ok(()) };
        let existence = existence.is_some_and(|entry| entry.is_live());
        let summary = Summary { existence, entries: left.entries, sum: 0 };
        let header = Header { crdt_type: self.crdt_type, summary, fields: 0, dead: 0, etag };
        let before = object.hidden.clone();
        match object.hidden.iter_mut().find(|known| known.range == removal.range) {
            Some(known) => known.context.join(&removal.context),
            None => object.hidden.push(removal.clone()),
        }
        self.undo.push(Undo {
            key: Arc::clone(key),
            header: object.header,
            change: Undone::Hidden(before),
            was_dirty: object.dirty,
            touched_ranges: self.touched_ranges,
        });
        for count in self.counts.iter_mut().filter(|count| count.key == *key) {
            // What was counted may be hidden now: count again.
            (count.upto, count.done, count.left) = (None, false, Survivors::default());
        }
        self.newly_hidden.push(Arc::clone(key));
        self.set_header(key, Some(header));
        Ok(())
    }

    /// The objects in which something was hidden since the last call: each is to
    /// be swept from its start.
    pub(crate) fn take_newly_hidden(&mut self) -> Vec<ObjectKey> {
        std::mem::take(&mut self.newly_hidden)
    }

    /// Deletes what is hidden among stored entries, and gives the records to
    /// write. There must be no changes that the store does not have.
    pub(crate) fn sweep(&mut self, page: &EntryPage, writes: &mut Vec<RecordWrite>) {
        let Some(object) = self.objects.get_mut(&page.key) else { return };
        for (name, entry) in &page.entries {
            let left = object.visible(name, Some(entry.clone()));
            if left.as_ref() == Some(entry) {
                continue;
            }
            let key = RecordKey::Entry(object.id.clone(), name.clone());
            writes.push((key, left.as_ref().map(encode_entry)));
            if let Some(slot) = object.entries.get_mut(name) {
                slot.state = left;
            }
        }
    }

    /// Nothing that is hidden is stored any more.
    pub(crate) fn swept(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.get_mut(key) else { return };
        let hidden = std::mem::take(&mut object.hidden);
        for (name, slot) in &mut object.entries {
            let state = slot.state.take();
            slot.state = hidden.iter().fold(state, |left, removal| removal.survivors(name, left?));
        }
        let header = object.header.filter(|header| !header.is_gone());
        self.set_header(key, header);
    }

    /// An object and its range.
    pub(crate) fn id_of(&self, key: &ObjectKey) -> ObjectId {
        ObjectId { range: self.range_of(key), key: Arc::clone(key) }
    }
}

impl Survivors {
    fn add(&mut self, contribution: Option<u128>) {
        if let Some(etag) = contribution {
            self.entries += 1;
            self.etag = self.etag.wrapping_add(etag);
        }
    }

    fn take(&mut self, contribution: Option<u128>) {
        if let Some(etag) = contribution {
            self.entries = self.entries.saturating_sub(1);
            self.etag = self.etag.wrapping_sub(etag);
        }
    }
}

/// What an entry adds to its object's etag; `None` if nothing of it is live.
fn contribution(
    etag_key: EtagKey,
    key: &ObjectKey,
    name: &EntryKey,
    entry: Option<&Entry>,
) -> Option<u128> {
    let live = entry.filter(|entry| entry.is_live())?;
    Some(etag_key.contribution(key, name, live))
}

/// The first name behind `name`.
pub(crate) fn behind(name: &EntryKey) -> Box<[u8]> {
    [name.as_bytes(), &[0]].concat().into()
}
