//! Work in small steps: counting what a large removal leaves, before it is
//! joined, and deleting what it took, afterwards.

use std::collections::VecDeque;

use coppice_crdt::EntryRange;

use super::Replica;
use crate::record::{RecordKey, RecordWrite};
use crate::unit::{ObjectKey, Unit};
use crate::working_set::{ENTRIES_PER_STEP, EntryPage, Missing, Read, behind};

/// Objects with hidden entries, and how far each is swept.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    queue: VecDeque<(ObjectKey, Box<[u8]>)>,
    page: Option<EntryPage>,
}

impl Replica {
    /// Supplies entry records as they are stored, that a [`Read::Page`] asked for.
    pub fn supply_page(&mut self, page: EntryPage) {
        self.sweeps.page = Some(page);
    }

    /// Goes on with sweeps that an earlier opening of the store had begun.
    pub fn resume_sweeps(&mut self, objects: impl IntoIterator<Item = ObjectKey>) {
        self.sweeps.queue.extend(objects.into_iter().map(|key| (key, Box::default())));
    }

    pub(super) fn has_sweeps(&self) -> bool {
        !self.sweeps.queue.is_empty()
    }

    /// Objects in which something was hidden by what is sealed are swept from
    /// their start.
    pub(super) fn begin_sweeps(&mut self, writes: &mut Vec<RecordWrite>) {
        for key in self.set.take_newly_hidden() {
            self.sweeps.queue.retain(|(known, _)| *known != key);
            writes.push((RecordKey::Sweep(self.set.id_of(&key)), Some(Vec::new())));
            self.sweeps.queue.push_back((key, Box::default()));
        }
    }

    fn page_of(&mut self, key: &ObjectKey, range: EntryRange) -> Result<EntryPage, Missing> {
        let page = self.sweeps.page.take().filter(|page| page.key == *key);
        page.ok_or_else(|| Missing(Read::Page(key.clone(), range, ENTRIES_PER_STEP)))
    }

    /// Whether all that a unit's large removals leave is counted; counts one
    /// page of it if not.
    pub(super) fn count_survivors(&mut self, unit: &Unit) -> Result<bool, Missing> {
        for (key, delta) in unit.objects.iter().filter(|(_, delta)| !delta.removals.is_empty()) {
            let Some(step) = self.set.next_count(key, delta)? else { continue };
            if self.is_unsealed() {
                return Ok(false); // The pages are of what is committed.
            }
            let page = self.page_of(key, step.range)?;
            self.set.count_page(&page);
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether there are changes that the store does not have.
    pub(super) fn is_unsealed(&self) -> bool {
        self.set.is_dirty() || !self.pending.is_empty()
    }

    /// Deletes a page of hidden entries. One page per commit, so that clients do
    /// not wait for it: never asks to go on at once.
    pub(super) fn sweep(&mut self) -> Result<bool, Missing> {
        let Some((key, from)) = self.sweeps.queue.front().cloned() else { return Ok(false) };
        if self.is_unsealed() {
            return Ok(false);
        }
        self.set.object(&key)?;
        let page = self.page_of(&key, EntryRange { from, to: None })?;
        self.set.sweep(&page, &mut self.extra_writes);
        let last = page.entries.last().map(|(name, _)| behind(name));
        let rest = last.filter(|_| page.more);
        if let Some((from, sweep)) = rest.zip(self.sweeps.queue.front_mut()) {
            sweep.1 = from;
        } else {
            self.sweeps.queue.pop_front();
            self.set.swept(&key);
            self.extra_writes.push((RecordKey::Sweep(self.set.id_of(&key)), None));
        }
        Ok(false)
    }
}
