//! What a client can ask of an object, and what it changes.
//!
//! [`Operation`] is the closed set of intents. [`apply`] turns one into the
//! delta that carries it out, reading only the entries it touches; the file of
//! each type says what it does and where that comes from. Common to all types:
//!
//! * An operation whose delta is empty takes no dot. Any other takes exactly one,
//!   [`OperationContext::dot`], under which everything it adds stands.
//! * An object, or a map's field, exists while it has a live entry or a live
//!   *existence* dot. An operation that takes a dot writes one where none is
//!   live, so that emptying a set leaves an empty set. Registers have none: they
//!   exist while they have a value.
//! * A removal takes what it saw and no more.
//!
//! Pure: no clock, no IO, no randomness; a function of its arguments and of what
//! it reads, so that it can be run again after a missing entry was loaded.

use crate::{
    CrdtType, Dot, Element, Entries, EntryDelta, EntryRange, HybridTimestamp, ObjectDelta, Part,
    RemovalLimits, Version, VersionVector,
};

mod parse;
mod refusal;
mod work;

pub use parse::{OperationError, parse_ttl};
pub use refusal::Refusal;
pub(crate) use work::{Place, Step, Stop, Work};

use crate::{ew_flag, g_counter, g_set, lww_register, or_map, or_set, pn_counter, removal};

/// What a client asks of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Adds `by` to a counter.
    Increment {
        /// How much; 0 makes a counter exist.
        by: u64,
    },
    /// Takes `by` from a counter that can shrink.
    Decrement {
        /// How much.
        by: u64,
    },
    /// Adds elements to a set.
    Add {
        /// At least one; an element given twice counts once.
        elements: Vec<Element>,
    },
    /// Removes elements from a set.
    Remove {
        /// At least one; an element given twice counts once.
        elements: Vec<Element>,
    },
    /// Empties a set or a map; it goes on existing.
    Clear,
    /// Raises a flag.
    Enable,
    /// Lowers a flag, or creates a lowered one.
    Disable,
    /// Writes a register.
    Set(RegisterWrite),
    /// Runs an operation on a field of a map, which it creates if need be.
    Update {
        /// The field's name, at most [`Operation::MAX_FIELD_BYTES`].
        field: Box<str>,
        /// What the field is.
        crdt_type: CrdtType,
        /// The operation on the field.
        operation: Box<Operation>,
    },
    /// Removes a field of a map, whatever types it has.
    RemoveField {
        /// The field's name.
        field: Box<str>,
    },
    /// Removes the object itself. Serves every type.
    Delete,
    /// Removes a register whose value is expired, and does nothing to another.
    /// For a replica's own housekeeping; no client can ask for it.
    Purge,
}

/// A value for a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterWrite {
    /// The media type readers get it with.
    pub content_type: Box<str>,
    /// The value.
    pub bytes: Box<[u8]>,
    /// After how many milliseconds the value expires; `None`: never.
    pub ttl_ms: Option<u64>,
}

/// What an operation knows besides the entries it reads.
#[derive(Clone, Copy, Debug)]
pub struct OperationContext<'a> {
    /// The dot the operation takes, if it takes one.
    pub dot: Dot,
    /// The stamp of a register's new value.
    pub stamp: HybridTimestamp,
    /// This replica's wall time in milliseconds since 1970: decides what is
    /// expired, and from when a TTL counts.
    pub now_ms: u64,
    /// The contexts by which the object's entries are judged here, by disjoint
    /// ranges that together hold every entry; normally one. They cover every dot
    /// that the entries show, those of earlier operations of the batch included,
    /// and not [`Self::dot`].
    pub seen: &'a [(EntryRange, VersionVector)],
    /// The most bytes a register's value may have.
    pub value_bytes_limit: u64,
    /// Whether it costs much to look through the object, however little of it is
    /// live: what earlier removals took still stands between.
    pub is_littered: bool,
    /// How much a removal does at once.
    pub removals: RemovalLimits,
}

/// An operation carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The change; empty if the operation changed nothing and takes no dot.
    pub delta: ObjectDelta,
    /// For the answer.
    pub outcome: Outcome,
}

/// What an operation's answer tells of the object as it is afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A counter's value.
    Counter(i128),
    /// A flag's value.
    Flag(bool),
    /// A register's new version.
    Register(Version),
    /// What a set is like.
    Set {
        /// Whether an element came or went.
        changed: bool,
        /// How many elements it has.
        size: u64,
    },
    /// What a map is like.
    Map {
        /// Whether a field came, went, or changed its value.
        changed: bool,
        /// How many fields it has.
        size: u64,
        /// The outcome of an update for its field.
        field: Option<Box<Outcome>>,
    },
    /// The object was removed.
    Deleted,
    /// Whether a purge found an expired value and removed it.
    Purged(bool),
}

// === impl Operation ===

impl Operation {
    /// The longest name of a map's field, in bytes.
    pub const MAX_FIELD_BYTES: usize = 512;

    /// The name users know the operation by.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Increment { .. } => "increment",
            Self::Decrement { .. } => "decrement",
            Self::Add { .. } => "add",
            Self::Remove { .. } | Self::RemoveField { .. } => "remove",
            Self::Clear => "clear",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Set(_) => "set",
            Self::Update { .. } => "update",
            Self::Delete => "delete",
            Self::Purge => "purge",
        }
    }
}

// === impl Applied ===

impl Applied {
    /// What changes nothing.
    pub(crate) fn unchanged(outcome: Outcome) -> Self {
        Self { delta: ObjectDelta::default(), outcome }
    }
}

// === impl ObjectDelta ===

impl ObjectDelta {
    /// Puts a new existence dot at `place`.
    pub(crate) fn put_existence(&mut self, place: Place<'_>, dot: Dot) {
        let delta = EntryDelta::Dots { added: vec![dot], removed: Vec::new() };
        self.entries.insert(place.key(Part::Existence), delta);
    }
}

/// Carries `operation` out on an object of type `crdt_type`.
///
/// The delta is not joined to anything: the caller applies it to the state,
/// under a context that does not yet cover `context.dot`, and ships it.
///
/// # Errors
///
/// The outer error is what reading `entries` met; nothing is decided yet. The
/// inner one is the [`Refusal`] that the client gets; nothing changes.
pub fn apply<E: Entries + ?Sized>(
    operation: &Operation,
    crdt_type: CrdtType,
    entries: &E,
    context: &OperationContext<'_>,
) -> Result<Result<Applied, Refusal>, E::Error> {
    let work = Work::new(entries, context);
    let done = match operation {
        Operation::Delete => removal::delete(crdt_type, &work),
        Operation::Purge if crdt_type == CrdtType::LWWRegister => lww_register::purge(&work),
        Operation::Update { field, crdt_type: of, operation } if crdt_type == CrdtType::ORMap => {
            or_map::update(field, *of, operation, &work)
        }
        Operation::RemoveField { field } if crdt_type == CrdtType::ORMap => {
            or_map::remove(field, &work)
        }
        Operation::Clear if crdt_type == CrdtType::ORMap => or_map::clear(&work),
        other => apply_at(other, crdt_type, Place::Object, &work),
    };
    match done {
        Ok(applied) => Ok(Ok(applied)),
        Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
        Err(Stop::Read(error)) => Err(error),
    }
}

/// The operations that a map's field knows as well as an object.
pub(crate) fn apply_at<E: Entries + ?Sized>(
    operation: &Operation,
    crdt_type: CrdtType,
    place: Place<'_>,
    work: &Work<'_, E>,
) -> Step<Applied, E> {
    match (crdt_type, operation) {
        (CrdtType::GCounter, Operation::Increment { by }) => g_counter::increment(place, *by, work),
        (CrdtType::PNCounter, Operation::Increment { by }) => {
            pn_counter::increment(place, *by, work)
        }
        (CrdtType::PNCounter, Operation::Decrement { by }) => {
            pn_counter::decrement(place, *by, work)
        }
        (CrdtType::GSet, Operation::Add { elements }) => g_set::add(place, elements, work),
        (CrdtType::ORSet, Operation::Add { elements }) => or_set::add(place, elements, work),
        (CrdtType::ORSet, Operation::Remove { elements }) => or_set::remove(place, elements, work),
        (CrdtType::ORSet, Operation::Clear) => or_set::clear(place, work),
        (CrdtType::EWFlag, Operation::Enable) => ew_flag::enable(place, work),
        (CrdtType::EWFlag, Operation::Disable) => ew_flag::disable(place, work),
        (CrdtType::LWWRegister, Operation::Set(write)) => lww_register::set(place, write, work),
        (crdt_type, operation) => {
            Err(Stop::Refused(Refusal::NotOfThisType { operation: operation.name(), crdt_type }))
        }
    }
}
