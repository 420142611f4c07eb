//! What a replica tells a peer of members that the peer has no link with.

use std::sync::Arc;

use coppice_crdt::{ActorId, VersionVector};

use super::MAX_NAME_BYTES;
use crate::codec::{DecodeError, Decoder, Encoder};

/// A frame tells of at most so many members.
const MAX_REPORTS: usize = 1_024;

/// What is known of one member. A vector may come in pieces, each with the
/// number of writes that the member had made by the report it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReport {
    /// The member's opening.
    pub opening: ActorId,
    /// Its store.
    pub store: [u8; 16],
    /// How often the store had been opened.
    pub opening_number: u64,
    /// The member's name, for people.
    pub name: Arc<str>,
    /// The number of its last report that the sender knows; the member counts them.
    pub report: u64,
    /// How long ago that was, in milliseconds.
    pub age_ms: u64,
    /// How many writes it had made by then.
    pub issued: u64,
    /// Entries of its durable vector that rose since the sender last told of them.
    pub durable: VersionVector,
}

pub(super) fn put_members(out: &mut Encoder, members: &[MemberReport]) {
    out.count(members.len());
    for member in members {
        out.actor(member.opening);
        out.fixed128(u128::from_be_bytes(member.store));
        out.varint(member.opening_number);
        out.bytes(member.name.as_bytes());
        out.varint(member.report);
        out.varint(member.age_ms);
        out.varint(member.issued);
        out.vector(&member.durable);
    }
}

pub(super) fn take_members(body: &mut Decoder<'_>) -> Result<Vec<MemberReport>, DecodeError> {
    let reports = body.list("members", 23, |body| {
        Ok(MemberReport {
            opening: body.actor()?,
            store: body.array()?,
            opening_number: body.varint()?,
            name: body.string("a name", MAX_NAME_BYTES)?.into(),
            report: body.varint()?,
            age_ms: body.varint()?,
            issued: body.varint()?,
            durable: body.vector()?,
        })
    })?;
    if reports.len() > MAX_REPORTS { Err(DecodeError::Oversized("members")) } else { Ok(reports) }
}
