//! A store for tests of what is above it: its disk is full, or does not answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;

use bytes::Bytes;

use super::memory::{MemoryCursor, MemoryReader, MemoryStore};
use super::{Batch, Durability, Item, KeyRange, Limit, Page, Read, Store, StoreError, Table};

/// A store in memory that fails.
#[derive(Default)]
pub(crate) struct Failing {
    inner: MemoryStore,
    /// The next commits fail, so many of them.
    pub(crate) commits: Arc<AtomicU32>,
    /// A sync waits for this.
    hangs: Option<Receiver<()>>,
}

impl Failing {
    /// One whose disk does not answer until something is sent, or nobody can.
    pub(crate) fn hanging(answer: Receiver<()>) -> Self {
        Self { hangs: Some(answer), ..Self::default() }
    }
}

impl Read for Failing {
    type Cursor<'a> = MemoryCursor;

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.inner.get(table, key)
    }

    fn get_many(&self, keys: &[(Table, &[u8])]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.inner.get_many(keys)
    }

    fn scan(&self, table: Table, range: KeyRange<'_>, limit: Limit) -> Result<Page, StoreError> {
        self.inner.scan(table, range, limit)
    }

    fn first_in(&self, table: Table, range: KeyRange<'_>) -> Result<Option<Item>, StoreError> {
        self.inner.first_in(table, range)
    }

    fn last_in(&self, table: Table, range: KeyRange<'_>) -> Result<Option<Item>, StoreError> {
        self.inner.last_in(table, range)
    }

    fn cursor(&self, table: Table, range: KeyRange<'_>) -> Result<MemoryCursor, StoreError> {
        self.inner.cursor(table, range)
    }
}

impl Store for Failing {
    type Reader = MemoryReader;

    fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<(), StoreError> {
        let fails = |left: u32| left.checked_sub(1);
        if self.commits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok() {
            return Err(StoreError::DiskFull(io::ErrorKind::StorageFull.into()));
        }
        self.inner.commit(batch, durability)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if let Some(answer) = &self.hangs {
            // Who would answer may be gone.
            let _ = answer.recv();
        }
        self.inner.sync()
    }

    fn reader(&self) -> MemoryReader {
        self.inner.reader()
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.inner.reopen()
    }

    fn close(self) -> Result<(), StoreError> {
        self.inner.close()
    }
}
