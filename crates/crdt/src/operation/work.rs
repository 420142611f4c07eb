//! What every type's operations work with: where, on what, and how they stop.

use crate::{
    CrdtType, Dot, Entries, Entry, EntryKey, EntryRange, Header, OperationContext, Part, Refusal,
    Summary,
};

/// Where an operation works: on the object, or on a field of a map.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// The object itself.
    Object,
    /// A map's field as a `crdt_type`.
    Field { name: &'a str, crdt_type: CrdtType },
}

/// Why an operation ended early.
pub(crate) enum Stop<E> {
    /// The client is refused.
    Refused(Refusal),
    /// Something could not be read.
    Read(E),
}

/// What a step of an operation over `E` gives.
pub(crate) type Step<T, E> = Result<T, Stop<<E as Entries>::Error>>;

/// What an operation reads and knows.
pub(crate) struct Work<'a, E: ?Sized> {
    entries: &'a E,
    pub(crate) context: &'a OperationContext<'a>,
}

// === impl Place ===

impl Place<'_> {
    /// The key of `part` here.
    pub(crate) fn key(self, part: Part<'_>) -> EntryKey {
        match self {
            Self::Object => EntryKey::of_object(part),
            Self::Field { name, crdt_type } => EntryKey::of_field(name, crdt_type, part),
        }
    }

    /// Every element of the set here.
    pub(crate) fn elements(self) -> EntryRange {
        match self {
            Self::Object => EntryRange::elements(),
            Self::Field { name, crdt_type } => {
                EntryRange::with_prefix(&EntryKey::field_elements_prefix(name, crdt_type))
            }
        }
    }

    /// The refusal of an operation that needs something to be here.
    pub(crate) fn absent(self) -> Refusal {
        match self {
            Self::Object => Refusal::Absent,
            Self::Field { name, .. } => Refusal::FieldAbsent { field: name.into() },
        }
    }
}

// === impl Work ===

impl<'a, E: Entries + ?Sized> Work<'a, E> {
    pub(crate) fn new(entries: &'a E, context: &'a OperationContext<'a>) -> Self {
        Self { entries, context }
    }

    /// The dot the operation takes, if it takes one.
    pub(crate) fn dot(&self) -> Dot {
        self.context.dot
    }

    /// The object's header, an empty one for an object that was never here.
    pub(crate) fn header(&self, crdt_type: CrdtType) -> Step<Header, E> {
        let header = self.entries.header().map_err(Stop::Read)?;
        Ok(header.unwrap_or_else(|| Header::new(crdt_type)))
    }

    /// The header of the map field `name`.
    pub(crate) fn field(&self, name: &str) -> Step<crate::FieldHeader, E> {
        self.entries.field(name).map_err(Stop::Read)
    }

    /// The figures of what is at `place`.
    pub(crate) fn summary(&self, place: Place<'_>) -> Step<Summary, E> {
        match place {
            Place::Object => {
                let header = self.entries.header().map_err(Stop::Read)?;
                Ok(header.map_or_else(Summary::default, |header| header.summary))
            }
            Place::Field { name, crdt_type } => Ok(self.field(name)?.summary(crdt_type)),
        }
    }

    /// What stands under `key`.
    pub(crate) fn entry(&self, key: &EntryKey) -> Step<Option<Entry>, E> {
        self.entries.entry(key).map_err(Stop::Read)
    }

    /// The dots under `key`; none if what stands there has another shape.
    pub(crate) fn dots(&self, key: &EntryKey) -> Step<Vec<Dot>, E> {
        match self.entry(key)? {
            Some(Entry::Dots(dots)) => Ok(dots),
            _ => Ok(Vec::new()),
        }
    }

    /// One page of the entries in `range`.
    pub(crate) fn scan(
        &self,
        range: &EntryRange,
        after: Option<&EntryKey>,
        limit: usize,
    ) -> Step<Vec<(EntryKey, Entry)>, E> {
        self.entries.scan(range, after, limit).map_err(Stop::Read)
    }
}
