//! Reads of the database, at its newest state or at a snapshot.

use ::rocksdb::{ColumnFamily, DB, ReadOptions, Snapshot as EngineSnapshot};
use bytes::Bytes;

use super::engine_error::translate;
use crate::store::{Item, KeyRange, Limit, Page, StoreError, Table};

/// A state of the database to read from.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    db: &'a DB,
    snapshot: Option<&'a EngineSnapshot<'a>>,
}

/// The column family of a table. Every opening names all of them.
pub(super) fn family(db: &DB, table: Table) -> &ColumnFamily {
    db.cf_handle(table.name()).expect("opened with a column family for each table")
}

// === impl View ===

impl<'a> View<'a> {
    pub(super) fn newest(db: &'a DB) -> Self {
        Self { db, snapshot: None }
    }

    pub(super) fn of(db: &'a DB, snapshot: &'a EngineSnapshot<'a>) -> Self {
        Self { db, snapshot: Some(snapshot) }
    }

    pub(super) fn db(&self) -> &'a DB {
        self.db
    }

    /// Options for walking `range`.
    pub(super) fn options(&self, range: KeyRange<'_>) -> ReadOptions {
        let mut options = self.point_options();
        options.set_iterate_lower_bound(range.from);
        if range.is_empty() {
            options.set_iterate_upper_bound(range.from);
        } else if let Some(to) = range.to {
            options.set_iterate_upper_bound(to);
        }
        options
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let family = family(self.db, table);
        let found = match self.snapshot {
            None => self.db.get_pinned_cf(family, key),
            Some(_) => self.db.get_pinned_cf_opt(family, key, &self.point_options()),
        };
        found
            .map(|value| value.map(|value| Bytes::copy_from_slice(&value)))
            .map_err(|error| translate("read a key", error))
    }

    pub(super) fn get_many(
        &self,
        keys: &[(Table, &[u8])],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let named = keys.iter().map(|(table, key)| (family(self.db, *table), *key));
        self.db
            .multi_get_cf_opt(named, &self.point_options())
            .into_iter()
            .map(|found| found.map(|value| value.map(Bytes::from)))
            .collect::<Result<_, _>>()
            .map_err(|error| translate("read keys", error))
    }

    pub(super) fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let mut iterator = self.db.raw_iterator_cf_opt(family(self.db, table), self.options(range));
        let (mut page, mut bytes) = (Page::default(), 0);
        iterator.seek(range.from);
        while let Some((key, value)) = iterator.item() {
            if !page.offer(key, || Bytes::copy_from_slice(value), limit, &mut bytes) {
                return Ok(page);
            }
            iterator.next();
        }
        iterator.status().map(|()| page).map_err(|error| translate("scan a table", error))
    }

    pub(super) fn first_in(
        &self,
        table: Table,
        range: KeyRange<'_>,
    ) -> Result<Option<Item>, StoreError> {
        let page = self.scan(table, range, Limit::items(1))?;
        Ok(page.items.into_iter().next())
    }

    pub(super) fn last_in(
        &self,
        table: Table,
        range: KeyRange<'_>,
    ) -> Result<Option<Item>, StoreError> {
        let mut iterator = self.db.raw_iterator_cf_opt(family(self.db, table), self.options(range));
        iterator.seek_to_last();
        let last = iterator
            .item()
            .map(|(key, value)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        iterator.status().map(|()| last).map_err(|error| translate("find a last key", error))
    }

    fn point_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = self.snapshot {
            options.set_snapshot(snapshot);
        }
        options
    }
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("db", &self.db.path()).finish_non_exhaustive()
    }
}
