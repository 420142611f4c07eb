//! Reads of a memory store: snapshots and cursors.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use super::{
    Shared, Tables,
    ordered_map::{OrderedMap, Position},
};
use crate::store::{Cursor, Item, KeyRange, Limit, Page, Read, StoreError, Table};

/// One state of a [`MemoryStore`](super::MemoryStore), shared with it as far as
/// it has not changed since.
#[derive(Clone, Debug)]
pub struct MemorySnapshot {
    tables: Tables,
    opening: Opening,
}

/// Walks a range of one table of a [`MemorySnapshot`].
#[derive(Debug)]
pub struct MemoryCursor {
    map: OrderedMap,
    from: Position,
    position: Position,
    end: Position,
    opening: Opening,
}

/// The opening of a store that a view belongs to, and ends with.
#[derive(Clone, Debug)]
struct Opening {
    shared: Arc<Shared>,
    number: u64,
}

// === impl MemorySnapshot ===

impl MemorySnapshot {
    pub(super) fn of(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let number = shared.openings.load(Ordering::Relaxed);
        let tables = shared.tables().ok_or(StoreError::Closed)?;
        Ok(Self { tables, opening: Opening { shared: Arc::clone(shared), number } })
    }

    fn table(&self, table: Table) -> Result<&OrderedMap, StoreError> {
        self.opening.check()?;
        Ok(&self.tables[table.index()])
    }
}

impl Read for MemorySnapshot {
    type Cursor<'a> = MemoryCursor;

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.table(table)?.get(key).cloned())
    }

    fn get_many(&self, keys: &[(Table, &[u8])]) -> Result<Vec<Option<Bytes>>, StoreError> {
        keys.iter().map(|(table, key)| self.get(*table, key)).collect()
    }

    fn scan(&self, table: Table, range: KeyRange<'_>, limit: Limit) -> Result<Page, StoreError> {
        let mut cursor = self.cursor(table, range)?;
        let (mut page, mut bytes) = (Page::default(), 0);
        while let Some((key, value)) = cursor.step() {
            if !page.offer(key, || value.clone(), limit, &mut bytes) {
                break;
            }
        }
        Ok(page)
    }

    fn first_in(&self, table: Table, range: KeyRange<'_>) -> Result<Option<Item>, StoreError> {
        Ok(self.cursor(table, range)?.step().cloned())
    }

    fn last_in(&self, table: Table, range: KeyRange<'_>) -> Result<Option<Item>, StoreError> {
        let map = self.table(table)?;
        let last = map.before(map.end_of(range));
        Ok(last.filter(|(key, _)| range.contains(key)).cloned())
    }

    fn cursor(&self, table: Table, range: KeyRange<'_>) -> Result<MemoryCursor, StoreError> {
        let map = self.table(table)?.clone();
        let (from, end) = (map.lower_bound(range.from), map.end_of(range));
        Ok(MemoryCursor { map, from, position: from, end, opening: self.opening.clone() })
    }
}

// === impl MemoryCursor ===

impl MemoryCursor {
    fn step(&mut self) -> Option<&Item> {
        if self.position >= self.end {
            return None;
        }
        let here = self.position;
        self.position = self.map.after(here);
        self.map.at(here)
    }
}

impl Cursor for MemoryCursor {
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.opening.check()?;
        self.position = self.map.lower_bound(key).max(self.from);
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>, StoreError> {
        self.opening.check()?;
        Ok(self.step().map(|(key, value)| (&key[..], &value[..])))
    }
}

// === impl Opening ===

impl Opening {
    fn check(&self) -> Result<(), StoreError> {
        if self.shared.is_closed() {
            return Err(StoreError::Closed);
        }
        if self.shared.openings.load(Ordering::Relaxed) != self.number {
            return Err(StoreError::Expired);
        }
        Ok(())
    }
}
