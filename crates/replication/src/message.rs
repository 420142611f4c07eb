//! What peers say to each other, as types and as bytes.
//!
//! A frame is a kind byte, a version byte, a body (table of actors, fields;
//! `codec`) and a CRC-32C of all before it; the transport prefixes its length.
//! Decoding checks every size before it allocates; what a decoded message says
//! is checked where it is used.
//!
//! A Hello may be of a newer version than this program's: its fields stay as they
//! are for ever, and what newer versions put behind them is not read.

mod members;

use std::sync::Arc;

use coppice_crdt::{ActorId, CrdtType, Entry, EntryKey, VersionVector};

use crate::codec::{DecodeError, Decoder, Encoder};
use crate::record::{Position, RANGES, put_position, take_position};
use crate::state_codec::{
    put_entry, put_entry_key, put_unit, take_entry, take_entry_key, take_unit,
};
use crate::unit::{MAX_KEY_BYTES, Unit};

pub use members::MemberReport;
use members::{put_members, take_members};

/// The highest version of the protocol that this program speaks.
pub const PROTOCOL_VERSION: u8 = 1;

/// The lowest version of the protocol that this program speaks.
pub const OLDEST_PROTOCOL_VERSION: u8 = 1;

/// The largest frame, in bytes: a unit of the largest size and what stands around it.
pub const MAX_FRAME_BYTES: usize = crate::unit::MAX_UNIT_BYTES + (64 << 10);

const MAX_NAME_BYTES: usize = 256;

/// One message between peers, about one group.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The first message of each side.
    Hello(Hello),
    /// Writes that the receiver lacks.
    Delta(Delta),
    /// What the sender has by now.
    Ack(Ack),
    /// Deltas could not be applied; begin again from this vector.
    Want(Want),
    /// The sender's log does not reach back to the receiver's vector: the
    /// receiver has to be repaired by state.
    TooOld,
    /// Asks for the state from a place on. One that begins a repair opens a
    /// snapshot, which serves those that follow on the same link.
    RepairRequest(RepairRequest),
    /// A part of the state of one range.
    RepairPart(RepairPart),
    /// No repair can be served now; ask somebody else, or later.
    RepairRefused,
    /// Asks for a round of sending at once, or answers that.
    Exchange(Exchange),
    /// What is new about members that the receiver has no link with.
    Members(Vec<MemberReport>),
    /// No more parts are needed: the snapshot can go.
    RepairEnd,
}

/// Who speaks, of which group, and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The highest version of the protocol that the sender speaks.
    pub protocol: u8,
    /// The group's id.
    pub group_id: [u8; 16],
    /// What the group's objects are.
    pub crdt_type: CrdtType,
    /// The sender's store.
    pub store: [u8; 16],
    /// This opening of the sender's store; the actor of all that it writes.
    pub opening: ActorId,
    /// How often the store had been opened; tells openings of one store apart in time.
    pub opening_number: u64,
    /// The replica's name, for people.
    pub name: Arc<str>,
    /// What the sender has seen.
    pub vector: VersionVector,
    /// What of it is on its disk.
    pub durable: VersionVector,
    /// The sender's wall time, in milliseconds since 1970.
    pub clock_ms: u64,
}

/// What a delta frame builds upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// The end of the previous frame of this epoch, raised by these entries.
    Continued(VersionVector),
    /// Exactly this.
    Exact(VersionVector),
}

/// Writes, joined to one unit, and what the sender had seen before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Counts the receiver's `Want`s that the sender has followed.
    pub epoch: u32,
    /// The receiver applies the unit only once it has seen all of this.
    pub base: Base,
    /// The writes.
    pub unit: Unit,
}

/// What the sender has by now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Counts the sender's answers over all its links: who hears of the sender
    /// through others tells by it what is newer.
    pub report: u64,
    /// Delta frames taken from this link so far.
    pub frames: u64,
    /// Entries of its vector that rose since its last `Ack` or `Hello` here.
    pub seen: VersionVector,
    /// Entries of its durable vector that rose since then.
    pub durable: VersionVector,
    /// The sum of its range digests, at that vector; `None` under repair.
    pub digest: Option<u128>,
    /// The openings it has live links with, if that changed.
    pub links: Option<Vec<ActorId>>,
    /// The sender's wall time, in milliseconds since 1970.
    pub clock_ms: u64,
}

/// Asks the sender of deltas to begin again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Deltas with a lower epoch are dropped from here on.
    pub epoch: u32,
    /// What the asking side has seen.
    pub vector: VersionVector,
}

/// Asks for the state of one range, from a place on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairRequest {
    /// Whether this begins a repair: a new snapshot is to be opened.
    pub begin: bool,
    /// Which range.
    pub range: u8,
    /// From where on; `None`: from the start of the range.
    pub from: Option<Position>,
}

/// A round of sending that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Which one, counted by the side that asks.
    pub number: u64,
    /// Whether this answers it: the sender's last `Ack` says what it has, and
    /// that is on its way.
    pub answers: bool,
}

/// Some entries of one object, ascending by name.
pub type ListedEntries = Vec<(EntryKey, Entry)>;

/// All that the snapshot of the sender holds between two places of one range.
#[derive(Clone, Debug, PartialEq)]
pub struct RepairPart {
    /// What the snapshot has seen. What it lacks below this was removed.
    pub vector: VersionVector,
    /// Which range.
    pub range: u8,
    /// From where on; `None`: from the start of the range.
    pub from: Option<Position>,
    /// The first place behind; `None`: the end of the range.
    pub to: Option<Position>,
    /// The entries between, in order; dead counter cells among them.
    pub objects: Vec<(Arc<str>, ListedEntries)>,
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const DELTA: u8 = 2;
    pub(super) const ACK: u8 = 3;
    pub(super) const WANT: u8 = 4;
    pub(super) const TOO_OLD: u8 = 5;
    pub(super) const REPAIR_REQUEST: u8 = 6;
    pub(super) const REPAIR_PART: u8 = 7;
    pub(super) const REPAIR_REFUSED: u8 = 8;
    pub(super) const EXCHANGE: u8 = 9;
    pub(super) const MEMBERS: u8 = 10;
    pub(super) const REPAIR_END: u8 = 11;
}

impl Message {
    /// The frame's bytes in the highest version spoken here, without the
    /// transport's length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_at(PROTOCOL_VERSION)
    }

    /// The frame's bytes in a version that both sides speak.
    #[must_use]
    pub fn encode_at(&self, version: u8) -> Vec<u8> {
        let mut out = Encoder::new();
        let kind = match self {
            Self::Hello(hello) => put_hello(&mut out, hello),
            Self::Delta(delta) => put_delta(&mut out, delta),
            Self::Ack(ack) => put_ack(&mut out, ack),
            Self::Want(want) => {
                out.varint(u64::from(want.epoch));
                out.vector(&want.vector);
                kind::WANT
            }
            Self::TooOld => kind::TOO_OLD,
            Self::RepairRequest(request) => {
                out.byte(u8::from(request.begin));
                out.byte(request.range);
                put_place(&mut out, request.from.as_ref());
                kind::REPAIR_REQUEST
            }
            Self::RepairPart(part) => put_part(&mut out, part),
            Self::RepairRefused => kind::REPAIR_REFUSED,
            Self::Exchange(exchange) => {
                out.varint(exchange.number);
                out.byte(u8::from(exchange.answers));
                kind::EXCHANGE
            }
            Self::Members(members) => {
                put_members(&mut out, members);
                kind::MEMBERS
            }
            Self::RepairEnd => kind::REPAIR_END,
        };
        let mut frame = Vec::with_capacity(out.len() + 64);
        frame.extend([kind, version]);
        out.finish_into(&mut frame);
        let checksum = crc32c::crc32c(&frame);
        frame.extend(checksum.to_be_bytes());
        frame
    }

    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// If the bytes are no frame of a version that this program speaks. The
    /// link they came from is to be closed.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(DecodeError::Oversized("a frame"));
        }
        let (content, checksum) = frame.split_last_chunk::<4>().ok_or(DecodeError::Truncated)?;
        let (&[kind, version], body) =
            content.split_first_chunk::<2>().ok_or(DecodeError::Truncated)?;
        let newer_hello = kind == kind::HELLO && version > PROTOCOL_VERSION;
        if !newer_hello && !(OLDEST_PROTOCOL_VERSION..=PROTOCOL_VERSION).contains(&version) {
            return Err(DecodeError::UnsupportedVersion(version));
        }
        if crc32c::crc32c(content) != u32::from_be_bytes(*checksum) {
            return Err(DecodeError::Checksum);
        }
        let mut body = Decoder::new(body)?;
        let message = match kind {
            kind::HELLO => Self::Hello(take_hello(&mut body)?),
            kind::DELTA => Self::Delta(take_delta(&mut body)?),
            kind::ACK => Self::Ack(take_ack(&mut body)?),
            kind::WANT => {
                Self::Want(Want { epoch: take_epoch(&mut body)?, vector: body.vector()? })
            }
            kind::TOO_OLD => Self::TooOld,
            kind::REPAIR_REQUEST => Self::RepairRequest(RepairRequest {
                begin: body.truth()?,
                range: take_range(&mut body)?,
                from: take_place(&mut body)?,
            }),
            kind::REPAIR_PART => Self::RepairPart(take_part(&mut body)?),
            kind::REPAIR_REFUSED => Self::RepairRefused,
            kind::EXCHANGE => {
                Self::Exchange(Exchange { number: body.varint()?, answers: body.truth()? })
            }
            kind::MEMBERS => Self::Members(take_members(&mut body)?),
            kind::REPAIR_END => Self::RepairEnd,
            _ => return Err(DecodeError::Malformed("a frame's kind")),
        };
        if !newer_hello {
            body.end()?;
        }
        Ok(message)
    }
}

fn put_hello(out: &mut Encoder, hello: &Hello) -> u8 {
    out.byte(hello.protocol);
    out.fixed128(u128::from_be_bytes(hello.group_id));
    out.byte(hello.crdt_type.byte());
    out.fixed128(u128::from_be_bytes(hello.store));
    out.actor(hello.opening);
    out.varint(hello.opening_number);
    out.bytes(hello.name.as_bytes());
    out.vector(&hello.vector);
    out.vector(&hello.durable);
    out.varint(hello.clock_ms);
    kind::HELLO
}

fn take_hello(body: &mut Decoder<'_>) -> Result<Hello, DecodeError> {
    Ok(Hello {
        protocol: body.byte()?,
        group_id: body.array()?,
        crdt_type: CrdtType::from_byte(body.byte()?)
            .ok_or(DecodeError::Malformed("a CRDT type"))?,
        store: body.array()?,
        opening: body.actor()?,
        opening_number: body.varint()?,
        name: body.string("a name", MAX_NAME_BYTES)?.into(),
        vector: body.vector()?,
        durable: body.vector()?,
        clock_ms: body.varint()?,
    })
}

fn put_delta(out: &mut Encoder, delta: &Delta) -> u8 {
    out.varint(u64::from(delta.epoch));
    let (tag, vector) = match &delta.base {
        Base::Continued(raised) => (0, raised),
        Base::Exact(vector) => (1, vector),
    };
    out.byte(tag);
    out.vector(vector);
    put_unit(out, &delta.unit);
    kind::DELTA
}

fn take_delta(body: &mut Decoder<'_>) -> Result<Delta, DecodeError> {
    let epoch = take_epoch(body)?;
    let base = match body.byte()? {
        0 => Base::Continued(body.vector()?),
        1 => Base::Exact(body.vector()?),
        _ => return Err(DecodeError::Malformed("a base")),
    };
    Ok(Delta { epoch, base, unit: take_unit(body)? })
}

fn put_ack(out: &mut Encoder, ack: &Ack) -> u8 {
    out.varint(ack.report);
    out.varint(ack.frames);
    out.vector(&ack.seen);
    out.vector(&ack.durable);
    match ack.digest {
        Some(digest) => {
            out.byte(1);
            out.fixed128(digest);
        }
        None => out.byte(0),
    }
    match &ack.links {
        Some(links) => {
            out.byte(1);
            out.count(links.len());
            for &link in links {
                out.actor(link);
            }
        }
        None => out.byte(0),
    }
    out.varint(ack.clock_ms);
    kind::ACK
}

fn take_ack(body: &mut Decoder<'_>) -> Result<Ack, DecodeError> {
    let (report, frames) = (body.varint()?, body.varint()?);
    let (seen, durable) = (body.vector()?, body.vector()?);
    let digest = if body.truth()? { Some(body.fixed128()?) } else { None };
    let links = if body.truth()? { Some(body.list("links", 1, Decoder::actor)?) } else { None };
    Ok(Ack { report, frames, seen, durable, digest, links, clock_ms: body.varint()? })
}

fn put_part(out: &mut Encoder, part: &RepairPart) -> u8 {
    out.vector(&part.vector);
    out.byte(part.range);
    put_place(out, part.from.as_ref());
    put_place(out, part.to.as_ref());
    out.count(part.objects.len());
    for (key, entries) in &part.objects {
        out.bytes(key.as_bytes());
        out.count(entries.len());
        for (name, entry) in entries {
            put_entry_key(out, name);
            put_entry(out, entry);
        }
    }
    kind::REPAIR_PART
}

fn take_part(body: &mut Decoder<'_>) -> Result<RepairPart, DecodeError> {
    let vector = body.vector()?;
    let range = take_range(body)?;
    let (from, to) = (take_place(body)?, take_place(body)?);
    let objects = body.list("objects", 2, |body| {
        let key: Arc<str> = body.string("an object's key", MAX_KEY_BYTES)?.into();
        let entries =
            body.list("entries", 3, |body| Ok((take_entry_key(body)?, take_entry(body)?)))?;
        Ok((key, entries))
    })?;
    Ok(RepairPart { vector, range, from, to, objects })
}

fn put_place(out: &mut Encoder, place: Option<&Position>) {
    match place {
        Some(position) => {
            out.byte(1);
            put_position(out, position);
        }
        None => out.byte(0),
    }
}

fn take_place(body: &mut Decoder<'_>) -> Result<Option<Position>, DecodeError> {
    if body.truth()? { take_position(body).map(Some) } else { Ok(None) }
}

fn take_range(body: &mut Decoder<'_>) -> Result<u8, DecodeError> {
    let range = body.byte()?;
    if usize::from(range) < RANGES { Ok(range) } else { Err(DecodeError::Malformed("a range")) }
}

fn take_epoch(body: &mut Decoder<'_>) -> Result<u32, DecodeError> {
    u32::try_from(body.varint()?).map_err(|_| DecodeError::Oversized("an epoch"))
}
