//! A record of the arrival log: what one commit brought, in order.

use coppice_crdt::VersionVector;

use super::{opened, sealed};
use crate::codec::{DecodeError, Decoder, Encoder};
use crate::state_codec::{put_unit, take_unit};
use crate::unit::Unit;

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

pub(super) fn put_totals(out: &mut Encoder, totals: &Totals) {
    out.varint(totals.objects);
    out.varint(totals.entries);
}

pub(super) fn take_totals(body: &mut Decoder<'_>) -> Result<Totals, DecodeError> {
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
        let items = body.list("items", 2, |body| {
            Ok(match body.byte()? {
                Self::UNIT => LogItem::Unit(take_unit(body)?),
                Self::REPAIR => LogItem::Repair(body.vector()?),
                _ => return Err(DecodeError::Malformed("a log item")),
            })
        })?;
        let totals = take_totals(&mut body)?;
        let digests = body.list("digests", 17, |body| Ok((body.byte()?, body.fixed128()?)))?;
        body.end()?;
        Ok(Self { time_ms, items, totals, digests })
    }
}
