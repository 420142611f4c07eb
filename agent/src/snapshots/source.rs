//! Where a running agent's snapshots come from.

use std::fmt;
use std::time::SystemTime;

use super::{SnapshotError, SnapshotInfo, Snapshots};
use crate::store::rocksdb::{RocksReader, RocksStore};
use crate::store::{Store as _, StoreError};

/// Takes snapshots of an open store. Every call may wait for the disk, and none
/// holds up the store's writer. One call to [`take`](Self::take) at a time.
pub trait SnapshotSource: fmt::Debug + Send + Sync + 'static {
    /// A number that rises with every commit.
    ///
    /// # Errors
    ///
    /// If the store is not open now.
    fn last_write(&self) -> Result<u64, StoreError>;

    /// When the newest snapshot was taken; `None`: there is none.
    ///
    /// # Errors
    ///
    /// If the snapshots cannot be listed.
    fn newest(&self) -> Result<Option<SystemTime>, SnapshotError>;

    /// Takes one of the newest commit.
    ///
    /// # Errors
    ///
    /// As [`Snapshots::take`].
    fn take(&self, now: SystemTime) -> Result<SnapshotInfo, SnapshotError>;

    /// Removes the oldest until `keep` are left.
    ///
    /// # Errors
    ///
    /// As [`Snapshots::retain`].
    fn retain(&self, keep: usize) -> Result<(), SnapshotError>;
}

/// Snapshots of a store on disk, in its data directory.
#[derive(Clone, Debug)]
pub struct RocksSnapshots {
    snapshots: Snapshots,
    reader: RocksReader,
}

// === impl RocksSnapshots ===

impl RocksSnapshots {
    /// Those of `store`, which may go to its writer afterwards.
    pub fn of(store: &RocksStore) -> Self {
        Self { snapshots: Snapshots::of(store.data_dir()), reader: store.reader() }
    }
}

impl SnapshotSource for RocksSnapshots {
    fn last_write(&self) -> Result<u64, StoreError> {
        self.reader.last_write()
    }

    fn newest(&self) -> Result<Option<SystemTime>, SnapshotError> {
        Ok(self.snapshots.list()?.last().map(|newest| newest.name.taken_at()))
    }

    fn take(&self, now: SystemTime) -> Result<SnapshotInfo, SnapshotError> {
        self.snapshots.take(&self.reader, now)
    }

    fn retain(&self, keep: usize) -> Result<(), SnapshotError> {
        self.snapshots.retain(keep).map(|_| ())
    }
}
