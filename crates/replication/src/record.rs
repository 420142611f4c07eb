//! What a replica keeps in its store: record keys and record bytes.
//!
//! A record is a version byte, a body (table of actors, fields; `codec`), and a
//! CRC-32C of all before it. Stores see keys and bytes only; the mapping of
//! [`RecordKey`] to stored keys is the agent's.

mod head;
mod log;
mod object;
mod repair;

use std::sync::Arc;

use coppice_crdt::{ActorId, CrdtType, EntryKey};

pub use head::HeadRecord;
pub use log::{LogItem, LogRecord, Totals};
pub(crate) use object::encode_object;
pub use object::{FieldRecord, ObjectRecord, decode_entry, encode_entry};
pub use repair::{Intervals, MAX_INTERVALS, Position, RepairRecord};
pub(crate) use repair::{put_position, take_position};

use crate::codec::{DecodeError, Decoder, Encoder};
use crate::unit::ObjectKey;

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
    /// That a counter cell of another actor died here and its floor is kept.
    Floor(DeadCell),
    /// That entries of an object are hidden and to be deleted.
    Sweep(ObjectId),
}

/// A counter cell of which everything is removed, kept for its floor. Its record
/// holds the cell as it was left dead, as an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadCell {
    /// Whose cell it is.
    pub owner: ActorId,
    /// The log record that it died in, or the next one.
    pub died_seq: u64,
    /// The owner's `n` at its first increment.
    pub birth: u64,
    /// Where it stands.
    pub object: ObjectId,
    /// Under which name.
    pub name: EntryKey,
}

/// A record to write, or to delete (`None`).
pub type RecordWrite = (RecordKey, Option<Vec<u8>>);

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

fn take_type(body: &mut Decoder<'_>) -> Result<CrdtType, DecodeError> {
    CrdtType::from_byte(body.byte()?).ok_or(DecodeError::Malformed("a CRDT type"))
}
