//! What a replica keeps in its store: record keys and record bytes.
//!
//! A record is a version byte, a body (table of actors, fields; `codec`), and a
//! CRC-32C of all before it. Stores see keys and bytes only; the mapping of
//! [`RecordKey`] to stored keys is the agent's.

use std::sync::Arc;

use coppice_crdt::{
    ActorId, CrdtType, Entry, EntryKey, FieldHeader, Header, RangeRemoval, Summary, VersionVector,
};

use crate::codec::{DecodeError, Decoder, Encoder};
use crate::state_codec::{
    put_entry, put_entry_key, put_removal, put_unit, take_entry, take_entry_key, take_removal,
    take_unit,
};
use crate::unit::{ObjectKey, Unit};

/// The version that this program writes.
const VERSION: u8 = 1;

/// Ranges that the state of a group is divided into.
pub const RANGES: usize = 64;

/// An object and the range it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// The first 6 bits of the keyed hash of its key.
    pub range: u8,
    /// Its key.
    pub key: ObjectKey,
}

/// Names one record of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// An object's header, and its entries while they fit.
    Object(ObjectId),
    /// The summaries of a map's field, once the map's entries stand apart.
    Field(ObjectId, Arc<str>),
    /// An entry that stands apart from its object's header.
    Entry(ObjectId, EntryKey),
    /// A record of the arrival log.
    Log(u64),
    /// The replica's own state as of some log record.
    Head,
    /// The state of a repair that is under way.
    Repair,
    /// That a register's picked value expires at these milliseconds since 1970.
    Deadline(u64, ObjectId),
}

/// A record to write, or to delete (`None`).
pub type RecordWrite = (RecordKey, Option<Vec<u8>>);

/// An object's header record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRecord {
    /// The derived figures.
    pub header: Header,
    /// All entries, ascending by name, while they fit; `None`: they stand apart.
    pub inline: Option<Vec<(EntryKey, Entry)>>,
    /// Large removals whose entries are hidden and not deleted yet.
    pub hidden: Vec<RangeRemoval>,
}

/// A record of the arrival log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Wall time of the commit, in milliseconds since 1970.
    pub time_ms: u64,
    /// What arrived, in order.
    pub items: Vec<LogItem>,
    /// The group's figures after it.
    pub totals: Totals,
    /// Digests of the ranges it touched, after it.
    pub digests: Vec<(u8, u128)>,
}

/// One thing in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogItem {
    /// A unit, own or relayed.
    Unit(Unit),
    /// From here on the state may hold anything this vector covers, by a repair
    /// whose entries are not in the log.
    Repair(VersionVector),
}

/// Figures over a whole group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Objects that exist.
    pub objects: u64,
    /// Live entries of all objects.
    pub entries: u64,
}

/// The replica's own state as of the log record before `next_seq`; the records
/// from there on bring it up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadRecord {
    /// What the group's objects are.
    pub crdt_type: CrdtType,
    /// The log record this state stands before.
    pub next_seq: u64,
    /// The first log record kept.
    pub first_seq: u64,
    /// What had been seen before the first log record kept.
    pub floor: VersionVector,
    /// What has been seen.
    pub vector: VersionVector,
    /// No stamp above these bits was ever given here.
    pub stamp_bound: u64,
    /// Figures over the group.
    pub totals: Totals,
    /// Digest of each range.
    pub digests: Vec<u128>,
    /// Actors of former openings of this store, in order.
    pub former_actors: Vec<ActorId>,
}

/// How far the repair of a replica has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairRecord {
    /// Per range, ascending: (end of the interval, exclusive; `None`: the end of
    /// the range) and what was merged there beyond the group's vector.
    pub ranges: Vec<(u8, Vec<(Option<Position>, VersionVector)>)>,
    /// The join of the vectors of all sources merged so far.
    pub merged: VersionVector,
    /// What the group's vector must reach for the repair to be complete.
    pub target: VersionVector,
}

/// A place in the state of a range, in the order in which repair walks it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The object.
    pub key: ObjectKey,
    /// The entry inside it, encoded; empty: the object's first.
    pub entry: Box<[u8]>,
}

fn sealed(encoder: Encoder) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(encoder.len() + 32);
    bytes.push(VERSION);
    encoder.finish_into(&mut bytes);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_be_bytes());
    bytes
}

fn opened(bytes: &[u8]) -> Result<Decoder<'_>, DecodeError> {
    let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(DecodeError::Truncated)?;
    if crc32c::crc32c(content) != u32::from_be_bytes(*checksum) {
        return Err(DecodeError::Checksum);
    }
    match content.split_first() {
        Some((&VERSION, body)) => Decoder::new(body),
        Some((&version, _)) => Err(DecodeError::UnsupportedVersion(version)),
        None => Err(DecodeError::Truncated),
    }
}

fn put_summary(out: &mut Encoder, summary: &Summary) {
    out.byte(u8::from(summary.existence));
    out.varint(summary.entries);
    out.signed(summary.sum);
}

fn take_summary(body: &mut Decoder<'_>) -> Result<Summary, DecodeError> {
    let existence = take_bool(body)?;
    Ok(Summary { existence, entries: body.varint()?, sum: body.signed()? })
}

fn take_bool(body: &mut Decoder<'_>) -> Result<bool, DecodeError> {
    match body.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Malformed("a truth value")),
    }
}

fn take_type(body: &mut Decoder<'_>) -> Result<CrdtType, DecodeError> {
    CrdtType::from_byte(body.byte()?).ok_or(DecodeError::Malformed("a CRDT type"))
}

impl ObjectRecord {
    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.byte(self.header.crdt_type.byte());
        put_summary(&mut out, &self.header.summary);
        out.varint(self.header.fields);
        out.varint(self.header.dead);
        out.fixed128(self.header.etag);
        out.count(self.hidden.len());
        for removal in &self.hidden {
            put_removal(&mut out, removal);
        }
        match &self.inline {
            Some(entries) => {
                out.byte(1);
                out.count(entries.len());
                for (name, entry) in entries {
                    put_entry_key(&mut out, name);
                    put_entry(&mut out, entry);
                }
            }
            None => out.byte(0),
        }
        sealed(out)
    }

    /// Reads the record's bytes.
    ///
    /// # Errors
    ///
    /// If they are damaged or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut body = opened(bytes)?;
        let crdt_type = take_type(&mut body)?;
        let summary = take_summary(&mut body)?;
        let (fields, dead) = (body.varint()?, body.varint()?);
        let header = Header { crdt_type, summary, fields, dead, etag: body.fixed128()? };
        let count = body.count("hidden ranges", 3)?;
        let mut hidden = Vec::with_capacity(count);
        for _ in 0..count {
            hidden.push(take_removal(&mut body)?);
        }
        let inline = if take_bool(&mut body)? {
            let count = body.count("entries", 3)?;
            let mut entries = Vec::with_capacity(count);
            for _ in 0..count {
                entries.push((take_entry_key(&mut body)?, take_entry(&mut body)?));
            }
            Some(entries)
        } else {
            None
        };
        body.end()?;
        Ok(Self { header, inline, hidden })
    }
}

/// The bytes of a record that holds one entry.
#[must_use]
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut out = Encoder::new();
    put_entry(&mut out, entry);
    sealed(out)
}

/// Reads a record that holds one entry.
///
/// # Errors
///
/// If the bytes are damaged or of a newer version.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, DecodeError> {
    let mut body = opened(bytes)?;
    let entry = take_entry(&mut body)?;
    body.end()?;
    Ok(entry)
}

/// The bytes of a record that holds a map field's summaries.
#[must_use]
pub fn encode_field(field: &FieldHeader) -> Vec<u8> {
    let mut out = Encoder::new();
    out.count(field.types.len());
    for (crdt_type, summary) in &field.types {
        out.byte(crdt_type.byte());
        put_summary(&mut out, summary);
    }
    sealed(out)
}

/// Reads a record that holds a map field's summaries.
///
/// # Errors
///
/// If the bytes are damaged or of a newer version.
pub fn decode_field(bytes: &[u8]) -> Result<FieldHeader, DecodeError> {
    let mut body = opened(bytes)?;
    let count = body.count("types", 4)?;
    let mut types = Vec::with_capacity(count);
    for _ in 0..count {
        types.push((take_type(&mut body)?, take_summary(&mut body)?));
    }
    body.end()?;
    Ok(FieldHeader { types })
}

fn put_totals(out: &mut Encoder, totals: &Totals) {
    out.varint(totals.objects);
    out.varint(totals.entries);
}

fn take_totals(body: &mut Decoder<'_>) -> Result<Totals, DecodeError> {
    Ok(Totals { objects: body.varint()?, entries: body.varint()? })
}

impl LogRecord {
    const UNIT: u8 = 1;
    const REPAIR: u8 = 2;

    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.varint(self.time_ms);
        out.count(self.items.len());
        for item in &self.items {
            match item {
                LogItem::Unit(unit) => {
                    out.byte(Self::UNIT);
                    put_unit(&mut out, unit);
                }
                LogItem::Repair(vector) => {
                    out.byte(Self::REPAIR);
                    out.vector(vector);
                }
            }
        }
        put_totals(&mut out, &self.totals);
        out.count(self.digests.len());
        for &(range, digest) in &self.digests {
            out.byte(range);
            out.fixed128(digest);
        }
        sealed(out)
    }

    /// Reads the record's bytes.
    ///
    /// # Errors
    ///
    /// If they are damaged or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut body = opened(bytes)?;
        let time_ms = body.varint()?;
        let count = body.count("items", 2)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(match body.byte()? {
                Self::UNIT => LogItem::Unit(take_unit(&mut body)?),
                Self::REPAIR => LogItem::Repair(body.vector()?),
                _ => return Err(DecodeError::Malformed("a log item")),
            });
        }
        let totals = take_totals(&mut body)?;
        let count = body.count("digests", 17)?;
        let mut digests = Vec::with_capacity(count);
        for _ in 0..count {
            digests.push((body.byte()?, body.fixed128()?));
        }
        body.end()?;
        Ok(Self { time_ms, items, totals, digests })
    }
}

impl HeadRecord {
    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.byte(self.crdt_type.byte());
        out.varint(self.next_seq);
        out.varint(self.first_seq);
        out.vector(&self.floor);
        out.vector(&self.vector);
        out.varint(self.stamp_bound);
        put_totals(&mut out, &self.totals);
        out.count(self.digests.len());
        for &digest in &self.digests {
            out.fixed128(digest);
        }
        out.count(self.former_actors.len());
        for &actor in &self.former_actors {
            out.actor(actor);
        }
        sealed(out)
    }

    /// Reads the record's bytes.
    ///
    /// # Errors
    ///
    /// If they are damaged or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut body = opened(bytes)?;
        let crdt_type = take_type(&mut body)?;
        let (next_seq, first_seq) = (body.varint()?, body.varint()?);
        let (floor, vector) = (body.vector()?, body.vector()?);
        let stamp_bound = body.varint()?;
        let totals = take_totals(&mut body)?;
        let count = body.count("digests", 16)?;
        let mut digests = Vec::with_capacity(count);
        for _ in 0..count {
            digests.push(body.fixed128()?);
        }
        let count = body.count("former actors", 1)?;
        let mut former_actors = Vec::with_capacity(count);
        for _ in 0..count {
            former_actors.push(body.actor()?);
        }
        body.end()?;
        Ok(Self {
            crdt_type,
            next_seq,
            first_seq,
            floor,
            vector,
            stamp_bound,
            totals,
            digests,
            former_actors,
        })
    }
}

impl RepairRecord {
    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.vector(&self.merged);
        out.vector(&self.target);
        out.count(self.ranges.len());
        for (range, intervals) in &self.ranges {
            out.byte(*range);
            out.count(intervals.len());
            for (end, context) in intervals {
                match end {
                    Some(position) => {
                        out.byte(1);
                        put_position(&mut out, position);
                    }
                    None => out.byte(0),
                }
                out.vector(context);
            }
        }
        sealed(out)
    }

    /// Reads the record's bytes.
    ///
    /// # Errors
    ///
    /// If they are damaged or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut body = opened(bytes)?;
        let (merged, target) = (body.vector()?, body.vector()?);
        let count = body.count("ranges", 2)?;
        let mut ranges = Vec::with_capacity(count);
        for _ in 0..count {
            let range = body.byte()?;
            let count = body.count("intervals", 2)?;
            let mut intervals = Vec::with_capacity(count);
            for _ in 0..count {
                let end =
                    if take_bool(&mut body)? { Some(take_position(&mut body)?) } else { None };
                intervals.push((end, body.vector()?));
            }
            ranges.push((range, intervals));
        }
        body.end()?;
        Ok(Self { ranges, merged, target })
    }
}

/// Writes a position.
pub(crate) fn put_position(out: &mut Encoder, position: &Position) {
    out.bytes(position.key.as_bytes());
    out.bytes(&position.entry);
}

/// Reads a position.
pub(crate) fn take_position(body: &mut Decoder<'_>) -> Result<Position, DecodeError> {
    let key = body.string("an object's key", crate::unit::MAX_KEY_BYTES)?.into();
    let entry = body.bytes("an entry's name", EntryKey::MAX_BYTES)?.into();
    Ok(Position { key, entry })
}
