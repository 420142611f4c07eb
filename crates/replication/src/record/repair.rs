//! The record of a repair by state that is under way, and places in the state.

use coppice_crdt::{EntryKey, VersionVector};

use super::{opened, sealed};
use crate::codec::{DecodeError, Decoder, Encoder};
use crate::unit::{MAX_KEY_BYTES, ObjectKey};

/// A range cut into intervals: the end of each (exclusive; `None`: the end of the
/// range) and what was merged there beyond the group's vector.
pub type Intervals = Vec<(Option<Position>, VersionVector)>;

/// How far the repair of a replica has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairRecord {
    /// The ranges that a repair has reached, ascending, with their intervals.
    pub ranges: Vec<(u8, Intervals)>,
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
        let ranges = body.list("ranges", 2, |body| {
            let range = body.byte()?;
            let intervals = body.list("intervals", 2, |body| {
                let end = if body.truth()? { Some(take_position(body)?) } else { None };
                Ok((end, body.vector()?))
            })?;
            Ok((range, intervals))
        })?;
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
    let key = body.string("an object's key", MAX_KEY_BYTES)?.into();
    let entry = body.bytes("an entry's name", EntryKey::MAX_BYTES)?.into();
    Ok(Position { key, entry })
}
