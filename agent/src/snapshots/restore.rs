//! One group of a snapshot back into a stopped agent's store.
//!
//! The group is copied beside what the store holds of it, under a slot of its
//! own, and takes its place in one last commit. Until then the slot belongs to
//! [`keys::RESTORING`], so that nothing else is given it: a restore that is cut
//! short has changed nothing, and the next one starts over in the same slot.

use std::path::Path;

use uuid::Uuid;

use super::checksums::Checksums;
use super::contents::{self, StoredGroup};
use super::{SnapshotError, verify};
use crate::engine::Named;
use crate::store::{
    Batch, Cursor, Durability, Item, KeyRange, Limit, Read, Store, StoreError, Table,
    end_of_prefix,
    keys::{self, Slot},
    rocksdb::{RocksSettings, RocksSnapshot, RocksStore, open_checkpoint},
};

/// Bytes of one commit of a restore.
const COMMIT_BYTES: usize = 1 << 20;

/// What a restore brought back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Records of the group that were there before and are gone.
    pub removed: u64,
    /// Records copied from the snapshot.
    pub records: u64,
    /// Bytes of them, with their keys.
    pub bytes: u64,
}

/// Puts the group `id` into the store in `data_dir` as the snapshot in
/// `snapshot` has it, after verifying the snapshot whole. Other groups are
/// untouched. The directory is made if there is none.
///
/// `replace` allows that for a group that holds objects in this store. What the store
/// remembers of the group's name is kept; if that is nothing, it is what the snapshot
/// remembers, or else `name`.
///
/// # Errors
///
/// [`StoreError::Locked`]: the agent must be stopped. Whatever the error, the
/// store holds of the group what it held before.
pub fn restore(
    snapshot: &Path,
    data_dir: &Path,
    (id, name): (Uuid, Option<&str>),
    replace: bool,
) -> Result<Restored, SnapshotError> {
    Checksums::read(snapshot)?;
    let mut target = RocksStore::open(data_dir, &RocksSettings::default())?;
    verify(snapshot)?;
    let source = open_checkpoint(&snapshot.join("db"))?;
    let stored =
        contents::groups(&source).map_err(|error| contents::of_snapshot(snapshot, error))?;
    let from = slot_in(&stored, id).ok_or_else(|| SnapshotError::NoSuchGroup {
        path: snapshot.to_owned(),
        group: id,
        groups: stored.clone(),
    })?;
    let known =
        contents::groups(&target).map_err(|error| contents::of_snapshot(data_dir, error))?;
    let before = slot_in(&known, id);
    if let Some(slot) = before.filter(|_| !replace)
        && has_objects(&target, slot)?
    {
        return Err(SnapshotError::GroupHolds(id));
    }

    let to = reserve(&mut target, &known)?;
    let mut restored = Restored::default();
    for ((table, from), (_, to)) in keys::all_of(from).into_iter().zip(keys::all_of(to)) {
        copy(&source, &mut target, (table, &from, &to), &mut restored)?;
    }
    let mut last = Batch::new();
    if let Some(slot) = before {
        for (table, prefix) in keys::all_of(slot) {
            restored.removed += empty(&target, table, &prefix, &mut last)?;
        }
    }
    last.put(Table::Meta, &keys::group(id.as_bytes()), &to.to_be_bytes());
    let crdt_type = stored.iter().find(|group| group.id == id).and_then(|group| group.crdt_type);
    let given = name.zip(crdt_type).map(|(name, crdt_type)| {
        (keys::name(name).into(), Named { id: *id.as_bytes(), crdt_type }.encode().into())
    });
    if name_of(&target, id)?.is_none()
        && let Some((key, named)) = name_of(&source, id)?.or(given)
        && target.get(Table::Meta, &key)?.is_none()
    {
        last.put(Table::Meta, &key, &named);
    }
    last.delete(Table::Meta, &keys::group(&keys::RESTORING));
    target.commit(&last, Durability::Sync)?;
    target.close()?;
    Ok(restored)
}

fn slot_in(groups: &[StoredGroup], id: Uuid) -> Option<Slot> {
    groups.iter().find(|group| group.id == id).map(|group| group.slot)
}

fn has_objects(store: &RocksStore, slot: Slot) -> Result<bool, StoreError> {
    let from = keys::slot(slot);
    let to = end_of_prefix(&from);
    Ok(store.first_in(Table::Objects, KeyRange { from: &from, to: to.as_deref() })?.is_some())
}

/// The record of the name that a group was last served under.
fn name_of<R: Read>(view: &R, id: Uuid) -> Result<Option<Item>, StoreError> {
    let end = end_of_prefix(keys::NAMES);
    let range = KeyRange { from: keys::NAMES, to: end.as_deref() };
    let is_of = |named: &[u8]| Named::decode(named).is_ok_and(|named| named.id == *id.as_bytes());
    let names = view.scan(Table::Meta, range, Limit::NONE)?.items;
    Ok(names.into_iter().find(|(_, named)| is_of(named)))
}

/// An empty slot that no group has, kept from others.
fn reserve(target: &mut RocksStore, known: &[StoredGroup]) -> Result<Slot, SnapshotError> {
    let at = keys::group(&keys::RESTORING);
    let earlier = target.get(Table::Meta, &at)?;
    let earlier = earlier.and_then(|slot| slot[..].try_into().map(Slot::from_be_bytes).ok());
    let free = known.iter().map(|group| group.slot).max().map_or(0, |last| last + 1);
    let slot = earlier.unwrap_or(free);
    let mut batch = Batch::new();
    batch.put(Table::Meta, &at, &slot.to_be_bytes());
    for (table, prefix) in keys::all_of(slot) {
        empty(target, table, &prefix, &mut batch)?;
    }
    target.commit(&batch, Durability::Sync)?;
    Ok(slot)
}

/// Adds to `batch` that nothing is left under `prefix`; counts what is there.
fn empty(
    store: &RocksStore,
    table: Table,
    prefix: &[u8],
    batch: &mut Batch,
) -> Result<u64, StoreError> {
    let to = end_of_prefix(prefix);
    let range = KeyRange { from: prefix, to: to.as_deref() };
    let mut cursor = store.cursor(table, range)?;
    let mut keys = 0;
    while cursor.next()?.is_some() {
        keys += 1;
    }
    if let Some((last, _)) = store.last_in(table, range)? {
        // The first key after the last one: a range may have no end.
        batch.delete_range(table, prefix, &[&last[..], &[0]].concat());
    }
    Ok(keys)
}

/// Copies what stands under one prefix, to under another.
fn copy(
    source: &RocksSnapshot,
    target: &mut RocksStore,
    (table, from, to): (Table, &[u8], &[u8]),
    restored: &mut Restored,
) -> Result<(), StoreError> {
    let end = end_of_prefix(from);
    let mut batch = Batch::new();
    let mut cursor = source.cursor(table, KeyRange { from, to: end.as_deref() })?;
    while let Some((key, value)) = cursor.next()? {
        let rest = key.get(from.len()..).unwrap_or_default();
        batch.put(table, &[to, rest].concat(), value);
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
