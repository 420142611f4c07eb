//! Records read from a store or from a snapshot of it, decoded.
//!
//! The writer loads its working set with these, queries answer from them, and a
//! repair is served from them: one reading of the format for all.

use std::sync::Arc;

use coppice_crdt::{ActorId, Entry, EntryKey, EntryRange};
use coppice_replication::{
    DeadCell, DecodeError, EntryPage, FieldRecord, HeadRecord, LocalListing, LogRecord, ObjectId,
    ObjectRecord, Position, RepairRecord, Totals, decode_entry,
};

use crate::engine::weight;
use crate::store::keys::{self, Slot};
use crate::store::{Cursor, KeyRange, Limit, Read, StoreError, Table, end_of_prefix};

/// Why a record could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record's bytes are not what was written.
    #[error("a record of table {} is damaged: {error}", table.name())]
    Damaged {
        /// Where it stands.
        table: Table,
        /// What is wrong with it.
        error: DecodeError,
    },
}

type Loaded<T> = Result<T, RecordError>;

fn decoded<T>(table: Table, result: Result<T, DecodeError>) -> Loaded<T> {
    result.map_err(|error| RecordError::Damaged { table, error })
}

const MISPLACED: DecodeError = DecodeError::Malformed("a key");

/// The records of one group in one state of the store.
#[derive(Debug)]
pub struct GroupRecords<'a, R> {
    /// The store or a snapshot.
    pub store: &'a R,
    /// The group's slot.
    pub slot: Slot,
}

impl<R> Clone for GroupRecords<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for GroupRecords<'_, R> {}

impl<R: Read> GroupRecords<'_, R> {
    /// An object's header record.
    ///
    /// # Errors
    ///
    /// If the store fails or the record is damaged.
    pub fn object(&self, range: u8, key: &str) -> Loaded<Option<ObjectRecord>> {
        let found = self.store.get(Table::Objects, &keys::object_at(self.slot, range, key))?;
        found.map(|bytes| decoded(Table::Objects, ObjectRecord::decode(&bytes))).transpose()
    }

    /// An entry's record.
    ///
    /// # Errors
    ///
    /// If the store fails or the record is damaged.
    pub fn entry(&self, range: u8, key: &str, name: &EntryKey) -> Loaded<Option<Entry>> {
        let mut at = keys::entries_of(self.slot, range, key);
        at.extend(name.as_bytes());
        let found = self.store.get(Table::Entries, &at)?;
        found.map(|bytes| decoded(Table::Entries, decode_entry(&bytes))).transpose()
    }

    /// A map field's record.
    ///
    /// # Errors
    ///
    /// If the store fails or the record is damaged.
    pub fn field(&self, range: u8, key: &str, name: &str) -> Loaded<Option<FieldRecord>> {
        let id = ObjectId { range, key: Arc::from(key) };
        let record = coppice_replication::RecordKey::Field(id, Arc::from(name));
        let (table, at) = keys::record(self.slot, &record);
        let found = self.store.get(table, &at)?;
        found.map(|bytes| decoded(Table::Entries, FieldRecord::decode(&bytes))).transpose()
    }

    /// Up to `limit` entry records of one object in `entries`, in order.
    ///
    /// # Errors
    ///
    /// If the store fails or a record is damaged.
    pub fn scan(
        &self,
        (range, key): (u8, &str),
        entries: &EntryRange,
        limit: usize,
    ) -> Loaded<Vec<(EntryKey, Entry)>> {
        Ok(self.page((range, &Arc::from(key)), entries.clone(), limit)?.entries)
    }

    /// As [`Self::scan`], with the fields whose records stand among the entries; of
    /// a small object, the entries that its own record holds.
    ///
    /// # Errors
    ///
    /// If the store fails or a record is damaged.
    pub fn page(
        &self,
        (range, key): (u8, &Arc<str>),
        entries: EntryRange,
        limit: usize,
    ) -> Loaded<EntryPage> {
        let (mut found, mut fields) = (Vec::new(), Vec::new());
        let record = self.object(range, key)?;
        if let Some(inline) = record.and_then(|record| record.inline) {
            let mut within =
                inline.into_iter().filter(|(name, _)| entries.contains(name.as_bytes()));
            found.extend(within.by_ref().take(limit));
            let (key, more) = (Arc::clone(key), within.next().is_some());
            return Ok(EntryPage { key, range: entries, entries: found, fields, more });
        }
        let prefix = keys::entries_of(self.slot, range, key);
        let from = [&prefix[..], &entries.from].concat();
        let to = match &entries.to {
            Some(to) => Some([&prefix[..], to].concat()),
            None => end_of_prefix(&prefix),
        };
        let bounds = KeyRange { from: &from, to: to.as_deref() };
        let mut cursor = self.store.cursor(Table::Entries, bounds)?;
        while found.len() < limit {
            let Some((at, bytes)) = cursor.next()? else { break };
            if let Some(entry) = entry_at(&prefix, at, bytes)? {
                found.push(entry);
            } else {
                let record = decoded(Table::Entries, FieldRecord::decode(bytes))?;
                let name = keys::field_name(at.get(prefix.len()..).unwrap_or_default());
                let name = decoded(Table::Entries, name.ok_or(MISPLACED))?;
                fields.push((Arc::from(name), record.generation));
            }
        }
        let (key, more) = (Arc::clone(key), found.len() == limit);
        Ok(EntryPage { key, range: entries, entries: found, fields, more })
    }

    /// The group's head record.
    ///
    /// # Errors
    ///
    /// If the store fails or the record is damaged.
    pub fn head(&self) -> Loaded<Option<HeadRecord>> {
        let (table, at) = keys::record(self.slot, &coppice_replication::RecordKey::Head);
        let found = self.store.get(table, &at)?;
        found.map(|bytes| decoded(table, HeadRecord::decode(&bytes))).transpose()
    }

    /// What the group holds, by its latest log record or its head; `None` if it
    /// never held anything.
    ///
    /// # Errors
    ///
    /// If the store fails or a record is damaged.
    pub fn totals(&self) -> Loaded<Option<Totals>> {
        let from = keys::slot(self.slot);
        let to = end_of_prefix(&from);
        let range = KeyRange { from: &from, to: to.as_deref() };
        match self.store.last_in(Table::Log, range)? {
            Some((_, bytes)) => Ok(Some(decoded(Table::Log, LogRecord::decode(&bytes))?.totals)),
            None => Ok(self.head()?.map(|head| head.totals)),
        }
    }

    /// The group's repair record.
    ///
    /// # Errors
    ///
    /// If the store fails or the record is damaged.
    pub fn repair(&self) -> Loaded<Option<RepairRecord>> {
        let (table, at) = keys::record(self.slot, &coppice_replication::RecordKey::Repair);
        let found = self.store.get(table, &at)?;
        found.map(|bytes| decoded(table, RepairRecord::decode(&bytes))).transpose()
    }

    /// Log records from `seq` on, until they take `bytes`; at least one if there
    /// is one. With each its number and its size.
    ///
    /// # Errors
    ///
    /// If the store fails or a record is damaged.
    pub fn log(&self, seq: u64, bytes: usize) -> Loaded<Vec<(u64, LogRecord, usize)>> {
        let from = keys::log(self.slot, seq);
        let to = end_of_prefix(&keys::slot(self.slot));
        let range = KeyRange { from: &from, to: to.as_deref() };
        let page = self.store.scan(Table::Log, range, Limit { items: 4096, bytes })?;
        let read = page.items.iter().map(|(key, value)| {
            let seq = decoded(Table::Log, keys::log_seq(key).ok_or(MISPLACED))?;
            Ok((seq, decoded(Table::Log, LogRecord::decode(value))?, value.len()))
        });
        read.collect()
    }

    /// Up to `limit` registers that expire by `ms`, with their deadlines.
    ///
    /// # Errors
    ///
    /// If the store fails or a key is damaged.
    pub fn expired(&self, ms: u64, limit: usize) -> Loaded<Vec<(u64, Arc<str>)>> {
        let from = keys::slot(self.slot);
        let to = keys::deadlines_until(self.slot, ms);
        let page =
            self.store.scan(Table::Deadlines, KeyRange::new(&from, &to), Limit::items(limit))?;
        let read = page.items.iter().map(|(key, _)| {
            let (ms, key) = decoded(Table::Deadlines, keys::deadline(key).ok_or(MISPLACED))?;
            Ok((ms, Arc::from(key)))
        });
        read.collect()
    }

    /// The objects that are to be swept.
    ///
    /// # Errors
    ///
    /// If the store fails or a key is damaged.
    pub fn sweeps(&self) -> Loaded<Vec<Arc<str>>> {
        let from = keys::sweeps(self.slot);
        let to = end_of_prefix(&from);
        let range = KeyRange { from: &from, to: to.as_deref() };
        let page = self.store.scan(Table::Meta, range, Limit::NONE)?;
        let read = page.items.iter().map(|(key, _)| {
            let key = decoded(Table::Meta, keys::swept_object(key).ok_or(MISPLACED))?;
            Ok(Arc::from(key))
        });
        read.collect()
    }

    /// Up to `limit` dead cells of `owner` that died before the log record
    /// `before`, the earliest first, each with what it was like then.
    ///
    /// # Errors
    ///
    /// If the store fails or a record is damaged.
    pub fn dead_cells(
        &self,
        owner: ActorId,
        before: u64,
        limit: usize,
    ) -> Loaded<Vec<(DeadCell, Entry)>> {
        let from = keys::floors_of(self.slot, owner, 0);
        let to = keys::floors_of(self.slot, owner, before);
        let page =
            self.store.scan(Table::Floors, KeyRange::new(&from, &to), Limit::items(limit))?;
        let read = page.items.iter().map(|(key, died)| {
            let cell = decoded(Table::Floors, keys::dead_cell(key).ok_or(MISPLACED))?;
            Ok((cell, decoded(Table::Floors, decode_entry(died))?))
        });
        read.collect()
    }

    /// Walks all that stands between two places of a range, in order: each
    /// object that has entries there, with its record and those entries.
    ///
    /// Stops once `visit` returns false, and returns the first place that was
    /// not visited.
    ///
    /// # Errors
    ///
    /// If the store fails or a record is damaged.
    pub fn walk(
        &self,
        range: u8,
        (from, to): (Option<&Position>, Option<&Position>),
        mut visit: impl FnMut(Visited<'_>) -> bool,
    ) -> Loaded<Option<Position>> {
        let start = from.map_or_else(
            || keys::range(self.slot, range),
            |from| keys::object_at(self.slot, range, &from.key),
        );
        let end = end_of_prefix(&keys::range(self.slot, range));
        let bounds = KeyRange { from: &start, to: end.as_deref() };
        let mut objects = self.store.cursor(Table::Objects, bounds)?;
        while let Some((at, bytes)) = objects.next()? {
            let key = decoded(Table::Objects, keys::object_key(at).ok_or(MISPLACED))?;
            if to.is_some_and(|to| key > &*to.key || (key == &*to.key && to.entry.is_empty())) {
                break;
            }
            let record = decoded(Table::Objects, ObjectRecord::decode(bytes))?;
            let key: Arc<str> = key.into();
            let within = |position: Option<&Position>| {
                position.filter(|position| position.key == key).map(|at| at.entry.clone())
            };
            let bounds = EntryRange { from: within(from).unwrap_or_default(), to: within(to) };
            if !visit(Visited::Object(&key, &record)) {
                return Ok(Some(Position { key, entry: bounds.from }));
            }
            if let Some(stopped) = self.walk_entries(range, (&key, &record), &bounds, &mut visit)? {
                return Ok(Some(stopped));
            }
        }
        Ok(None)
    }

    fn walk_entries(
        &self,
        range: u8,
        (key, record): (&Arc<str>, &ObjectRecord),
        bounds: &EntryRange,
        visit: &mut impl FnMut(Visited<'_>) -> bool,
    ) -> Loaded<Option<Position>> {
        let stopped_at = |name: &EntryKey| {
            Some(Position { key: Arc::clone(key), entry: name.as_bytes().into() })
        };
        if let Some(inline) = &record.inline {
            for (name, entry) in inline {
                if bounds.contains(name.as_bytes()) && !visit(Visited::Entry(key, name, entry)) {
                    return Ok(stopped_at(name));
                }
            }
            return Ok(None);
        }
        let prefix = keys::entries_of(self.slot, range, key);
        let from = [&prefix[..], &bounds.from].concat();
        let to = match &bounds.to {
            Some(to) => Some([&prefix[..], to].concat()),
            None => end_of_prefix(&prefix),
        };
        let mut cursor =
            self.store.cursor(Table::Entries, KeyRange { from: &from, to: to.as_deref() })?;
        while let Some((at, bytes)) = cursor.next()? {
            let Some((name, entry)) = entry_at(&prefix, at, bytes)? else { continue };
            let mut left = Some(entry);
            for removal in &record.hidden {
                left = left.and_then(|entry| removal.survivors(&name, entry));
            }
            if left.is_some_and(|entry| !visit(Visited::Entry(key, &name, &entry))) {
                return Ok(stopped_at(&name));
            }
        }
        Ok(None)
    }
}

/// What a walk comes by.
#[derive(Clone, Copy, Debug)]
pub enum Visited<'a> {
    /// An object; entries of it may follow.
    Object(&'a Arc<str>, &'a ObjectRecord),
    /// An entry of the object before it.
    Entry(&'a Arc<str>, &'a EntryKey, &'a Entry),
}

/// An entry from its record; `None` for the summaries of a map's field.
fn entry_at(prefix: &[u8], at: &[u8], bytes: &[u8]) -> Loaded<Option<(EntryKey, Entry)>> {
    let name = at.get(prefix.len()..).unwrap_or_default();
    match EntryKey::parse(name) {
        Ok(name) => Ok(Some((name, decoded(Table::Entries, decode_entry(bytes))?))),
        Err(_) if name.last() == Some(&0) => Ok(None),
        Err(_) => decoded(Table::Entries, Err(MISPLACED)),
    }
}

/// What is listed at once stays below so many bytes, or is one entry.
const LISTED_BYTES: usize = 4 << 20;

/// The names of what stands between two places, until there are `limit` or
/// [`LISTED_BYTES`], and the records to work on it.
pub(crate) struct Listed {
    pub(crate) listing: LocalListing,
    pub(crate) objects: Vec<(Arc<str>, ObjectRecord)>,
    pub(crate) entries: Vec<(Arc<str>, EntryKey, Entry)>,
}

impl<R: Read> GroupRecords<'_, R> {
    /// Lists what stands between two places, for a repair to be joined to it.
    pub(crate) fn list_for_repair(
        &self,
        range: u8,
        bounds: (Option<&Position>, Option<&Position>),
        limit: usize,
    ) -> Loaded<Listed> {
        let mut objects: Vec<(Arc<str>, ObjectRecord)> = Vec::new();
        let mut names: Vec<(Arc<str>, Vec<EntryKey>)> = Vec::new();
        let mut entries = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        let reached = self.walk(range, bounds, |visited| {
            match visited {
                Visited::Object(key, record) => {
                    if count >= limit {
                        return false;
                    }
                    objects.push((Arc::clone(key), record.clone()));
                    names.push((Arc::clone(key), Vec::new()));
                }
                Visited::Entry(key, name, entry) => {
                    let more = weight(entry);
                    if count >= limit || (count > 0 && bytes + more > LISTED_BYTES) {
                        return false;
                    }
                    count += 1;
                    bytes += more;
                    if let Some((_, names)) = names.last_mut() {
                        names.push(name.clone());
                    }
                    entries.push((Arc::clone(key), name.clone(), entry.clone()));
                }
            }
            true
        })?;
        Ok(Listed { listing: LocalListing { objects: names, reached }, objects, entries })
    }
}
