//! Part of a snapshot back into a stopped agent's store.

use std::path::Path;

use super::{SnapshotError, verify};
use crate::store::{
    Batch, Cursor, Durability, KeyRange, Read, Store, StoreError, Table,
    rocksdb::{RocksSettings, RocksSnapshot, RocksStore, open_checkpoint},
};

/// Bytes of one commit of a restore.
const COMMIT_BYTES: usize = 1 << 20;

/// Some keys of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRange<'a> {
    /// Which table.
    pub table: Table,
    /// Which keys of it.
    pub range: KeyRange<'a>,
}

/// What a restore brought back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Keys that were there before and are gone or replaced.
    pub removed: u64,
    /// Keys copied from the snapshot.
    pub records: u64,
    /// Bytes of them and of their values.
    pub bytes: u64,
}

/// Replaces what the store in `data_dir` holds in `ranges` by what the
/// snapshot in `snapshot` holds there, after verifying the snapshot whole. The
/// rest of the store is untouched. The directory is made if there is none.
///
/// The first commit empties all ranges, the last one fills the last of
/// `ranges`: so the range with the record that makes the rest count comes
/// last, and a restore that is cut short leaves nothing that looks whole.
///
/// # Errors
///
/// [`SnapshotError::Damaged`] and [`StoreError::Locked`] (the agent must be
/// stopped): the store was not changed. Any other [`SnapshotError::Store`]:
/// the ranges are empty or filled in part; restore again.
pub fn restore(
    snapshot: &Path,
    data_dir: &Path,
    ranges: &[TableRange<'_>],
) -> Result<Restored, SnapshotError> {
    verify(snapshot)?;
    let source = open_checkpoint(&snapshot.join("db"))?;
    let mut target = RocksStore::open(data_dir, &RocksSettings::default())?;
    let mut restored = Restored::default();
    empty(&mut target, ranges, &mut restored)?;
    for range in ranges {
        copy(&source, &mut target, *range, &mut restored)?;
    }
    target.close()?;
    Ok(restored)
}

fn empty(
    target: &mut RocksStore,
    ranges: &[TableRange<'_>],
    restored: &mut Restored,
) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    for TableRange { table, range } in ranges {
        restored.removed += count(target, *table, *range)?;
        let Some((last, _)) = target.last_in(*table, *range)? else { continue };
        // The first key after the last one: a range may have no end.
        let end = [&last[..], &[0]].concat();
        batch.delete_range(*table, range.from, &end);
    }
    target.commit(&batch, Durability::Sync)
}

fn count(target: &RocksStore, table: Table, range: KeyRange<'_>) -> Result<u64, StoreError> {
    let mut cursor = target.cursor(table, range)?;
    let mut keys = 0;
    while cursor.next()?.is_some() {
        keys += 1;
    }
    Ok(keys)
}

fn copy(
    source: &RocksSnapshot,
    target: &mut RocksStore,
    TableRange { table, range }: TableRange<'_>,
    restored: &mut Restored,
) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    let mut cursor = source.cursor(table, range)?;
    while let Some((key, value)) = cursor.next()? {
        batch.put(table, key, value);
        restored.records += 1;
        if batch.byte_size() >= COMMIT_BYTES {
            restored.bytes += batch.byte_size() as u64;
            target.commit(&batch, Durability::NoSync)?;
            batch.clear();
        }
    }
    restored.bytes += batch.byte_size() as u64;
    target.commit(&batch, Durability::NoSync)
}
