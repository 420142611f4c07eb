//! What a snapshot holds: its groups, and whether each of their records is one.

use std::path::Path;

use coppice_crdt::{CrdtType, EntryKey};
use coppice_replication::{DecodeError, FieldRecord, ObjectRecord, decode_entry};
use uuid::Uuid;

use super::SnapshotError;
use crate::records::{GroupRecords, RecordError};
use crate::store::keys::{self, Slot};
use crate::store::rocksdb::open_checkpoint;
use crate::store::{Cursor, KeyRange, Limit, Read, StoreError, Table, end_of_prefix};

/// Bytes of log records decoded at once.
const LOG_BYTES: usize = 4 << 20;

const MISPLACED: DecodeError = DecodeError::Malformed("a key");

/// A group in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredGroup {
    /// The group's id.
    pub id: Uuid,
    /// Its number in that store.
    pub slot: Slot,
    /// What its objects are; `None` if it never held anything.
    pub crdt_type: Option<CrdtType>,
}

/// A group in a store, with all of its records decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupContents {
    /// The group.
    pub group: StoredGroup,
    /// Objects, those included that are gone but for what must be remembered.
    pub objects: u64,
    /// Records of entries that do not stand in their object's record.
    pub entries: u64,
    /// Records of the arrival log.
    pub log_records: u64,
}

/// The groups in the snapshot in `path`. Verifies nothing.
///
/// # Errors
///
/// [`SnapshotError::Damaged`] if it is seen to be, [`SnapshotError::Store`] if
/// it cannot be read.
pub fn groups_in(path: &Path) -> Result<Vec<StoredGroup>, SnapshotError> {
    let view = open_checkpoint(&path.join("db")).map_err(RecordError::from);
    view.and_then(|view| groups(&view)).map_err(|error| of_snapshot(path, error))
}

/// The groups in a state of a store, in the order of their slots.
pub(super) fn groups<R: Read>(view: &R) -> Result<Vec<StoredGroup>, RecordError> {
    let end = end_of_prefix(keys::GROUPS);
    let range = KeyRange { from: keys::GROUPS, to: end.as_deref() };
    let mut found = Vec::new();
    for (key, value) in view.scan(Table::Meta, range, Limit::NONE)?.items {
        let damaged = || RecordError::Damaged { table: Table::Meta, error: MISPLACED };
        let id = keys::group_id(&key).ok_or_else(damaged)?;
        let slot = Slot::from_be_bytes(value[..].try_into().map_err(|_| damaged())?);
        if id == keys::RESTORING {
            continue;
        }
        let head = GroupRecords { store: view, slot }.head()?;
        let crdt_type = head.map(|head| head.crdt_type);
        found.push(StoredGroup { id: Uuid::from_bytes(id), slot, crdt_type });
    }
    found.sort_by_key(|group| group.slot);
    Ok(found)
}

/// Decodes every record of every group in the snapshot in `path`.
pub(super) fn read_all(path: &Path) -> Result<Vec<GroupContents>, SnapshotError> {
    let view = open_checkpoint(&path.join("db")).map_err(RecordError::from);
    let read = view.and_then(|view| {
        groups(&view)?.into_iter().map(|group| read_group(&view, group)).collect()
    });
    read.map_err(|error| of_snapshot(path, error))
}

pub(super) fn of_snapshot(path: &Path, error: RecordError) -> SnapshotError {
    match error {
        RecordError::Store(StoreError::Corrupt { detail }) => SnapshotError::damaged(path, detail),
        RecordError::Store(error) => error.into(),
        RecordError::Damaged { .. } => SnapshotError::damaged(path, error.to_string()),
    }
}

fn read_group<R: Read>(view: &R, group: StoredGroup) -> Result<GroupContents, RecordError> {
    let records = GroupRecords { store: view, slot: group.slot };
    records.repair()?;
    records.sweeps()?;
    let objects = each(view, Table::Objects, group.slot, |key, value| {
        keys::object_key(key).ok_or(MISPLACED)?;
        ObjectRecord::decode(value).map(|_| ())
    })?;
    let entries = each(view, Table::Entries, group.slot, |key, value| {
        let name = keys::entry_name(key).ok_or(MISPLACED)?;
        match EntryKey::parse(name) {
            Ok(_) => decode_entry(value).map(|_| ()),
            // A map field's summaries.
            Err(_) if name.last() == Some(&0) => FieldRecord::decode(value).map(|_| ()),
            Err(_) => Err(MISPLACED),
        }
    })?;
    each(view, Table::Deadlines, group.slot, |key, _| {
        keys::deadline(key).map(|_| ()).ok_or(MISPLACED)
    })?;
    each(view, Table::Floors, group.slot, |key, died| {
        keys::dead_cell(key).ok_or(MISPLACED)?;
        decode_entry(died).map(|_| ())
    })?;
    Ok(GroupContents { group, objects, entries, log_records: read_log(records)? })
}

/// Counts the log records, which are numbered without a gap.
fn read_log<R: Read>(records: GroupRecords<'_, R>) -> Result<u64, RecordError> {
    let first = records.head()?.map_or(0, |head| head.first_seq);
    let mut next = first;
    loop {
        let page = records.log(next, LOG_BYTES)?;
        if page.is_empty() {
            return Ok(next - first);
        }
        for (seq, _, _) in &page {
            if *seq != next {
                let error = DecodeError::Malformed("the arrival log: a record is missing");
                return Err(RecordError::Damaged { table: Table::Log, error });
            }
            next += 1;
        }
    }
}

/// Counts the records of a group in one table, each of which `check` accepts.
fn each<R: Read>(
    view: &R,
    table: Table,
    slot: Slot,
    check: impl Fn(&[u8], &[u8]) -> Result<(), DecodeError>,
) -> Result<u64, RecordError> {
    let from = keys::slot(slot);
    let to = end_of_prefix(&from);
    let mut cursor = view.cursor(table, KeyRange { from: &from, to: to.as_deref() })?;
    let mut records = 0;
    while let Some((key, value)) = cursor.next()? {
        check(key, value).map_err(|error| RecordError::Damaged { table, error })?;
        records += 1;
    }
    Ok(records)
}
