//! The algebra's states and deltas as bytes, shared by frames and records.

use std::collections::BTreeMap;
use std::sync::Arc;

use coppice_crdt::{
    Amounts, Cell, Dot, Entry, EntryDelta, EntryKey, EntryRange, Floor, HybridTimestamp,
    ObjectDelta, Raise, RangeRemoval, Version,
};

use crate::codec::{DecodeError, Decoder, Encoder};
use crate::unit::{Cover, MAX_KEY_BYTES, MAX_UNIT_BYTES, Unit};

const DOTS: u8 = 1;
const VERSIONS: u8 = 2;
const CELLS: u8 = 3;
const MAX_CONTENT_TYPE_BYTES: usize = 1024;

/// Writes the state of one entry.
pub(crate) fn put_entry(out: &mut Encoder, entry: &Entry) {
    match entry {
        Entry::Dots(dots) => {
            out.byte(DOTS);
            put_dots(out, dots);
        }
        Entry::Versions(versions) => {
            out.byte(VERSIONS);
            put_versions(out, versions);
        }
        Entry::Cells(cells) => {
            out.byte(CELLS);
            out.count(cells.len());
            for cell in cells {
                out.varint(cell.birth);
                out.varint(cell.last);
                put_amounts(out, cell.amounts);
                put_amounts(out, cell.floor);
            }
        }
    }
}

/// Reads the state of one entry.
///
/// # Errors
///
/// If the bytes are no entry.
pub(crate) fn take_entry(body: &mut Decoder<'_>) -> Result<Entry, DecodeError> {
    match body.byte()? {
        DOTS => Ok(Entry::Dots(take_dots(body)?)),
        VERSIONS => Ok(Entry::Versions(take_versions(body)?)),
        CELLS => {
            let cells = body.list("cells", 6, |body| {
                let (birth, last) = (body.varint()?, body.varint()?);
                let (amounts, floor) = (take_amounts(body)?, take_amounts(body)?);
                Ok(Cell { birth, last, amounts, floor })
            })?;
            if !cells.is_sorted_by(|a, b| a.birth < b.birth) {
                return Err(DecodeError::Malformed("a list of cells"));
            }
            Ok(Entry::Cells(cells))
        }
        _ => Err(DecodeError::Malformed("an entry")),
    }
}

/// Writes an entry's name.
pub(crate) fn put_entry_key(out: &mut Encoder, name: &EntryKey) {
    out.bytes(name.as_bytes());
}

/// Reads an entry's name.
///
/// # Errors
///
/// If the bytes are no name.
pub(crate) fn take_entry_key(body: &mut Decoder<'_>) -> Result<EntryKey, DecodeError> {
    let bytes = body.bytes("an entry's name", EntryKey::MAX_BYTES)?;
    EntryKey::parse(bytes).map_err(|_| DecodeError::Malformed("an entry's name"))
}

/// Writes a unit.
pub(crate) fn put_unit(out: &mut Encoder, unit: &Unit) {
    out.count(unit.covers.len());
    for cover in &unit.covers {
        out.actor(cover.actor);
        out.varint(cover.after);
        out.varint(cover.upto);
    }
    out.count(unit.objects.len());
    for (key, delta) in &unit.objects {
        out.bytes(key.as_bytes());
        put_object_delta(out, delta);
    }
}

/// Reads a unit; [`Unit::check`] tells whether it makes sense.
///
/// # Errors
///
/// If the bytes are no unit.
pub(crate) fn take_unit(body: &mut Decoder<'_>) -> Result<Unit, DecodeError> {
    let covers = body.list("runs of writes", 3, |body| {
        let actor = body.actor()?;
        Ok(Cover { actor, after: body.varint()?, upto: body.varint()? })
    })?;
    let count = body.count("objects", 3)?;
    let mut objects = BTreeMap::new();
    for _ in 0..count {
        let key: Arc<str> = body.string("an object's key", MAX_KEY_BYTES)?.into();
        objects.insert(key, take_object_delta(body)?);
    }
    Ok(Unit { covers, objects })
}

pub(crate) fn put_object_delta(out: &mut Encoder, delta: &ObjectDelta) {
    out.count(delta.entries.len());
    for (name, change) in &delta.entries {
        put_entry_key(out, name);
        put_entry_delta(out, change);
    }
    out.count(delta.removals.len());
    for removal in &delta.removals {
        put_removal(out, removal);
    }
}

fn take_object_delta(body: &mut Decoder<'_>) -> Result<ObjectDelta, DecodeError> {
    let count = body.count("entries", 4)?;
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let name = take_entry_key(body)?;
        entries.insert(name, take_entry_delta(body)?);
    }
    let removals = body.list("range removals", 3, take_removal)?;
    if !removals.is_sorted_by(|a, b| a.range <= b.range) {
        return Err(DecodeError::Malformed("a list of range removals"));
    }
    Ok(ObjectDelta { entries, removals })
}

/// Writes a large removal.
pub(crate) fn put_removal(out: &mut Encoder, removal: &RangeRemoval) {
    out.bytes(&removal.range.from);
    match &removal.range.to {
        Some(to) => {
            out.byte(1);
            out.bytes(to);
        }
        None => out.byte(0),
    }
    out.vector(&removal.context);
}

/// Reads a large removal.
///
/// # Errors
///
/// If the bytes are none.
pub(crate) fn take_removal(body: &mut Decoder<'_>) -> Result<RangeRemoval, DecodeError> {
    let from = body.bytes("a range", EntryKey::MAX_BYTES)?.into();
    let to = match body.byte()? {
        0 => None,
        1 => Some(body.bytes("a range", EntryKey::MAX_BYTES)?.into()),
        _ => return Err(DecodeError::Malformed("a range")),
    };
    Ok(RangeRemoval { range: EntryRange { from, to }, context: body.vector()? })
}

fn put_entry_delta(out: &mut Encoder, change: &EntryDelta) {
    match change {
        EntryDelta::Dots { added, removed } => {
            out.byte(DOTS);
            put_dots(out, added);
            put_dots(out, removed);
        }
        EntryDelta::Versions { written, removed } => {
            out.byte(VERSIONS);
            put_versions(out, written);
            put_dots(out, removed);
        }
        EntryDelta::Cells { raised, floors } => {
            out.byte(CELLS);
            out.count(raised.len());
            for raise in raised {
                out.varint(raise.birth);
                out.varint(raise.last);
                put_amounts(out, raise.amounts);
            }
            out.count(floors.len());
            for floor in floors {
                out.varint(floor.birth);
                put_amounts(out, floor.amounts);
            }
        }
    }
}

fn take_entry_delta(body: &mut Decoder<'_>) -> Result<EntryDelta, DecodeError> {
    match body.byte()? {
        DOTS => Ok(EntryDelta::Dots { added: take_dots(body)?, removed: take_dots(body)? }),
        VERSIONS => {
            Ok(EntryDelta::Versions { written: take_versions(body)?, removed: take_dots(body)? })
        }
        CELLS => {
            let raised = body.list("raises", 4, |body| {
                let (birth, last) = (body.varint()?, body.varint()?);
                Ok(Raise { birth, last, amounts: take_amounts(body)? })
            })?;
            let floors = body.list("floors", 3, |body| {
                Ok(Floor { birth: body.varint()?, amounts: take_amounts(body)? })
            })?;
            // Ascending: a join looks for each of one list in the other.
            let in_order = raised.is_sorted_by(|a, b| a.birth < b.birth)
                && floors.is_sorted_by(|a, b| a.birth < b.birth);
            if !in_order {
                return Err(DecodeError::Malformed("a list of cells"));
            }
            Ok(EntryDelta::Cells { raised, floors })
        }
        _ => Err(DecodeError::Malformed("a change")),
    }
}

fn put_dots(out: &mut Encoder, dots: &[Dot]) {
    out.count(dots.len());
    for dot in dots {
        out.dot(*dot);
    }
}

fn take_dots(body: &mut Decoder<'_>) -> Result<Vec<Dot>, DecodeError> {
    let dots = body.list("dots", 2, Decoder::dot)?;
    // The table of actors is in the order of use, so sorted dots need not have
    // sorted indices; what matters is that they are ascending as dots.
    if !dots.is_sorted_by(|a, b| a < b) {
        return Err(DecodeError::Malformed("a list of dots"));
    }
    Ok(dots)
}

fn put_versions(out: &mut Encoder, versions: &[Version]) {
    out.count(versions.len());
    for version in versions {
        out.dot(version.dot);
        out.varint(version.stamp.bits());
        // 0 stands for none: a deadline in 1970 would have expired long ago.
        out.varint(version.deadline_ms.unwrap_or(0));
        out.bytes(version.content_type.as_bytes());
        out.bytes(&version.bytes);
    }
}

fn take_versions(body: &mut Decoder<'_>) -> Result<Vec<Version>, DecodeError> {
    let versions = body.list("versions", 6, |body| {
        Ok(Version {
            dot: body.dot()?,
            stamp: HybridTimestamp::from_bits(body.varint()?),
            deadline_ms: Some(body.varint()?).filter(|&deadline| deadline > 0),
            content_type: body.string("a content type", MAX_CONTENT_TYPE_BYTES)?.into(),
            bytes: body.bytes("a value", MAX_UNIT_BYTES)?.into(),
        })
    })?;
    if !versions.is_sorted_by(|a, b| a.dot < b.dot) {
        return Err(DecodeError::Malformed("a list of versions"));
    }
    Ok(versions)
}

fn put_amounts(out: &mut Encoder, amounts: Amounts) {
    out.varint(amounts.up);
    out.varint(amounts.down);
}

fn take_amounts(body: &mut Decoder<'_>) -> Result<Amounts, DecodeError> {
    Ok(Amounts { up: body.varint()?, down: body.varint()? })
}
