//! One loaded object: its entries as they are now, and the records that differ
//! from the store's.

use std::collections::BTreeMap;
use std::sync::Arc;

use coppice_crdt::{
    CrdtType, Entries, Entry, EntryKey, EntryRange, EtagKey, FieldHeader, Header, Part,
    RangeRemoval,
};

use super::{INLINE_BYTES, Missing, Read};
use crate::record::{
    FieldRecord, ObjectId, ObjectRecord, RecordKey, RecordWrite, encode_entry, encode_object,
};

/// An object as it is now, and what of it the store does not have yet.
#[derive(Debug)]
pub(super) struct WorkingObject {
    pub(super) id: ObjectId,
    pub(super) header: Option<Header>,
    /// All entries are in `entries`: the object is new or was loaded inline.
    pub(super) complete: bool,
    /// Entries stand in records of their own in the store.
    pub(super) spilled: bool,
    pub(super) entries: BTreeMap<EntryKey, Slot<Entry>>,
    pub(super) fields: BTreeMap<Arc<str>, Slot<FieldHeader>>,
    pub(super) hidden: Vec<RangeRemoval>,
    /// Fields' records of an earlier one count as absent.
    pub(super) generation: u64,
    /// Ranges of entries that are loaded whole.
    pub(super) scanned: Vec<EntryRange>,
    pub(super) dirty: bool,
    pub(super) deadline_ms: Option<u64>,
    pub(super) stored_deadline_ms: Option<u64>,
}

/// A record's content, and whether it differs from the store's.
#[derive(Clone, Debug)]
pub(super) struct Slot<T> {
    pub(super) state: Option<T>,
    pub(super) dirty: bool,
}

impl WorkingObject {
    pub(super) const fn absent(id: ObjectId) -> Self {
        Self {
            id,
            header: None,
            complete: true,
            spilled: false,
            entries: BTreeMap::new(),
            fields: BTreeMap::new(),
            hidden: Vec::new(),
            generation: 0,
            scanned: Vec::new(),
            dirty: false,
            deadline_ms: None,
            stored_deadline_ms: None,
        }
    }

    pub(super) fn load_inline(&mut self, etag_key: EtagKey, entries: Vec<(EntryKey, Entry)>) {
        let mut recount = Header::new(CrdtType::ORMap);
        for (name, entry) in entries {
            if let Some(field) = name.field() {
                let field: Arc<str> = field.name.as_ref().into();
                let slot = self
                    .fields
                    .entry(field)
                    .or_insert_with(|| Slot { state: Some(FieldHeader::default()), dirty: false });
                let header = slot.state.get_or_insert_default();
                recount.update(etag_key, (&self.id.key, &name), Some(header), (None, Some(&entry)));
            }
            if name.part() == Part::Value && name.field().is_none() {
                self.deadline_ms = deadline(Some(&entry));
                self.stored_deadline_ms = self.deadline_ms;
            }
            self.entries.insert(name, Slot { state: Some(entry), dirty: false });
        }
    }

    pub(super) fn load_entry(&mut self, name: EntryKey, entry: Option<Entry>) {
        if self.entries.contains_key(&name) {
            return;
        }
        if name.part() == Part::Value && name.field().is_none() {
            self.deadline_ms = deadline(entry.as_ref());
            self.stored_deadline_ms = self.deadline_ms;
        }
        self.entries.insert(name, Slot { state: entry, dirty: false });
    }

    /// The reads that bring an entry and its field's summaries, where they are
    /// not here.
    pub(super) fn push_missing(&self, name: &EntryKey, reads: &mut Vec<Read>) {
        let scanned = self.scanned.iter().any(|range| range.contains(name.as_bytes()));
        if !scanned && !self.entries.contains_key(name) {
            reads.push(Read::Entry(Arc::clone(&self.id.key), name.clone()));
        }
        let field = name.field();
        let absent = field.filter(|field| !self.fields.contains_key(field.name.as_ref()));
        if let Some(field) = absent {
            reads.push(Read::Field(Arc::clone(&self.id.key), field.name.as_ref().into()));
        }
    }

    /// What of an entry is left under removals that are not carried out yet.
    pub(super) fn visible(&self, name: &EntryKey, entry: Option<Entry>) -> Option<Entry> {
        self.hidden.iter().fold(entry, |left, removal| removal.survivors(name, left?))
    }

    pub(super) fn field(&self, name: &Arc<str>) -> Result<FieldHeader, Missing> {
        match self.fields.get(name) {
            Some(slot) => Ok(slot.state.clone().unwrap_or_default()),
            None if self.complete => Ok(FieldHeader::default()),
            None => Err(Missing(Read::Field(Arc::clone(&self.id.key), Arc::clone(name)))),
        }
    }

    pub(super) fn take_writes(&mut self, writes: &mut Vec<RecordWrite>) {
        self.dirty = false;
        let id = self.id.clone();
        if self.deadline_ms != self.stored_deadline_ms {
            if let Some(ms) = self.stored_deadline_ms {
                writes.push((RecordKey::Deadline(ms, id.clone()), None));
            }
            if let Some(ms) = self.deadline_ms {
                writes.push((RecordKey::Deadline(ms, id.clone()), Some(Vec::new())));
            }
            self.stored_deadline_ms = self.deadline_ms;
        }
        if !self.spilled {
            self.entries.retain(|_, slot| slot.state.is_some());
            self.fields.retain(|_, slot| slot.state.is_some());
            let Some(header) = self.header else {
                writes.push((RecordKey::Object(id), None));
                return;
            };
            let entries =
                self.entries.iter().filter_map(|(name, slot)| Some((name, slot.state.as_ref()?)));
            let bytes = encode_object(&header, (&[], 0), Some((self.entries.len(), entries)));
            if bytes.len() <= INLINE_BYTES {
                writes.push((RecordKey::Object(id), Some(bytes)));
                return;
            }
            self.spilled = true;
            self.entries.values_mut().for_each(|slot| slot.dirty = true);
            self.fields.values_mut().for_each(|slot| slot.dirty = true);
        }
        self.take_spilled_writes(writes);
    }

    fn take_spilled_writes(&mut self, writes: &mut Vec<RecordWrite>) {
        for (name, slot) in &mut self.entries {
            if std::mem::take(&mut slot.dirty) {
                let key = RecordKey::Entry(self.id.clone(), name.clone());
                let left = self
                    .hidden
                    .iter()
                    .fold(slot.state.clone(), |left, removal| removal.survivors(name, left?));
                writes.push((key, left.as_ref().map(encode_entry)));
                slot.state = left;
            }
        }
        for (name, slot) in &mut self.fields {
            if std::mem::take(&mut slot.dirty) {
                let key = RecordKey::Field(self.id.clone(), Arc::clone(name));
                let field = slot.state.clone();
                let record =
                    field.map(|header| FieldRecord { generation: self.generation, header });
                writes.push((key, record.map(|record| record.encode())));
            }
        }
        let record = self.header.map(|header| {
            let (hidden, generation) = (self.hidden.clone(), self.generation);
            ObjectRecord { header, inline: None, hidden, generation }.encode()
        });
        if record.is_none() {
            // Nothing is left of it, so the next write finds a small object again.
            self.spilled = false;
            self.complete = true;
            self.hidden.clear();
            self.generation = 0;
            self.entries.clear();
            self.fields.clear();
        }
        writes.push((RecordKey::Object(self.id.clone()), record));
    }
}

/// One loaded object, for reading: what operations work on.
#[derive(Clone, Copy, Debug)]
pub struct ObjectView<'a> {
    pub(super) object: &'a WorkingObject,
}

impl ObjectView<'_> {
    /// Whether entries that were removed may still be stored.
    #[must_use]
    pub const fn is_littered(&self) -> bool {
        !self.object.hidden.is_empty()
    }
}

impl Entries for ObjectView<'_> {
    type Error = Missing;

    fn header(&self) -> Result<Option<Header>, Missing> {
        Ok(self.object.header)
    }

    fn field(&self, name: &str) -> Result<FieldHeader, Missing> {
        self.object.field(&name.into())
    }

    fn entry(&self, name: &EntryKey) -> Result<Option<Entry>, Missing> {
        let object = self.object;
        match object.entries.get(name) {
            Some(slot) => Ok(object.visible(name, slot.state.clone())),
            None if object.complete => Ok(None),
            None if object.scanned.iter().any(|range| range.contains(name.as_bytes())) => Ok(None),
            None => Err(Missing(Read::Entry(Arc::clone(&object.id.key), name.clone()))),
        }
    }

    fn scan(
        &self,
        range: &EntryRange,
        after: Option<&EntryKey>,
        limit: usize,
    ) -> Result<Vec<(EntryKey, Entry)>, Missing> {
        let object = self.object;
        let loaded = |scanned: &EntryRange| {
            let reaches = match (&scanned.to, &range.to) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(loaded), Some(wanted)) => loaded >= wanted,
            };
            scanned.from <= range.from && reaches
        };
        if !object.complete && !object.scanned.iter().any(loaded) {
            return Err(Missing(Read::Scan(Arc::clone(&object.id.key), range.clone())));
        }
        let entries = object
            .entries
            .iter()
            .filter(|(name, _)| range.contains(name.as_bytes()))
            .filter(|(name, _)| after.is_none_or(|after| *name > after))
            .filter_map(|(name, slot)| {
                Some((name.clone(), object.visible(name, slot.state.clone())?))
            });
        Ok(entries.take(limit).collect())
    }
}

pub(super) fn deadline(entry: Option<&Entry>) -> Option<u64> {
    match entry {
        Some(Entry::Versions(versions)) => {
            coppice_crdt::picked(versions).and_then(|version| version.deadline_ms)
        }
        _ => None,
    }
}
