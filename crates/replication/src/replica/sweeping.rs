//! Work in small steps on what is committed: counting what large removals
//! leave, before they are joined, and deleting what they took, afterwards.
//!
//! It reads pages of the store, which must hold all that is known. So its place
//! is right after a commit, whatever comes in next.

use std::collections::VecDeque;

use coppice_crdt::mutant::{self, Mutant};
use coppice_crdt::{EntryRange, RangeRemoval};

use super::Replica;
use crate::record::{RecordKey, RecordWrite};
use crate::unit::{ObjectKey, Unit};
use crate::working_set::{EntryPage, Missing, Read, behind};

/// Objects with hidden entries, and how far the sweep of the first one is.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    queue: VecDeque<ObjectKey>,
    /// What is being swept, and from where on; `None`: to its end.
    at: Option<(RangeRemoval, Option<Box<[u8]>>)>,
    page: Option<EntryPage>,
}

impl Replica {
    /// Supplies entry records as they are stored, that a [`Read::Page`] asked for.
    pub fn supply_page(&mut self, page: EntryPage) {
        self.sweeps.page = Some(page);
    }

    /// Goes on with sweeps that an earlier opening of the store had begun.
    pub fn resume_sweeps(&mut self, objects: impl IntoIterator<Item = ObjectKey>) {
        self.sweeps.queue.extend(objects);
    }

    /// Whether something is hidden that is still to be swept.
    #[must_use]
    pub fn has_sweeps(&self) -> bool {
        !self.sweeps.queue.is_empty()
    }

    /// Remembers the objects in which something is hidden by what is sealed.
    pub(super) fn begin_sweeps(&mut self, writes: &mut Vec<RecordWrite>) {
        for key in self.set.take_newly_hidden() {
            writes.push((RecordKey::Sweep(self.set.id_of(&key)), Some(Vec::new())));
            if !self.sweeps.queue.contains(&key) {
                self.sweeps.queue.push_back(key);
            }
        }
    }

    pub(super) fn page_of(
        &mut self,
        key: &ObjectKey,
        range: EntryRange,
    ) -> Result<EntryPage, Missing> {
        let page = self.sweeps.page.take();
        let page = page.filter(|page| page.key == *key && page.range == range);
        let limit = self.set.pace.entries_per_step;
        page.ok_or_else(|| Missing(Read::Page(key.clone(), range, limit)))
    }

    /// Does a little of what can only be done right after a commit; to be called
    /// there, and again with the next one while [`Replica::has_work`].
    ///
    /// # Errors
    ///
    /// [`Missing`]: supply it and call again.
    pub fn after_commit(&mut self) -> Result<(), Missing> {
        if self.is_unsealed() || !self.extra_writes.is_empty() {
            return Ok(());
        }
        // One page of either: others wait while it is read.
        if self.count_for_next_unit()? { Ok(()) } else { self.sweep() }
    }

    /// Counts a page of what the next unit's large removals leave; whether
    /// there was one to count.
    fn count_for_next_unit(&mut self) -> Result<bool, Missing> {
        let Some((link, unit, base)) = self.inbox.pop_front() else { return Ok(false) };
        let counted = if base.is_covered_by(self.seen()) && !unit.is_covered_by(self.seen()) {
            self.count_page_for(&unit)
        } else {
            Ok(false)
        };
        self.inbox.push_front((link, unit, base));
        counted
    }

    fn count_page_for(&mut self, unit: &Unit) -> Result<bool, Missing> {
        let Some((key, range)) = self.uncounted(unit)? else { return Ok(false) };
        let page = self.page_of(&key, range)?;
        self.set.count_page(&page);
        Ok(true)
    }

    /// Where to count next what a unit's large removals leave; `None` if it is known.
    pub(super) fn uncounted(
        &mut self,
        unit: &Unit,
    ) -> Result<Option<(ObjectKey, EntryRange)>, Missing> {
        for (key, delta) in unit.objects.iter().filter(|(_, delta)| !delta.removals.is_empty()) {
            let seen = self.seen_of(key);
            if let Some(range) = self.set.next_count(key, delta, &seen)? {
                return Ok(Some((key.clone(), range)));
            }
        }
        Ok(None)
    }

    /// Whether a unit would hide so much that it waits until more is swept.
    pub(super) fn must_be_swept_first(&self, unit: &Unit) -> Result<bool, Missing> {
        for (key, _) in unit.objects.iter().filter(|(_, delta)| !delta.removals.is_empty()) {
            if self.set.is_full_of_hidden(key)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether there are changes that the store does not have.
    pub(super) fn is_unsealed(&self) -> bool {
        self.set.is_dirty() || !self.pending.is_empty()
    }

    /// Deletes a page of hidden entries. One page per commit, so that clients do
    /// not wait for it.
    fn sweep(&mut self) -> Result<(), Missing> {
        let Some(key) = self.sweeps.queue.front().cloned() else { return Ok(()) };
        let Some(removal) = self.set.hidden(&key)?.first().cloned() else {
            self.sweeps.queue.pop_front();
            self.extra_writes.push((RecordKey::Sweep(self.set.id_of(&key)), None));
            return Ok(());
        };
        let known = self.sweeps.at.take().filter(|(known, _)| *known == removal);
        let from = known.map_or_else(|| Some(removal.range.from.clone()), |(_, from)| from);
        let Some(from) = from else {
            // Only now: until that was committed, what it deleted could be read.
            self.set.swept(&key, &removal);
            self.counters.ranges_swept += 1;
            return Ok(());
        };
        let page = EntryRange { from: from.clone(), to: removal.range.to.clone() };
        let page = match self.page_of(&key, page) {
            Ok(page) => page,
            Err(missing) => {
                self.sweeps.at = Some((removal, Some(from)));
                return Err(missing);
            }
        };
        self.set.sweep(&page, &mut self.extra_writes);
        let more = page.more && !mutant::is(Mutant::SweepEndsEarly);
        let last = page.entries.last().filter(|_| more);
        self.sweeps.at = Some((removal, last.map(|(last, _)| behind(last))));
        Ok(())
    }
}
