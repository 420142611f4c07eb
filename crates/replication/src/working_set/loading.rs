//! What the owner loads, and what has to be loaded.

use std::sync::Arc;

use coppice_crdt::{Entry, EntryKey, EntryRange};

use super::object::{Slot, WorkingObject};
use super::{Missing, Read, WorkingSet};
use crate::record::{FieldRecord, ObjectId, ObjectRecord};
use crate::unit::ObjectKey;

impl WorkingSet {
    /// Supplies an object's header record, `None` if the store has none.
    pub fn supply_object(&mut self, key: &ObjectKey, record: Option<ObjectRecord>) {
        if self.objects.contains_key(key) {
            return;
        }
        let inline = record.as_ref().and_then(|record| record.inline.as_ref()).map_or(0, Vec::len);
        self.loaded += 1 + inline;
        let id = ObjectId { range: self.range_of(key), key: Arc::clone(key) };
        let mut object = WorkingObject::absent(id);
        if let Some(record) = record {
            object.header = Some(record.header);
            object.hidden = record.hidden;
            object.generation = record.generation;
            object.spilled = record.inline.is_none();
            object.complete = record.inline.is_some();
            object.load_inline(self.etag_key, record.inline.unwrap_or_default());
        }
        self.objects.insert(Arc::clone(key), object);
    }

    /// Supplies an entry's record, `None` if the store has none.
    pub fn supply_entry(&mut self, key: &ObjectKey, name: EntryKey, entry: Option<Entry>) {
        if let Some(object) = self.objects.get_mut(key) {
            self.loaded += 1;
            object.load_entry(name, entry);
        }
    }

    /// Supplies a map field's record, `None` if the store has none.
    pub fn supply_field(&mut self, key: &ObjectKey, name: &Arc<str>, field: Option<FieldRecord>) {
        if let Some(object) = self.objects.get_mut(key) {
            let state = field.and_then(|field| field.of_generation(object.generation));
            let slot = Slot { state, dirty: false };
            object.fields.entry(Arc::clone(name)).or_insert(slot);
        }
    }

    /// Supplies all entry records of one object in `range`.
    pub fn supply_scan(
        &mut self,
        key: &ObjectKey,
        range: EntryRange,
        entries: Vec<(EntryKey, Entry)>,
    ) {
        if let Some(object) = self.objects.get_mut(key) {
            self.loaded += entries.len();
            for (name, entry) in entries {
                object.load_entry(name, Some(entry));
            }
            object.scanned.push(range);
        }
    }

    /// Checks that these entries are loaded, so that what touches all of them
    /// need not be tried again for each.
    ///
    /// # Errors
    ///
    /// [`Missing`] with all objects that are not loaded, else with all entries
    /// and fields that are not.
    pub fn require<'a, N>(
        &self,
        wanted: impl Iterator<Item = (&'a ObjectKey, N)> + Clone,
    ) -> Result<(), Missing>
    where
        N: Iterator<Item = &'a EntryKey>,
    {
        let absent = wanted.clone().filter(|(key, _)| !self.objects.contains_key(*key));
        let mut reads: Vec<Read> = absent.map(|(key, _)| Read::Object(Arc::clone(key))).collect();
        if reads.is_empty() {
            for (key, names) in wanted {
                let Some(object) = self.objects.get(key).filter(|object| !object.complete) else {
                    continue;
                };
                for name in names {
                    object.push_missing(name, &mut reads);
                }
            }
        }
        if reads.is_empty() { Ok(()) } else { Err(Missing(Read::Many(reads))) }
    }
}
