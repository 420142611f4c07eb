//! Where each record stands in the store: every key of every table, once.
//!
//! A group's records begin with its slot, a number that the store gave the
//! group when it first held it. All numbers are big-endian, so that keys sort as
//! what they name. In `Entries` the object's key is escaped (0x00 as 0x00 0xff)
//! and ended by 0x00 0x01, so that objects sort there as they do in `Objects`.
//!
//! | table | key |
//! |---|---|
//! | `Meta` | `S`: the store · `G` group id: its slot · `N` group name: its id and type · `H` slot: head · `R` slot: repair · `W` slot, range, object key: to be swept |
//! | `Objects` | slot, range, object key |
//! | `Entries` | slot, range, escaped object key, entry name (a field's summaries: the name's prefix and 0x00) |
//! | `Log` | slot, sequence number |
//! | `Floors` | slot, owner, log record, birth, range, escaped object key, entry name |
//! | `Deadlines` | slot, milliseconds, range, object key |

use coppice_crdt::{ActorId, EntryKey};
use coppice_replication::{DeadCell, ObjectId, Position, RecordKey};

use super::Table;

/// A group's number in this store.
pub type Slot = u32;

/// The key of the store's own record.
pub const STORE: &[u8] = b"S";

/// What keys of groups' slots begin with.
pub const GROUPS: &[u8] = b"G";

/// What keys begin with that say what groups' names stand for.
pub const NAMES: &[u8] = b"N";

/// The key of what a group's name stands for.
#[must_use]
pub fn name(name: &str) -> Vec<u8> {
    [NAMES, name.as_bytes()].concat()
}

/// The key of a group's slot.
#[must_use]
pub fn group(id: &[u8; 16]) -> Vec<u8> {
    [GROUPS, id].concat()
}

/// Stands in for a group's id while the group is being restored.
pub const RESTORING: [u8; 16] = [u8::MAX; 16];

/// The group's id in the key of its slot.
#[must_use]
pub fn group_id(key: &[u8]) -> Option<[u8; 16]> {
    key.strip_prefix(GROUPS)?.try_into().ok()
}

/// What the keys of all records of a group begin with, but for that of its slot.
#[must_use]
pub fn all_of(slot: Slot) -> Vec<(Table, Vec<u8>)> {
    let tables = Table::ALL.into_iter().filter(|table| *table != Table::Meta);
    let in_tables = tables.map(|table| (table, slot.to_be_bytes().to_vec()));
    let in_meta = [b'H', b'R', b'W'].map(|tag| (Table::Meta, meta(tag, slot)));
    in_tables.chain(in_meta).collect()
}

/// Where a group's record stands.
#[must_use]
pub fn record(slot: Slot, key: &RecordKey) -> (Table, Vec<u8>) {
    match key {
        RecordKey::Head => (Table::Meta, meta(b'H', slot)),
        RecordKey::Repair => (Table::Meta, meta(b'R', slot)),
        RecordKey::Sweep(id) => {
            let mut key = sweeps(slot);
            key.push(id.range);
            key.extend(id.key.as_bytes());
            (Table::Meta, key)
        }
        RecordKey::Object(id) => (Table::Objects, object(slot, id)),
        RecordKey::Entry(id, name) => {
            let mut key = entries_of(slot, id.range, &id.key);
            key.extend(name.as_bytes());
            (Table::Entries, key)
        }
        RecordKey::Field(id, name) => {
            let mut key = entries_of(slot, id.range, &id.key);
            key.extend(EntryKey::field_name_prefix(name));
            key.push(0);
            (Table::Entries, key)
        }
        RecordKey::Log(seq) => (Table::Log, log(slot, *seq)),
        RecordKey::Floor(cell) => {
            let mut key = floors_of(slot, cell.owner, cell.died_seq);
            key.extend(cell.birth.to_be_bytes());
            key.push(cell.object.range);
            push_escaped(&mut key, &cell.object.key);
            key.extend(cell.name.as_bytes());
            (Table::Floors, key)
        }
        RecordKey::Deadline(ms, id) => {
            let mut key = slot.to_be_bytes().to_vec();
            key.extend(ms.to_be_bytes());
            key.push(id.range);
            key.extend(id.key.as_bytes());
            (Table::Deadlines, key)
        }
    }
}

fn meta(tag: u8, slot: Slot) -> Vec<u8> {
    let mut key = vec![tag];
    key.extend(slot.to_be_bytes());
    key
}

/// What the keys of a group's objects that are to be swept begin with.
#[must_use]
pub fn sweeps(slot: Slot) -> Vec<u8> {
    meta(b'W', slot)
}

/// The object key in a key of an object that is to be swept.
#[must_use]
pub fn swept_object(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(6..)?).ok()
}

/// The key of an object's header record.
#[must_use]
pub fn object(slot: Slot, id: &ObjectId) -> Vec<u8> {
    object_at(slot, id.range, &id.key)
}

/// The key of the header record that an object named `key` has in `range`.
#[must_use]
pub fn object_at(slot: Slot, range: u8, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + key.len());
    bytes.extend(slot.to_be_bytes());
    bytes.push(range);
    bytes.extend(key.as_bytes());
    bytes
}

/// What keys of a group's range begin with, in `Objects` and `Entries`.
#[must_use]
pub fn range(slot: Slot, range: u8) -> Vec<u8> {
    object_at(slot, range, "")
}

/// What keys of all records of a group begin with, in every table but `Meta`.
#[must_use]
pub fn slot(slot: Slot) -> Vec<u8> {
    slot.to_be_bytes().to_vec()
}

/// The object key in a key of `Objects`.
#[must_use]
pub fn object_key(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(5..)?).ok()
}

/// What keys of an object's entries begin with.
#[must_use]
pub fn entries_of(slot: Slot, range: u8, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 40);
    bytes.extend(slot.to_be_bytes());
    bytes.push(range);
    push_escaped(&mut bytes, key);
    bytes
}

/// The name of the entry, or the field, in a key of `Entries`.
#[must_use]
pub fn entry_name(key: &[u8]) -> Option<&[u8]> {
    split_escaped(key.get(5..)?).map(|(_, name)| name)
}

/// The field whose summaries stand under this name.
#[must_use]
pub fn field_name(name: &[u8]) -> Option<String> {
    EntryKey::field_of_prefix(name.strip_suffix(&[0])?)
}

fn push_escaped(bytes: &mut Vec<u8>, key: &str) {
    for &byte in key.as_bytes() {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(0xff);
        }
    }
    bytes.extend([0, 1]);
}

/// The text of an escaped object key, and what stands behind it.
fn split_escaped(bytes: &[u8]) -> Option<(String, &[u8])> {
    let mut key = Vec::new();
    let mut at = 0;
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        if byte == 0 {
            let mark = *bytes.get(at)?;
            at += 1;
            match mark {
                1 => return Some((String::from_utf8(key).ok()?, bytes.get(at..)?)),
                0xff => {}
                _ => return None,
            }
        }
        key.push(byte);
    }
}

/// What the keys of dead cells begin with that an owner's record `died_seq` holds.
#[must_use]
pub fn floors_of(slot: Slot, owner: ActorId, died_seq: u64) -> Vec<u8> {
    let mut key = slot.to_be_bytes().to_vec();
    key.extend(owner.as_bytes());
    key.extend(died_seq.to_be_bytes());
    key
}

/// The dead cell in a key of `Floors`.
#[must_use]
pub fn dead_cell(key: &[u8]) -> Option<DeadCell> {
    let owner = ActorId::from_bytes(key.get(4..20)?.try_into().ok()?);
    let died_seq = u64::from_be_bytes(key.get(20..28)?.try_into().ok()?);
    let birth = u64::from_be_bytes(key.get(28..36)?.try_into().ok()?);
    let range = *key.get(36)?;
    let (object, name) = split_escaped(key.get(37..)?)?;
    let object = ObjectId { range, key: object.into() };
    Some(DeadCell { owner, died_seq, birth, object, name: EntryKey::parse(name).ok()? })
}

/// Where an entry or the first one behind it stands.
#[must_use]
pub fn entry_position(slot: Slot, range: u8, position: &Position) -> Vec<u8> {
    let mut key = entries_of(slot, range, &position.key);
    key.extend(&position.entry);
    key
}

/// The key of a log record.
#[must_use]
pub fn log(slot: Slot, seq: u64) -> Vec<u8> {
    let mut key = slot.to_be_bytes().to_vec();
    key.extend(seq.to_be_bytes());
    key
}

/// The sequence number in a key of `Log`.
#[must_use]
pub fn log_seq(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(4..)?.try_into().ok()?))
}

/// The deadline and the object in a key of `Deadlines`.
#[must_use]
pub fn deadline(key: &[u8]) -> Option<(u64, &str)> {
    let ms = u64::from_be_bytes(key.get(4..12)?.try_into().ok()?);
    Some((ms, std::str::from_utf8(key.get(13..)?).ok()?))
}

/// The first key of `Deadlines` behind all that expire by `ms`.
#[must_use]
pub fn deadlines_until(slot: Slot, ms: u64) -> Vec<u8> {
    let mut key = slot.to_be_bytes().to_vec();
    key.extend(ms.saturating_add(1).to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use coppice_crdt::{CrdtType, Part};

    use super::*;

    fn id(key: &str) -> ObjectId {
        ObjectId { range: 7, key: Arc::from(key) }
    }

    #[test]
    fn objects_sort_alike_in_both_tables() {
        let keys = ["", "\0", "\0a", "a", "a\0", "a\0\u{1}", "a\0b", "a\u{1}", "aa", "b", "ä"];
        let objects: Vec<_> = keys.iter().map(|key| object_at(1, 7, key)).collect();
        let entries: Vec<_> = keys.iter().map(|key| entries_of(1, 7, key)).collect();
        assert!(objects.is_sorted() && entries.is_sorted());
        for (at, prefix) in entries.iter().enumerate() {
            let clashes = entries.iter().skip(at + 1).filter(|other| other.starts_with(prefix));
            assert_eq!(clashes.count(), 0, "entries of two objects would mix");
        }
    }

    #[test]
    fn a_fields_summaries_stand_before_its_entries() {
        let name = EntryKey::of_field("f", CrdtType::GCounter, Part::Existence);
        let field = record(1, &RecordKey::Field(id("k"), "f".into())).1;
        let entry = record(1, &RecordKey::Entry(id("k"), name)).1;
        assert!(field < entry);
        assert!(EntryKey::parse(&field[entries_of(1, 7, "k").len()..]).is_err());
    }

    #[test]
    fn a_dead_cell_is_read_back_from_its_key() {
        let owner = ActorId::from_bytes([9; 16]);
        for key in ["k", "a\0b", "\0", "ä\0\0", "ÿ"] {
            let name = EntryKey::of_object(Part::Cell(owner));
            let cell = DeadCell { owner, died_seq: 7, birth: u64::MAX, object: id(key), name };
            let (table, bytes) = record(3, &RecordKey::Floor(cell.clone()));
            assert_eq!((table, dead_cell(&bytes)), (Table::Floors, Some(cell)));
        }
    }

    #[test]
    fn every_record_of_a_group_stands_under_a_prefix_of_it() {
        let name = EntryKey::of_object(Part::Existence);
        let cell = DeadCell {
            owner: ActorId::from_bytes([9; 16]),
            died_seq: 1,
            birth: 1,
            object: id("k"),
            name: name.clone(),
        };
        for key in [
            RecordKey::Head,
            RecordKey::Repair,
            RecordKey::Sweep(id("k")),
            RecordKey::Object(id("k")),
            RecordKey::Entry(id("a\0b"), name.clone()),
            RecordKey::Field(id("k"), "f".into()),
            RecordKey::Log(1),
            RecordKey::Floor(cell),
            RecordKey::Deadline(1, id("k")),
        ] {
            let (table, at) = record(3, &key);
            let of = |slot| all_of(slot).into_iter().filter(|(of, _)| *of == table);
            assert!(of(3).any(|(_, prefix)| at.starts_with(&prefix)), "{key:?}");
            assert!(!of(4).any(|(_, prefix)| at.starts_with(&prefix)), "{key:?}");
        }
        let entry = record(3, &RecordKey::Entry(id("a\0b"), name.clone())).1;
        assert_eq!(entry_name(&entry), Some(name.as_bytes()));
        assert_eq!(group_id(&group(&[7; 16])), Some([7; 16]));
    }

    #[test]
    fn numbers_are_read_back_at_their_bounds() {
        assert_eq!(log_seq(&log(u32::MAX, u64::MAX)), Some(u64::MAX));
        let key = record(1, &RecordKey::Deadline(u64::MAX, id("k"))).1;
        assert_eq!(deadline(&key), Some((u64::MAX, "k")));
        assert!(key < deadlines_until(2, 0));
    }
}
