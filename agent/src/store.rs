//! Where replicas keep what they know: the trait [`Store`], and its engines.
//!
//! A store is a handful of [`Table`]s of ordered raw keys and values. It knows
//! no record, no group and no data type. One thread owns it and is its only
//! writer, by [`Store::commit`]; every other thread reads through a
//! [`Reader`], from consistent snapshots.
//!
//! Two engines pass one suite, `conformance`: [`rocksdb`] on disk, and
//! [`memory`], which can be crashed, cloned and made to fail by a simulation.
//!
//! Invariant: a commit is whole or absent, over all tables, after any crash;
//! and what survives a crash is a prefix of the commits, never a selection.

mod batch;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod error;
#[cfg(test)]
pub(crate) mod failing;
pub mod keys;
pub mod memory;
mod range;
pub mod rocksdb;
mod table;

pub use batch::{Batch, Write};
pub use error::StoreError;
pub use range::{Item, KeyRange, Limit, Page, end_of_prefix};
pub use table::Table;

use bytes::Bytes;

/// Whether a commit is on disk, or only with the operating system, when
/// [`Store::commit`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// On disk: survives a power loss, and so does every earlier commit. Costs
    /// one fsync.
    Sync,
    /// Written, not synced: survives the process, but a power loss may take it
    /// and all after it, until a later `Sync` commit or [`Store::sync`].
    NoSync,
}

/// Reads of one state of a store: a snapshot, or the owner's newest commit.
///
/// Absence is an answer, never an error. Keys are ordered by their bytes. All
/// calls may wait for the disk, so none belongs on an async thread.
pub trait Read {
    /// Walks a range without loading it.
    type Cursor<'a>: Cursor
    where
        Self: 'a;

    /// The value under `key`, or `None`.
    ///
    /// # Errors
    ///
    /// As [`StoreError`]: a read says nothing of writes.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The values under `keys`, in their order, each `None` where absent.
    /// Cheaper than one `get` after the other.
    ///
    /// # Errors
    ///
    /// As [`StoreError`], for the first key that could not be read.
    fn get_many(&self, keys: &[(Table, &[u8])]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// The first keys of `range` in order, up to `limit`, and where to go on.
    ///
    /// # Errors
    ///
    /// As [`StoreError`]; nothing is returned in part.
    fn scan(&self, table: Table, range: KeyRange<'_>, limit: Limit) -> Result<Page, StoreError>;

    /// The first key of `range` and its value, or `None` if it is empty.
    ///
    /// # Errors
    ///
    /// As [`StoreError`].
    fn first_in(&self, table: Table, range: KeyRange<'_>) -> Result<Option<Item>, StoreError>;

    /// The last key of `range` and its value, or `None` if it is empty.
    ///
    /// # Errors
    ///
    /// As [`StoreError`].
    fn last_in(&self, table: Table, range: KeyRange<'_>) -> Result<Option<Item>, StoreError>;

    /// A cursor before the first key of `range`. What it shows does not change
    /// while it lives.
    ///
    /// # Errors
    ///
    /// As [`StoreError`].
    fn cursor(&self, table: Table, range: KeyRange<'_>) -> Result<Self::Cursor<'_>, StoreError>;
}

/// Walks one range of one table, forward, without loading it.
///
/// For work that goes on at once: a cursor holds memory of the engine and
/// keeps [`Store::reopen`] waiting, so it is dropped before anyone waits for a
/// network. To go on later, keep the snapshot and the last key.
pub trait Cursor {
    /// Moves before the first key of the range that is at or after `key`.
    ///
    /// # Errors
    ///
    /// As [`StoreError`].
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError>;

    /// The next key and value, borrowed until the next call; `None` at the end
    /// of the range, and from then on.
    ///
    /// # Errors
    ///
    /// As [`StoreError`]; the cursor is of no use afterwards.
    #[expect(clippy::type_complexity, reason = "a borrowed pair; a name would hide it")]
    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>, StoreError>;
}

/// A handle for every thread but the owner's: cheap to clone, reads only.
///
/// It outlives a [`Store::reopen`]; snapshots taken before one do not.
pub trait Reader: Clone + Send + Sync + 'static {
    /// One state of the store, which later commits do not change.
    type Snapshot: Read + Send + Sync + 'static;

    /// The newest committed state, kept until the snapshot is dropped.
    ///
    /// It costs about a microsecond, no copy. A snapshot holds back the reuse
    /// of disk space, so it is kept for seconds, not for hours. Waits at most
    /// one second while the store is being reopened.
    ///
    /// # Errors
    ///
    /// [`StoreError::Reopening`] if that second passed, [`StoreError::Closed`]
    /// once the owner has closed the store.
    fn snapshot(&self) -> Result<Self::Snapshot, StoreError>;

    /// How often the store asked for data to be put on disk since it opened:
    /// each [`Durability::Sync`] commit, and each [`Store::sync`] that had
    /// something to do.
    fn fsyncs(&self) -> u64;

    /// Bytes that the store holds on its volume, snapshots on disk apart; 0
    /// while it is not open.
    fn bytes_on_disk(&self) -> u64;
}

/// The durable state of all replicas of one agent: ordered tables, one writer.
///
/// It does what Grove asks of storage under other words. *init* is opening
/// (`open` of each engine): idempotent, it finds what was there. *save* is
/// [`commit`](Store::commit), for many records at once. *load* is
/// [`get`](Read::get), where absent is `Ok(None)` and never an error. *delete*
/// is a batch with [`Batch::delete_range`] over a group's keys. *list groups*
/// is a [`scan`](Read::scan) of [`Table::Meta`]. *close* is
/// [`close`](Store::close).
///
/// The reads that come with it, on the owner's thread, see the newest commit.
///
/// # After a failed commit
///
/// The first `commit` or `sync` that fails stops the store: whether its batch
/// is there is unknown, and every later one fails with [`StoreError::Stopped`]
/// and writes nothing. Reads go on. [`reopen`](Store::reopen) ends that, and
/// what is found then is the truth.
pub trait Store: Read + Send + 'static {
    /// What other threads read through.
    type Reader: Reader;

    /// Applies `batch` whole, in its order, and makes it visible to reads. The
    /// only write there is.
    ///
    /// An empty batch does nothing, with `Sync` too: see [`sync`](Store::sync).
    ///
    /// # Errors
    ///
    /// [`StoreError::Stopped`]: nothing was written. Every other error: the
    /// batch may or may not be there, whole, once the store is reopened.
    fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<(), StoreError>;

    /// Puts all commits so far on disk; returns at once if they are.
    ///
    /// # Errors
    ///
    /// As [`commit`](Store::commit): which of the unsynced commits are on disk
    /// is unknown, though a prefix of them is.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// A handle for other threads.
    fn reader(&self) -> Self::Reader;

    /// Closes and opens the engine, which clears a failure once its cause is
    /// gone. Snapshots taken before fail with [`StoreError::Expired`]
    /// afterwards; a call to them or a cursor that is under way is waited for.
    ///
    /// The owner must have dropped its own cursors. May be called again.
    ///
    /// # Errors
    ///
    /// The cause, if it is still there: [`StoreError::DiskFull`] is found out
    /// before anything is closed. The store stays stopped; reads go on where
    /// the engine can still read.
    fn reopen(&mut self) -> Result<(), StoreError>;

    /// Syncs and closes. Readers and snapshots fail from then on.
    ///
    /// Dropping a store closes it too, unsynced commits left to the operating
    /// system.
    ///
    /// # Errors
    ///
    /// As [`sync`](Store::sync); the store is closed all the same.
    fn close(self) -> Result<(), StoreError>;
}
