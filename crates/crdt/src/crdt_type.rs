//! The closed set of data types a group or a map field can have.

use std::fmt;
use std::str::FromStr;

/// What every object of a group, or a field of a map, is.
///
/// The discriminant is the byte that stands for the type in frames, records and
/// entry keys; it never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CrdtType {
    /// A counter that only grows.
    GCounter = 1,
    /// A counter that grows and shrinks.
    PNCounter = 2,
    /// A set that only grows (until the object is deleted).
    GSet = 3,
    /// A set in which an add wins over a concurrent remove; no tombstones.
    ORSet = 4,
    /// A flag in which enable wins over a concurrent disable.
    EWFlag = 5,
    /// A register whose readers get the last write.
    LWWRegister = 6,
    /// A map whose fields are counters, sets, flags or registers.
    ORMap = 7,
}

/// The name given is not one of the types this version knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown CRDT type {name:?}: expected one of GCounter, PNCounter, GSet, ORSet, EWFlag, LWWRegister, ORMap"
)]
pub struct UnknownCrdtType {
    /// What was given.
    pub name: String,
}

impl CrdtType {
    /// Every type, in the order of its byte.
    pub const ALL: [Self; 7] = [
        Self::GCounter,
        Self::PNCounter,
        Self::GSet,
        Self::ORSet,
        Self::EWFlag,
        Self::LWWRegister,
        Self::ORMap,
    ];

    /// The name users write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GCounter => "GCounter",
            Self::PNCounter => "PNCounter",
            Self::GSet => "GSet",
            Self::ORSet => "ORSet",
            Self::EWFlag => "EWFlag",
            Self::LWWRegister => "LWWRegister",
            Self::ORMap => "ORMap",
        }
    }

    /// The name with its article, for messages: `a GCounter`, `an ORSet`.
    #[must_use]
    pub const fn with_article(self) -> &'static str {
        match self {
            Self::GCounter => "a GCounter",
            Self::PNCounter => "a PNCounter",
            Self::GSet => "a GSet",
            Self::ORSet => "an ORSet",
            Self::EWFlag => "an EWFlag",
            Self::LWWRegister => "an LWWRegister",
            Self::ORMap => "an ORMap",
        }
    }

    /// The byte that stands for this type in frames, records and entry keys.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The type a byte stands for; `None` for one this version does not know.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.byte() == byte)
    }

    /// Whether objects of this type are counters.
    #[must_use]
    pub const fn is_counter(self) -> bool {
        matches!(self, Self::GCounter | Self::PNCounter)
    }

    /// Whether objects of this type are sets.
    #[must_use]
    pub const fn is_set(self) -> bool {
        matches!(self, Self::GSet | Self::ORSet)
    }
}

impl fmt::Display for CrdtType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CrdtType {
    type Err = UnknownCrdtType;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|known| known.name() == name);
        known.ok_or_else(|| UnknownCrdtType { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bytes_are_read_back() {
        for crdt_type in CrdtType::ALL {
            assert_eq!(crdt_type.to_string().parse(), Ok(crdt_type));
            assert_eq!(CrdtType::from_byte(crdt_type.byte()), Some(crdt_type));
        }
        assert_eq!((CrdtType::from_byte(0), CrdtType::from_byte(8)), (None, None));
        let unknown = "gcounter".parse::<CrdtType>().unwrap_err();
        assert!(CrdtType::ALL.iter().all(|known| unknown.to_string().contains(known.name())));
    }

    #[test]
    fn articles_are_said_as_the_names_are() {
        for crdt_type in CrdtType::ALL {
            let (article, name) = crdt_type.with_article().split_once(' ').unwrap();
            // O, E and L begin with the sound of a vowel when they are spelt.
            let expected = if name.starts_with(['O', 'E', 'L']) { "an" } else { "a" };
            assert_eq!((article, name), (expected, crdt_type.name()));
        }
    }

    #[test]
    fn kinds_of_types() {
        let that = |is: fn(CrdtType) -> bool| {
            CrdtType::ALL.into_iter().filter(|crdt_type| is(*crdt_type)).collect::<Vec<_>>()
        };
        assert_eq!(that(CrdtType::is_counter), [CrdtType::GCounter, CrdtType::PNCounter]);
        assert_eq!(that(CrdtType::is_set), [CrdtType::GSet, CrdtType::ORSet]);
    }
}
