//! Bytes in and out: the primitives that frames and records are made of.
//!
//! Integers are LEB128 varints (at most 10 bytes, no redundant zero groups
//! required); byte strings are their length and the bytes. Actors stand in a
//! table at the start of a body, in the order of their first use, and are named
//! by their index. Everything read is checked against the bytes that are left
//! before anything is allocated, so that a short message cannot claim a long list.
//!
//! `docs/protocol.md` has the same, byte by byte.

use std::collections::BTreeMap;

use coppice_crdt::{ActorId, Dot, VersionVector};

/// Room made for a list before its first item is read, in items.
const ITEMS_AT_ONCE: usize = 256;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end in the middle of something.
    #[error("the bytes end too early")]
    Truncated,
    /// A length, count or value is over its limit.
    #[error("{0} is over its limit")]
    Oversized(&'static str),
    /// A value that has no meaning here.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// Bytes are left behind the end.
    #[error("{0} bytes are left behind the end")]
    TrailingBytes(usize),
    /// Written by a version that this one cannot read.
    #[error("version {0} is newer than this program reads")]
    UnsupportedVersion(u8),
    /// The checksum does not match the bytes.
    #[error("the checksum does not match")]
    Checksum,
}

/// Writes a body; `finish` puts the table of actors before it.
#[derive(Debug, Default)]
pub struct Encoder {
    actors: Vec<ActorId>,
    /// Where each actor stands, once there are too many to look through.
    index: BTreeMap<ActorId, usize>,
    body: Vec<u8>,
}

/// Up to so many actors are looked through: most bodies name one or two.
const ACTORS_WITHOUT_INDEX: usize = 16;

impl Encoder {
    /// An empty body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.body.push(byte);
    }

    /// A variable-length integer.
    pub fn varint(&mut self, value: u64) {
        push_varint(&mut self.body, u128::from(value));
    }

    /// A signed 128-bit integer, zigzag as a variable-length integer.
    pub fn signed(&mut self, value: i128) {
        push_varint(&mut self.body, zigzag(value));
    }

    /// A length or count.
    pub fn count(&mut self, count: usize) {
        push_varint(&mut self.body, count as u128);
    }

    /// Sixteen bytes, big-endian.
    pub fn fixed128(&mut self, value: u128) {
        self.body.extend(value.to_be_bytes());
    }

    /// A byte string with its length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.body.extend(bytes);
    }

    /// An actor, by its index in the table.
    pub fn actor(&mut self, actor: ActorId) {
        let known = if self.actors.len() <= ACTORS_WITHOUT_INDEX {
            self.actors.iter().position(|known| *known == actor)
        } else {
            self.index.get(&actor).copied()
        };
        let index = known.unwrap_or_else(|| self.add_actor(actor));
        self.count(index);
    }

    fn add_actor(&mut self, actor: ActorId) -> usize {
        let index = self.actors.len();
        self.actors.push(actor);
        if index == ACTORS_WITHOUT_INDEX {
            self.index = self.actors.iter().copied().zip(0..).collect();
        } else if index > ACTORS_WITHOUT_INDEX {
            self.index.insert(actor, index);
        }
        index
    }

    /// A dot.
    pub fn dot(&mut self, dot: Dot) {
        self.actor(dot.actor);
        self.varint(dot.n);
    }

    /// A version vector.
    pub fn vector(&mut self, vector: &VersionVector) {
        self.count(vector.len());
        for (actor, n) in vector.iter() {
            self.actor(actor);
            self.varint(n);
        }
    }

    /// Bytes written so far, without the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Appends the table of actors and the body to `out`.
    pub fn finish_into(self, out: &mut Vec<u8>) {
        push_varint(out, self.actors.len() as u128);
        for actor in &self.actors {
            out.extend(actor.as_bytes());
        }
        out.extend(self.body);
    }
}

const fn zigzag(value: i128) -> u128 {
    ((value << 1) ^ (value >> 127)).cast_unsigned()
}

const fn unzigzag(value: u128) -> i128 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Appends `value` in groups of seven bits, the lowest first.
pub(crate) fn push_varint(out: &mut Vec<u8>, mut value: u128) {
    loop {
        // Nearly all are small, and wide shifts are slow.
        if let Ok(small) = u64::try_from(value) {
            return push_varint64(out, small);
        }
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
}

fn push_varint64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Reads a body whose table of actors was read first.
#[derive(Debug)]
pub struct Decoder<'a> {
    actors: Vec<ActorId>,
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads the table of actors; what follows is the body.
    ///
    /// # Errors
    ///
    /// If the table is cut off.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut decoder = Self { actors: Vec::new(), rest: bytes };
        decoder.actors = decoder
            .list("the table of actors", 16, |table| table.array().map(ActorId::from_bytes))?;
        Ok(decoder)
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// If none is left.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    /// A truth value: 0 or 1.
    ///
    /// # Errors
    ///
    /// If it is cut off or another byte.
    pub fn truth(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Malformed("a truth value")),
        }
    }

    /// A variable-length integer of up to 64 bits.
    ///
    /// # Errors
    ///
    /// If it is cut off or longer.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        u64::try_from(self.wide_varint()?).map_err(|_| DecodeError::Oversized("an integer"))
    }

    /// A signed 128-bit integer.
    ///
    /// # Errors
    ///
    /// If it is cut off or longer.
    pub fn signed(&mut self) -> Result<i128, DecodeError> {
        Ok(unzigzag(self.wide_varint()?))
    }

    fn wide_varint(&mut self) -> Result<u128, DecodeError> {
        let mut value = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            let group = u128::from(byte & 0x7f);
            if shift == 126 && group > 3 {
                break;
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Oversized("an integer"))
    }

    /// A count of items that take at least `least` bytes each: refused if the
    /// bytes that are left cannot hold them.
    ///
    /// # Errors
    ///
    /// If the count is cut off or cannot be true; `what` names it.
    pub fn count(&mut self, what: &'static str, least: usize) -> Result<usize, DecodeError> {
        let count =
            usize::try_from(self.wide_varint()?).map_err(|_| DecodeError::Oversized(what))?;
        match count.checked_mul(least) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(DecodeError::Oversized(what)),
        }
    }

    /// A list: its count, refused as [`Self::count`] does, and its items.
    ///
    /// # Errors
    ///
    /// If the count cannot be true, or what `item` meets.
    pub fn list<T>(
        &mut self,
        what: &'static str,
        least: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(what, least)?;
        // An item takes more room here than on the wire: a list grows as it is
        // read, so that a frame cannot claim many times its size at once.
        let mut items = Vec::with_capacity(count.min(ITEMS_AT_ONCE));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Sixteen bytes, big-endian.
    ///
    /// # Errors
    ///
    /// If they are cut off.
    pub fn fixed128(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    /// Exactly `N` bytes.
    ///
    /// # Errors
    ///
    /// If they are cut off.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    /// A byte string of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// If it is cut off or longer; `what` names it.
    pub fn bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], DecodeError> {
        let length = self.count(what, 1)?;
        if length > limit {
            return Err(DecodeError::Oversized(what));
        }
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(bytes)
    }

    /// A UTF-8 string of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// If it is cut off, longer, or not UTF-8; `what` names it.
    pub fn string(&mut self, what: &'static str, limit: usize) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(what, limit)?).map_err(|_| DecodeError::Malformed(what))
    }

    /// An actor, by its index in the table.
    ///
    /// # Errors
    ///
    /// If the index is cut off or not in the table.
    pub fn actor(&mut self) -> Result<ActorId, DecodeError> {
        let index = self.varint()?;
        let found = usize::try_from(index).ok().and_then(|index| self.actors.get(index));
        found.copied().ok_or(DecodeError::Malformed("an actor's index"))
    }

    /// A dot; its `n` is at least 1.
    ///
    /// # Errors
    ///
    /// If it is cut off or names no write.
    pub fn dot(&mut self) -> Result<Dot, DecodeError> {
        let actor = self.actor()?;
        match self.varint()? {
            0 => Err(DecodeError::Malformed("a dot")),
            n => Ok(Dot::new(actor, n)),
        }
    }

    /// A version vector.
    ///
    /// # Errors
    ///
    /// If it is cut off.
    pub fn vector(&mut self) -> Result<VersionVector, DecodeError> {
        let count = self.count("a vector", 2)?;
        let mut vector = VersionVector::new();
        for _ in 0..count {
            let actor = self.actor()?;
            vector.raise(actor, self.varint()?);
        }
        Ok(vector)
    }

    /// Bytes that are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Checks that all was read.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TrailingBytes`] if not.
    pub const fn end(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
        let mut encoder = Encoder::new();
        write(&mut encoder);
        let mut out = Vec::new();
        encoder.finish_into(&mut out);
        out
    }

    #[test]
    fn integers_survive_at_their_bounds() {
        for value in [0, 1, 127, 128, u64::MAX - 1, u64::MAX] {
            let bytes = encoded(|out| out.varint(value));
            assert_eq!(Decoder::new(&bytes).and_then(|mut body| body.varint()), Ok(value));
        }
        for value in [0, -1, 1, i128::MIN, i128::MAX, 1 << 70, -(1 << 70)] {
            let bytes = encoded(|out| out.signed(value));
            assert_eq!(Decoder::new(&bytes).and_then(|mut body| body.signed()), Ok(value));
        }
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused_before_anything_is_allocated() {
        let bytes = encoded(|out| out.varint(u64::MAX));
        let mut body = Decoder::new(&bytes).expect("the table is empty");
        assert_eq!(body.count("a list", 2), Err(DecodeError::Oversized("a list")));
        assert!(Decoder::new(&[0xff, 0xff, 0xff, 0xff, 0x7f]).is_err(), "a table without actors");
    }

    #[test]
    fn an_actor_outside_the_table_is_refused() {
        let bytes = encoded(|out| out.varint(3));
        let mut body = Decoder::new(&bytes).expect("the table is empty");
        assert_eq!(body.actor(), Err(DecodeError::Malformed("an actor's index")));
    }
}
