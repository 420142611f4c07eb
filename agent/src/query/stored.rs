//! Views of a group over a snapshot of the store.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use coppice_crdt::{
    CrdtType, Entries, Entry, EntryKey, EntryRange, EtagKey, FieldHeader, Header, query,
};
use coppice_replication::{ObjectRecord, RANGES, range_of};

use super::{GroupView, ListPage, ListRequest, QueryError, ViewSource};
use crate::records::{GroupRecords, RecordError};
use crate::store::keys::{self, Slot};
use crate::store::{Cursor, KeyRange, Read, Reader, StoreError, Table, end_of_prefix};

/// Where views of one group of a store come from.
#[derive(Clone, Debug)]
pub struct StoredGroup<R> {
    /// The store's reader.
    pub reader: R,
    /// The group's slot.
    pub slot: Slot,
    /// The key of the group's ranges.
    pub etag_key: EtagKey,
}

impl<R: Reader> ViewSource for StoredGroup<R> {
    fn view(&self) -> Result<Box<dyn GroupView>, QueryError> {
        let snapshot = self.reader.snapshot()?;
        Ok(Box::new(StoredView { snapshot, slot: self.slot, etag_key: self.etag_key }))
    }
}

#[derive(Debug)]
struct StoredView<S> {
    snapshot: S,
    slot: Slot,
    etag_key: EtagKey,
}

/// One object of a view; its header record is read once.
#[derive(Debug)]
struct StoredObject<'a, S> {
    records: GroupRecords<'a, S>,
    range: u8,
    key: &'a str,
    etag_key: EtagKey,
    record: OnceCell<Option<ObjectRecord>>,
}

impl<S: Read + Send + Sync> GroupView for StoredView<S> {
    fn entries<'a>(&'a self, key: &'a str) -> Box<dyn Entries<Error = QueryError> + 'a> {
        Box::new(self.object(key, OnceCell::new()))
    }

    fn list(&self, request: &ListRequest<'_>) -> Result<ListPage, QueryError> {
        let mut ranges = self.cursors(request)?;
        let mut heads = BinaryHeap::with_capacity(RANGES);
        for (at, cursor) in ranges.iter_mut().enumerate() {
            push_head(&mut heads, at, cursor)?;
        }
        let mut page = ListPage::default();
        while let Some(Reverse((key, at, record))) = heads.pop() {
            if !key.starts_with(request.prefix) {
                break; // Keys are in order, so no later one begins with it either.
            }
            push_head(&mut heads, at, &mut ranges[at])?;
            let record = ObjectRecord::decode(&record).map_err(damaged)?;
            let header = record.header;
            let object = self.object(&key, OnceCell::from(Some(record)));
            if !query::exists(&object, request.now_ms)? {
                continue;
            }
            if page.items.len() == request.limit {
                page.more = true;
                break;
            }
            page.items.push((key, header));
        }
        Ok(page)
    }
}

type Head = Reverse<(String, usize, Vec<u8>)>;

fn push_head<C: Cursor>(
    heads: &mut BinaryHeap<Head>,
    at: usize,
    cursor: &mut C,
) -> Result<(), QueryError> {
    if let Some((key, record)) = cursor.next()? {
        let key = keys::object_key(key).ok_or(coppice_replication::DecodeError::Malformed("a key"));
        heads.push(Reverse((key.map_err(damaged)?.to_owned(), at, record.to_vec())));
    }
    Ok(())
}

fn damaged(error: coppice_replication::DecodeError) -> QueryError {
    QueryError::Store(Box::new(error))
}

impl<S: Read> StoredView<S> {
    fn object<'a>(
        &'a self,
        key: &'a str,
        record: OnceCell<Option<ObjectRecord>>,
    ) -> StoredObject<'a, S> {
        let records = GroupRecords { store: &self.snapshot, slot: self.slot };
        let range = range_of(self.etag_key, key);
        StoredObject { records, range, key, etag_key: self.etag_key, record }
    }

    /// One cursor per range, from the first key that may be listed.
    fn cursors(&self, request: &ListRequest<'_>) -> Result<Vec<S::Cursor<'_>>, QueryError> {
        let mut first = request.prefix.to_owned();
        if let Some(after) = request.after.filter(|after| *after >= request.prefix) {
            first = format!("{after}\0"); // The key right behind it.
        }
        let range = |range: usize| {
            let range = u8::try_from(range).unwrap_or(u8::MAX);
            let from = keys::object_at(self.slot, range, &first);
            let to = end_of_prefix(&keys::object_at(self.slot, range, request.prefix));
            self.snapshot.cursor(Table::Objects, KeyRange { from: &from, to: to.as_deref() })
        };
        Ok((0..RANGES).map(range).collect::<Result<_, StoreError>>()?)
    }
}

impl<S: Read> StoredObject<'_, S> {
    fn record(&self) -> Result<Option<&ObjectRecord>, QueryError> {
        if self.record.get().is_none() {
            let read = self.records.object(self.range, self.key)?;
            let _ = self.record.set(read);
        }
        Ok(self.record.get().and_then(Option::as_ref))
    }

    /// What is left of a stored entry under removals that are not carried out yet.
    fn visible(record: &ObjectRecord, name: &EntryKey, entry: Entry) -> Option<Entry> {
        record.hidden.iter().try_fold(entry, |entry, removal| removal.survivors(name, entry))
    }
}

impl<S: Read> Entries for StoredObject<'_, S> {
    type Error = QueryError;

    fn header(&self) -> Result<Option<Header>, QueryError> {
        Ok(self.record()?.map(|record| record.header))
    }

    fn field(&self, name: &str) -> Result<FieldHeader, QueryError> {
        let Some(record) = self.record()? else { return Ok(FieldHeader::default()) };
        let Some(inline) = &record.inline else {
            let field = self.records.field(self.range, self.key, name)?;
            let field = field.and_then(|field| field.of_generation(record.generation));
            return Ok(field.unwrap_or_default());
        };
        let mut field = FieldHeader::default();
        let mut scratch = Header::new(CrdtType::ORMap);
        for (entry_name, entry) in inline {
            if entry_name.field().is_some_and(|of| of.name == name) {
                let change = (None, Some(entry));
                scratch.update(self.etag_key, (self.key, entry_name), Some(&mut field), change);
            }
        }
        Ok(field)
    }

    fn entry(&self, name: &EntryKey) -> Result<Option<Entry>, QueryError> {
        let Some(record) = self.record()? else { return Ok(None) };
        if let Some(inline) = &record.inline {
            let found = inline.binary_search_by(|(known, _)| known.cmp(name));
            return Ok(found.ok().map(|at| inline[at].1.clone()));
        }
        let found = self.records.entry(self.range, self.key, name)?;
        Ok(found.and_then(|entry| Self::visible(record, name, entry)))
    }

    fn scan(
        &self,
        range: &EntryRange,
        after: Option<&EntryKey>,
        limit: usize,
    ) -> Result<Vec<(EntryKey, Entry)>, QueryError> {
        let Some(record) = self.record()? else { return Ok(Vec::new()) };
        if let Some(inline) = &record.inline {
            let wanted = inline.iter().filter(|(name, _)| {
                range.contains(name.as_bytes()) && after.is_none_or(|after| name > after)
            });
            return Ok(wanted.take(limit).cloned().collect());
        }
        let mut found = Vec::new();
        let mut from = match after {
            // The name right behind it, in the order of bytes.
            Some(after) if *after.as_bytes() >= *range.from => {
                [after.as_bytes(), &[0]].concat().into_boxed_slice()
            }
            _ => range.from.clone(),
        };
        // Hidden entries do not count, so more may have to be read.
        while found.len() < limit {
            let rest = EntryRange { from: from.clone(), to: range.to.clone() };
            // Of what is mostly hidden, one by one would be many reads.
            let least = if record.hidden.is_empty() { 0 } else { 256 };
            let wanted = (limit - found.len()).max(least);
            let page = self.records.scan((self.range, self.key), &rest, wanted)?;
            let Some((last, _)) = page.last() else { break };
            from = [last.as_bytes(), &[0]].concat().into_boxed_slice();
            let ended = page.len() < wanted;
            found.extend(page.into_iter().filter_map(|(name, entry)| {
                let entry = Self::visible(record, &name, entry)?;
                Some((name, entry))
            }));
            if ended {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Reopening | StoreError::Expired => Self::Reopening,
            other => Self::Store(Box::new(other)),
        }
    }
}

impl From<RecordError> for QueryError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Store(error) => error.into(),
            damaged @ RecordError::Damaged { .. } => Self::Store(Box::new(damaged)),
        }
    }
}
