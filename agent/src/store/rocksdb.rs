//! The store on disk: one RocksDB database per agent.
//!
//! A column family per [`Table`], one write-ahead log over all, so a batch is
//! atomic across tables. The owner writes; readers get snapshots from a shared
//! handle that the owner can swap.
//!
//! `RocksDB` latches the first failure of a write or of background work, and
//! goes on failing after its cause is gone (facebook/rocksdb#11643, #12998).
//! So a failed store is closed and opened again: [`Store::reopen`]. For that,
//! every snapshot must let go of the database, which is why a snapshot can be
//! taken away from its holder (`handle.rs`).
//!
//! Layout of the data directory: `FORMAT` (the version that wrote it), `LOCK`
//! (held while a store is open, with the holder's process id), `db/` (the
//! database), `snapshots/` (not of this module).

mod commit;
mod data_directory;
mod engine_error;
mod handle;
mod settings;
mod snapshot;
mod view;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering, mpsc::RecvTimeoutError},
    time::Duration,
};

use ::rocksdb::DB;
use bytes::Bytes;

use self::{
    data_directory::DataDirectory,
    engine_error::translate,
    handle::{Closing, Database, Ended, Handle, Shared},
    settings::Engine,
    view::View,
};
pub use self::{
    data_directory::FORMAT_VERSION,
    handle::RocksReader,
    settings::RocksSettings,
    snapshot::{RocksCursor, RocksSnapshot},
};
use super::{
    Batch, Durability, Item, KeyRange, Limit, Page, Read, Reader, Store, StoreError, Table,
};

/// How long [`Store::reopen`] waits for calls and cursors that are under way.
const CLOSING_WAIT: Duration = Duration::from_secs(1);

/// A [`Store`] in a data directory, which it holds locked.
pub struct RocksStore {
    directory: DataDirectory,
    engine: Engine,
    /// `None` while the database is closed and could not be opened.
    database: Option<Handle>,
    shared: Arc<Shared>,
    /// A database that was told to close and may still be in use.
    closing: Option<Closing>,
    /// Whether a commit was made since the last sync.
    unsynced: bool,
    /// Whether a write failed since the last opening.
    stopped: bool,
}

// === impl RocksStore ===

impl RocksStore {
    /// Opens the store in `data_dir`, or makes one there. Replays what an
    /// earlier process wrote and did not tidy: up to
    /// [`wal_bytes`](RocksSettings::wal_bytes), a fraction of a second.
    ///
    /// What is found is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`], [`StoreError::NewerVersion`] and
    /// [`StoreError::Corrupt`]: do not start, no data was touched.
    /// [`StoreError::DiskFull`] and [`StoreError::Io`]: nothing was lost.
    pub fn open(data_dir: &Path, settings: &RocksSettings) -> Result<Self, StoreError> {
        let mut directory = DataDirectory::open(data_dir)?;
        let engine = Engine::new(settings);
        let (database, closing) =
            engine.open(&directory.database(), data_dir, directory.is_new())?;
        directory.database_is_made()?;
        let shared = Arc::new(Shared::new(Arc::clone(&database), directory.database()));
        Ok(Self {
            directory,
            engine,
            database: Some(database),
            shared,
            closing: Some(closing),
            unsynced: false,
            stopped: false,
        })
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    fn db(&self) -> Result<&DB, StoreError> {
        self.database.as_deref().map(Database::db).ok_or(StoreError::Reopening)
    }

    fn view(&self) -> Result<View<'_>, StoreError> {
        self.db().map(View::newest)
    }

    fn check_running(&self) -> Result<(), StoreError> {
        if self.stopped { Err(StoreError::Stopped) } else { Ok(()) }
    }

    /// Lets go of the database and waits until everyone has.
    fn shut(&mut self, ended: Ended) -> Result<(), StoreError> {
        self.database = None;
        self.shared.shut(ended);
        let Some(closing) = &self.closing else { return Ok(()) };
        match closing.recv_timeout(CLOSING_WAIT) {
            Err(RecvTimeoutError::Timeout) => Err(StoreError::Reopening),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                self.closing = None;
                Ok(())
            }
        }
    }

    fn adopt(&mut self, (database, closing): (Handle, Closing)) {
        self.closing = Some(closing);
        self.shared.put_back(Arc::clone(&database));
        self.database = Some(database);
    }
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksStore")
            .field("data_dir", &self.data_dir())
            .field("unsynced", &self.unsynced)
            .field("stopped", &self.stopped)
            .finish_non_exhaustive()
    }
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        // A cursor that someone still holds closes the database when it goes.
        let _ = self.shut(Ended::Closed);
    }
}

impl Store for RocksStore {
    type Reader = RocksReader;

    fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<(), StoreError> {
        self.check_running()?;
        if batch.is_empty() {
            return Ok(());
        }
        let written = commit::write(self.db()?, &self.directory, batch, durability);
        self.stopped = written.is_err();
        // A synced write syncs the log, and with it all commits before.
        self.unsynced = durability == Durability::NoSync;
        if durability == Durability::Sync {
            self.shared.fsyncs.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.check_running()?;
        if !self.unsynced {
            return Ok(());
        }
        let synced = self.db()?.flush_wal(true).map_err(|error| translate("sync the log", error));
        self.stopped = synced.is_err();
        self.unsynced = synced.is_err();
        self.shared.fsyncs.fetch_add(1, Ordering::Relaxed);
        synced
    }

    fn reader(&self) -> RocksReader {
        RocksReader::new(Arc::clone(&self.shared))
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.stopped = true;
        let path = self.directory.database();
        if self.database.is_some() {
            // Closing it would begin an empty one, which would then be served.
            self.directory.check_database_is_there()?;
            self.directory.check_room_to_reopen()?;
        }
        self.shut(Ended::Reopened)?;
        match self.engine.open(&path, self.directory.path(), false) {
            Ok(opened) => {
                self.adopt(opened);
                self.unsynced = false;
                self.stopped = false;
                Ok(())
            }
            Err(error) => {
                if let Ok(opened) = self.engine.open_read_only(&path) {
                    self.adopt(opened);
                }
                Err(error)
            }
        }
    }

    fn close(mut self) -> Result<(), StoreError> {
        let synced = self.sync();
        // What is still under way on other threads ends on its own.
        let _ = self.shut(Ended::Closed);
        synced
    }
}

impl Read for RocksStore {
    type Cursor<'a> = RocksCursor;

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.view()?.get(table, key)
    }

    fn get_many(&self, keys: &[(Table, &[u8])]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.view()?.get_many(keys)
    }

    fn scan(&self, table: Table, range: KeyRange<'_>, limit: Limit) -> Result<Page, StoreError> {
        self.view()?.scan(table, range, limit)
    }

    fn first_in(&self, table: Table, range: KeyRange<'_>) -> Result<Option<Item>, StoreError> {
        self.view()?.first_in(table, range)
    }

    fn last_in(&self, table: Table, range: KeyRange<'_>) -> Result<Option<Item>, StoreError> {
        self.view()?.last_in(table, range)
    }

    fn cursor(&self, table: Table, range: KeyRange<'_>) -> Result<RocksCursor, StoreError> {
        self.reader().snapshot()?.cursor(table, range)
    }
}

/// The copy of a database that [`RocksReader::checkpoint`] made, to read from.
/// Not a byte of it is changed.
pub(crate) fn open_checkpoint(path: &Path) -> Result<RocksSnapshot, StoreError> {
    let (database, _) = Engine::new(&RocksSettings::default()).open_read_only(path)?;
    RocksReader::new(Arc::new(Shared::new(database, path.to_owned()))).snapshot()
}

#[cfg(test)]
mod tests;
