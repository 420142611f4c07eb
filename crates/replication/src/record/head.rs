//! The record that says where a replica stands.

use coppice_crdt::{ActorId, CrdtType, VersionVector};

use super::log::{Totals, put_totals, take_totals};
use super::{opened, sealed, take_type};
use crate::codec::{DecodeError, Decoder, Encoder};

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
        let digests = body.list("digests", 16, Decoder::fixed128)?;
        let former_actors = body.list("former actors", 1, Decoder::actor)?;
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
