//! Snapshots and cursors that own what they read from.
//!
//! The engine's snapshot borrows the database and its iterator borrows the
//! snapshot; `self_cell` ties each to a counted handle of its owner, so that
//! both may live on any thread for as long as they like, or until the store is
//! reopened.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::rocksdb::{DBRawIterator, Snapshot as EngineSnapshot};
use bytes::Bytes;
use self_cell::self_cell;

use super::{
    engine_error::translate,
    handle::{Ended, Handle, Shared},
    view::{View, family},
};
use crate::store::{Cursor, Item, KeyRange, Limit, Page, Read, StoreError, Table};

self_cell!(
    struct Held {
        owner: Handle,
        #[covariant]
        dependent: EngineSnapshot,
    }
);

self_cell!(
    struct Walk {
        owner: Arc<Held>,
        #[covariant]
        dependent: DBRawIterator,
    }
);

/// One state of a [`RocksStore`](super::RocksStore).
///
/// Cloning shares it; it is let go when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct RocksSnapshot {
    slot: Arc<Slot>,
}

/// Walks a range of one table of a [`RocksSnapshot`].
pub struct RocksCursor {
    walk: Walk,
    slot: Arc<Slot>,
    from: Bytes,
    /// Whether the iterator stands on the item to return next.
    ahead: bool,
}

/// A snapshot, until it is let go or taken away.
pub(super) struct Slot {
    number: u64,
    held: Mutex<Result<Arc<Held>, Ended>>,
    shared: Arc<Shared>,
}

// === impl RocksSnapshot ===

impl RocksSnapshot {
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        Self { slot }
    }

    fn read<T>(
        &self,
        query: impl FnOnce(View<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let held = self.slot.held()?;
        query(held.view())
    }
}

impl Read for RocksSnapshot {
    type Cursor<'a> = RocksCursor;

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.read(|view| view.get(table, key))
    }

    fn get_many(&self, keys: &[(Table, &[u8])]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.read(|view| view.get_many(keys))
    }

    fn scan(&self, table: Table, range: KeyRange<'_>, limit: Limit) -> Result<Page, StoreError> {
        self.read(|view| view.scan(table, range, limit))
    }

    fn first_in(&self, table: Table, range: KeyRange<'_>) -> Result<Option<Item>, StoreError> {
        self.read(|view| view.first_in(table, range))
    }

    fn last_in(&self, table: Table, range: KeyRange<'_>) -> Result<Option<Item>, StoreError> {
        self.read(|view| view.last_in(table, range))
    }

    fn cursor(&self, table: Table, range: KeyRange<'_>) -> Result<RocksCursor, StoreError> {
        let walk = Walk::new(self.slot.held()?, |held| {
            let view = held.view();
            let mut options = view.options(range);
            // A walk over much data is not to push out what is read often.
            options.fill_cache(false);
            view.db().raw_iterator_cf_opt(family(view.db(), table), options)
        });
        let mut cursor = RocksCursor {
            walk,
            slot: Arc::clone(&self.slot),
            from: Bytes::copy_from_slice(range.from),
            ahead: false,
        };
        cursor.seek(range.from)?;
        Ok(cursor)
    }
}

// === impl RocksCursor ===

impl Cursor for RocksCursor {
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.slot.check()?;
        let key = key.max(&self.from[..]);
        self.walk.with_dependent_mut(|_, iterator| iterator.seek(key));
        self.ahead = true;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>, StoreError> {
        self.slot.check()?;
        let stands = std::mem::replace(&mut self.ahead, false);
        self.walk.with_dependent_mut(|_, iterator| {
            if !stands && iterator.valid() {
                iterator.next();
            }
        });
        let iterator = self.walk.borrow_dependent();
        match iterator.item() {
            Some(item) => Ok(Some(item)),
            None => iterator.status().map(|()| None).map_err(|e| translate("walk a table", e)),
        }
    }
}

impl std::fmt::Debug for RocksCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksCursor").field("slot", &self.slot).finish_non_exhaustive()
    }
}

// === impl Held ===

impl Held {
    fn view(&self) -> View<'_> {
        View::of(self.borrow_owner().db(), self.borrow_dependent())
    }
}

// === impl Slot ===

impl Slot {
    pub(super) fn new(number: u64, database: Handle, shared: Arc<Shared>) -> Self {
        let held = Held::new(database, |database| database.db().snapshot());
        Self { number, held: Mutex::new(Ok(Arc::new(held))), shared }
    }

    /// Takes the snapshot away from its holder.
    pub(super) fn end(&self, ended: Ended) {
        let taken = std::mem::replace(&mut *self.lock(), Err(ended));
        drop(taken);
    }

    fn held(&self) -> Result<Arc<Held>, StoreError> {
        match &*self.lock() {
            Ok(held) => Ok(Arc::clone(held)),
            Err(ended) => Err(ended.of_snapshot()),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        match &*self.lock() {
            Ok(_) => Ok(()),
            Err(ended) => Err(ended.of_snapshot()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Result<Arc<Held>, Ended>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.forget(self.number);
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("number", &self.number).finish_non_exhaustive()
    }
}
