//! The handle of the open database, shared with readers and swapped by the
//! owner.
//!
//! A database is closed when its last user lets go, and it must be closed
//! before it can be opened again. So the owner takes it back: new snapshots
//! wait, old ones are emptied, and a call that is under way holds it until it
//! returns. Each database holds one end of a channel that nothing is ever sent
//! on: when the other end finds it gone, the database is closed.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender},
    },
    time::Duration,
};

use ::rocksdb::{DB, checkpoint::Checkpoint};

use super::{
    engine_error::translate,
    snapshot::{RocksSnapshot, Slot},
};
use crate::store::{Reader, StoreError};

/// How long a reader waits for a store that is being reopened.
const REOPENING_WAIT: Duration = Duration::from_secs(1);

/// An open database, closed when the last handle goes.
pub(super) type Handle = Arc<Database>;

/// Disconnected once the database is closed.
pub(super) type Closing = Receiver<()>;

pub(super) struct Database {
    // Dropped in this order: closed first, then reported.
    db: DB,
    _held: SyncSender<()>,
}

/// Reads a [`RocksStore`](super::RocksStore) from any thread.
#[derive(Clone, Debug)]
pub struct RocksReader {
    shared: Arc<Shared>,
}

/// What the owner shares with readers and snapshots.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Told whenever `access` changes.
    changed: Condvar,
    pub(super) fsyncs: AtomicU64,
    /// The database's directory.
    path: PathBuf,
}

#[derive(Debug)]
struct State {
    access: Access,
    /// Snapshots that may hold the database, by number.
    snapshots: HashMap<u64, Weak<Slot>>,
    next_snapshot: u64,
}

#[derive(Debug)]
enum Access {
    Open(Handle),
    Ended(Ended),
}

/// Why a snapshot, or the handle, holds nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Reopened,
    Closed,
}

// === impl Database ===

impl Database {
    pub(super) fn new(db: DB, held: SyncSender<()>) -> Self {
        Self { db, _held: held }
    }

    pub(super) fn db(&self) -> &DB {
        &self.db
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Database").field(&self.db.path()).finish()
    }
}

// === impl RocksReader ===

impl RocksReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// A number that rises with every commit: where it has not, a snapshot on
    /// disk would hold nothing new.
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Reader::snapshot).
    pub fn last_write(&self) -> Result<u64, StoreError> {
        Ok(self.database()?.db().latest_sequence_number())
    }

    /// Makes a copy of the database in the new directory `target` on the same
    /// volume: table files as hard links, all else copied. Flushes first.
    pub(crate) fn checkpoint(&self, target: &Path) -> Result<(), StoreError> {
        let database = self.database()?;
        Checkpoint::new(database.db())
            .and_then(|checkpoint| checkpoint.create_checkpoint(target))
            .map_err(|error| translate("make a checkpoint of the database", error))
    }

    /// The database itself, which does not close while this is held.
    fn database(&self) -> Result<Handle, StoreError> {
        match &self.shared.opened()?.access {
            Access::Open(database) => Ok(Arc::clone(database)),
            Access::Ended(ended) => Err(ended.of_handle()),
        }
    }
}

impl Reader for RocksReader {
    type Snapshot = RocksSnapshot;

    fn snapshot(&self) -> Result<RocksSnapshot, StoreError> {
        let mut state = self.shared.opened()?;
        let database = match &state.access {
            Access::Open(database) => Arc::clone(database),
            Access::Ended(ended) => return Err(ended.of_handle()),
        };
        let number = state.next_snapshot;
        state.next_snapshot += 1;
        let slot = Arc::new(Slot::new(number, database, Arc::clone(&self.shared)));
        state.snapshots.insert(number, Arc::downgrade(&slot));
        Ok(RocksSnapshot::new(slot))
    }

    fn fsyncs(&self) -> u64 {
        self.shared.fsyncs.load(Ordering::Relaxed)
    }

    fn bytes_on_disk(&self) -> u64 {
        let Ok(files) = std::fs::read_dir(&self.shared.path) else { return 0 };
        files.flatten().filter_map(|file| file.metadata().ok()).map(|found| found.len()).sum()
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(database: Handle, path: PathBuf) -> Self {
        Self {
            state: Mutex::new(State {
                access: Access::Open(database),
                snapshots: HashMap::new(),
                next_snapshot: 0,
            }),
            changed: Condvar::new(),
            fsyncs: AtomicU64::new(0),
            path,
        }
    }

    /// Takes the database away from every reader and snapshot.
    pub(super) fn shut(&self, ended: Ended) {
        let slots: Vec<Arc<Slot>> = {
            let mut state = self.lock();
            state.access = Access::Ended(ended);
            self.changed.notify_all();
            state.snapshots.drain().filter_map(|(_, slot)| slot.upgrade()).collect()
        };
        // Outside the lock, which a slot takes when it goes.
        for slot in slots {
            slot.end(ended);
        }
    }

    /// Gives readers the database that was opened.
    pub(super) fn put_back(&self, database: Handle) {
        self.lock().access = Access::Open(database);
        self.changed.notify_all();
    }

    /// Forgets a snapshot that is gone.
    pub(super) fn forget(&self, number: u64) {
        self.lock().snapshots.remove(&number);
    }

    /// The state, after waiting for a reopening to end.
    fn opened(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let reopening = |state: &mut State| matches!(state.access, Access::Ended(Ended::Reopened));
        let (state, waited) = self
            .changed
            .wait_timeout_while(self.lock(), REOPENING_WAIT, reopening)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() { Err(StoreError::Reopening) } else { Ok(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Ended ===

impl Ended {
    /// What a snapshot that ended this way answers.
    pub(super) fn of_snapshot(self) -> StoreError {
        match self {
            Self::Reopened => StoreError::Expired,
            Self::Closed => StoreError::Closed,
        }
    }

    fn of_handle(self) -> StoreError {
        match self {
            Self::Reopened => StoreError::Reopening,
            Self::Closed => StoreError::Closed,
        }
    }
}
