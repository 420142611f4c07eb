//! A store in memory that can be crashed, copied and made to fail.
//!
//! For the simulation and for tests: it keeps apart what was synced from what
//! was only written, so a crash can take the tail that a power loss would.
//! What a real disk may do and this one does not: tear a commit, or lose
//! something that was synced.
//!
//! Pure: no clock, no randomness, no thread of its own, no IO.

mod ordered_map;
mod view;

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use self::ordered_map::OrderedMap;
pub use self::view::{MemoryCursor, MemorySnapshot};
use super::{
    Batch, Durability, Item, KeyRange, Limit, Page, Read, Reader, Store, StoreError, Table, Write,
};

/// A [`Store`] that keeps everything in memory.
///
/// [`crash`](MemoryStore::crash) turns it into the store that a restart finds.
#[derive(Debug, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    /// What a power loss leaves, whatever happens.
    synced: Tables,
    /// Commits since, oldest first: a power loss leaves the first few.
    unsynced: VecDeque<Batch>,
    injected: Option<InjectedFailure>,
    stopped: Option<Aftermath>,
}

/// Reads a [`MemoryStore`] from any thread.
#[derive(Clone, Debug)]
pub struct MemoryReader {
    shared: Arc<Shared>,
}

/// How a [`MemoryStore`] goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies, the machine does not: every commit is found again,
    /// and what was unsynced still is.
    ProcessKill,
    /// The machine loses power: everything synced is found, and of the
    /// unsynced commits the oldest.
    PowerLoss {
        /// How many of the [`unsynced`](MemoryStore::unsynced) commits reached
        /// the disk; more than there are means all.
        unsynced_kept: usize,
    },
}

/// A failure to come: see [`MemoryStore::fail_next_commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectedFailure {
    /// What the caller is told.
    pub cause: FailureCause,
    /// What is found when the store is reopened, or restarted after a crash.
    pub outcome: FailureOutcome,
}

/// What a failed write reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCause {
    /// [`StoreError::DiskFull`].
    DiskFull,
    /// [`StoreError::Io`].
    Io,
}

/// What a failed write leaves: the caller cannot know which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureOutcome {
    /// A failed commit left nothing; a failed `sync` lost every unsynced
    /// commit.
    Lost,
    /// It happened all the same.
    Written,
}

/// One map per table, at its index.
type Tables = [OrderedMap; Table::ALL.len()];

#[derive(Debug)]
struct Shared {
    /// What reads see; `None` once the store is closed.
    live: RwLock<Option<Tables>>,
    /// Goes up with each reopening, which ends the snapshots taken before.
    openings: AtomicU64,
    fsyncs: AtomicU64,
}

/// What the next opening finds after a write that failed.
#[derive(Clone, Debug)]
enum Aftermath {
    AsBefore,
    WithCommit(Batch),
    WithoutUnsynced,
}

// === impl MemoryStore ===

impl MemoryStore {
    /// An empty store: a new disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many commits a power loss could take.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// The store as a restart finds it. Readers and snapshots of this one fail
    /// from now on; a failure that was injected is forgotten.
    #[must_use = "the store that is found after the crash"]
    pub fn crash(mut self, crash: Crash) -> Self {
        let found = self.clone_disk();
        self.shut();
        match crash {
            Crash::ProcessKill => found,
            Crash::PowerLoss { unsynced_kept } => {
                let mut synced = found.synced.clone();
                for batch in found.unsynced.iter().take(unsynced_kept) {
                    apply(&mut synced, batch);
                }
                Self::holding(synced, VecDeque::new())
            }
        }
    }

    /// A copy of the disk as a restart would find it, unsynced commits
    /// included, while this store goes on: a cloned volume, or, put in its
    /// place later, one that was rolled back.
    #[must_use = "the copy"]
    pub fn clone_disk(&self) -> Self {
        let mut unsynced = self.unsynced.clone();
        match &self.stopped {
            None | Some(Aftermath::AsBefore) => {}
            Some(Aftermath::WithCommit(batch)) => unsynced.push_back(batch.clone()),
            Some(Aftermath::WithoutUnsynced) => unsynced.clear(),
        }
        Self::holding(self.synced.clone(), unsynced)
    }

    /// Makes the next commit fail, or the next `sync` that has something to
    /// do, whichever comes first. The store then stops as any store does.
    pub fn fail_next_commit(&mut self, failure: InjectedFailure) {
        self.injected = Some(failure);
    }

    /// A store that finds `synced` on its disk, and `unsynced` commits.
    fn holding(synced: Tables, unsynced: VecDeque<Batch>) -> Self {
        let mut live = synced.clone();
        for batch in &unsynced {
            apply(&mut live, batch);
        }
        let shared = Arc::new(Shared { live: RwLock::new(Some(live)), ..Shared::default() });
        Self { shared, synced, unsynced, injected: None, stopped: None }
    }

    fn check_running(&self) -> Result<(), StoreError> {
        if self.stopped.is_some() { Err(StoreError::Stopped) } else { Ok(()) }
    }

    fn mark_synced(&mut self) {
        self.synced = self.shared.tables().expect("open: its owner has not closed it");
        self.unsynced.clear();
        self.shared.fsyncs.fetch_add(1, Ordering::Relaxed);
    }

    fn shut(&mut self) {
        *self.shared.live.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn view(&self) -> Result<MemorySnapshot, StoreError> {
        MemorySnapshot::of(&self.shared)
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.shut();
    }
}

impl Store for MemoryStore {
    type Reader = MemoryReader;

    fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<(), StoreError> {
        self.check_running()?;
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(InjectedFailure { cause, outcome }) = self.injected.take() {
            self.stopped = Some(match outcome {
                FailureOutcome::Lost => Aftermath::AsBefore,
                FailureOutcome::Written => Aftermath::WithCommit(batch.clone()),
            });
            return Err(cause.error("commit a batch"));
        }
        if let Some(live) =
            self.shared.live.write().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            apply(live, batch);
        }
        match durability {
            Durability::Sync => self.mark_synced(),
            Durability::NoSync => self.unsynced.push_back(batch.clone()),
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.check_running()?;
        if self.unsynced.is_empty() {
            return Ok(());
        }
        if let Some(InjectedFailure { cause, outcome }) = self.injected.take() {
            self.stopped = Some(match outcome {
                FailureOutcome::Lost => Aftermath::WithoutUnsynced,
                FailureOutcome::Written => Aftermath::AsBefore,
            });
            return Err(cause.error("sync the store"));
        }
        self.mark_synced();
        Ok(())
    }

    fn reader(&self) -> MemoryReader {
        MemoryReader { shared: Arc::clone(&self.shared) }
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        let mut found = self.clone_disk();
        self.synced = std::mem::take(&mut found.synced);
        self.unsynced = std::mem::take(&mut found.unsynced);
        self.stopped = None;
        self.injected = None;
        *self.shared.live.write().unwrap_or_else(PoisonError::into_inner) = found.shared.tables();
        self.shared.openings.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn close(mut self) -> Result<(), StoreError> {
        let synced = self.sync();
        self.shut();
        synced
    }
}

impl Read for MemoryStore {
    type Cursor<'a> = MemoryCursor;

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let live = self.shared.live.read().unwrap_or_else(PoisonError::into_inner);
        let live = live.as_ref().ok_or(StoreError::Closed)?;
        Ok(live[table.index()].get(key).cloned())
    }

    fn get_many(&self, keys: &[(Table, &[u8])]) -> Result<Vec<Option<Bytes>>, StoreError> {
        keys.iter().map(|(table, key)| self.get(*table, key)).collect()
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

    fn cursor(&self, table: Table, range: KeyRange<'_>) -> Result<MemoryCursor, StoreError> {
        self.view()?.cursor(table, range)
    }
}

// === impl MemoryReader ===

impl Reader for MemoryReader {
    type Snapshot = MemorySnapshot;

    fn snapshot(&self) -> Result<MemorySnapshot, StoreError> {
        MemorySnapshot::of(&self.shared)
    }

    fn fsyncs(&self) -> u64 {
        self.shared.fsyncs.load(Ordering::Relaxed)
    }

    fn bytes_on_disk(&self) -> u64 {
        let live = self.shared.live.read().unwrap_or_else(PoisonError::into_inner);
        let bytes = live.iter().flatten().map(OrderedMap::bytes).sum::<usize>();
        bytes as u64
    }
}

// === impl FailureCause ===

impl FailureCause {
    fn error(self, attempt: &'static str) -> StoreError {
        let kind = match self {
            Self::DiskFull => io::ErrorKind::StorageFull,
            Self::Io => io::ErrorKind::BrokenPipe,
        };
        StoreError::from_io(attempt, io::Error::new(kind, "injected failure"))
    }
}

// === impl Shared ===

impl Shared {
    fn tables(&self) -> Option<Tables> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_closed(&self) -> bool {
        self.live.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            live: RwLock::new(Some(Tables::default())),
            openings: AtomicU64::new(0),
            fsyncs: AtomicU64::new(0),
        }
    }
}

fn apply(tables: &mut Tables, batch: &Batch) {
    for write in batch.iter() {
        match write {
            Write::Put { table, key, value } => tables[table.index()]
                .insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)),
            Write::Delete { table, key } => tables[table.index()].remove(key),
            Write::DeleteRange { table, from, to } => {
                tables[table.index()].remove_range(from, to);
            }
        }
    }
}

#[cfg(test)]
mod tests;
