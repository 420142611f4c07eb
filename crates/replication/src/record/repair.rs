//! The record of a repair by state that is under way, and places in the state.

use coppice_crdt::{EntryKey, VersionVector};

use super::{RANGES, opened, sealed};
use crate::codec::{DecodeError, Decoder, Encoder};
use crate::unit::{MAX_KEY_BYTES, ObjectKey};

/// A range is cut into so many intervals at most.
pub const MAX_INTERVALS: usize = 8;

/// A range cut into intervals: the end of each (exclusive; `None`: the end of the
/// range) and what was merged there beyond the group's vector.
pub type Intervals = Vec<(Option<Position>, VersionVector)>;

/// How far the repair of a replica has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairRecord {
    /// The ranges that a repair has reached, ascending, with their intervals.
    pub ranges: Vec<(u8, Intervals)>,
    /// The join of the vectors of all sources merged so far. The repair is over
    /// once the group's vector covers it.
    pub merged: VersionVector,
    /// What the last session was to bring everywhere: the next one passes by the
    /// places that have it.
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
    /// If they are damaged or of a newer version, or if ranges or intervals are
    /// out of order or too many.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut body = opened(bytes)?;
        let (merged, target) = (body.vector()?, body.vector()?);
        let ranges = body.list("ranges", 2, |body| {
            let range = body.byte()?;
            let intervals: Intervals = body.list("intervals", 2, |body| {
                let end = if body.truth()? { Some(take_position(body)?) } else { None };
                Ok((end, body.vector()?))
            })?;
            check_intervals(&intervals)?;
            Ok((range, intervals))
        })?;
        body.end()?;
        let ascend = ranges.is_sorted_by(|a, b| a.0 < b.0);
        if !ascend || ranges.last().is_some_and(|(last, _)| usize::from(*last) >= RANGES) {
            return Err(DecodeError::Malformed("ranges"));
        }
        Ok(Self { ranges, merged, target })
    }
}

/// Intervals fill their range: they ascend, and only the last has no end.
fn check_intervals(intervals: &Intervals) -> Result<(), DecodeError> {
    if intervals.len() > MAX_INTERVALS {
        return Err(DecodeError::Oversized("intervals"));
    }
    let ends = || intervals.iter().map_while(|(end, _)| end.as_ref());
    let fill = ends().count() + 1 == intervals.len() && ends().is_sorted_by(|a, b| a < b);
    if fill { Ok(()) } else { Err(DecodeError::Malformed("intervals")) }
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
