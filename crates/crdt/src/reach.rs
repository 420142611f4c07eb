//! How far a large removal reaches.
//!
//! The ranges that removals make are few: a whole object, what is in it, one
//! field of a map, or the elements of one. Others are no removal's, and a peer
//! that sends one is damaged: figures of an object, or of a field, can be kept
//! right only if a removal takes all of it.

use crate::{CrdtType, EntryKey, EntryRange};

/// What a large removal takes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Everything in the object, perhaps but its existence.
    Object,
    /// One field of a map, whatever types it has.
    Field(String),
    /// The elements of one field of a map, as a set of that type.
    Elements(String, CrdtType),
}

impl Reach {
    /// How far a removal of `range` reaches in an object of `crdt_type`; `None`
    /// if no removal has that range.
    #[must_use]
    pub fn of(range: &EntryRange, crdt_type: CrdtType) -> Option<Self> {
        let inside = match crdt_type {
            CrdtType::ORMap => EntryRange::fields(),
            _ => EntryRange::elements(),
        };
        if *range == EntryRange::all() || *range == inside {
            return Some(Self::Object);
        }
        if crdt_type != CrdtType::ORMap {
            return None;
        }
        let name = EntryKey::field_of_prefix(&range.from)?;
        let is = |prefix: &[u8]| *range == EntryRange::with_prefix(prefix);
        if is(&EntryKey::field_name_prefix(&name)) {
            return Some(Self::Field(name));
        }
        let sets = [CrdtType::GSet, CrdtType::ORSet];
        let of = sets.into_iter().find(|of| is(&EntryKey::field_elements_prefix(&name, *of)));
        of.map(|of| Self::Elements(name, of))
    }

    /// The field it reaches; `None`: all of the object.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Object => None,
            Self::Field(name) | Self::Elements(name, _) => Some(name),
        }
    }

    /// All that stands together with what the removal takes: every element of a
    /// set, every field of a map, every entry of a field.
    #[must_use]
    pub fn range(&self, crdt_type: CrdtType) -> EntryRange {
        match self.field() {
            Some(name) => EntryRange::with_prefix(&EntryKey::field_name_prefix(name)),
            None if crdt_type == CrdtType::ORMap => EntryRange::fields(),
            None => EntryRange::elements(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_that_removals_make_are_known() {
        let prefix = |bytes: &[u8]| EntryRange::with_prefix(bytes);
        for crdt_type in [CrdtType::ORSet, CrdtType::ORMap] {
            assert_eq!(Reach::of(&EntryRange::all(), crdt_type), Some(Reach::Object));
        }
        assert_eq!(Reach::of(&EntryRange::elements(), CrdtType::ORSet), Some(Reach::Object));
        assert_eq!(Reach::of(&EntryRange::fields(), CrdtType::ORMap), Some(Reach::Object));
        for name in ["", "f", "a\0b", "\0"] {
            let field = Some(Reach::Field(name.to_owned()));
            let whole = prefix(&EntryKey::field_name_prefix(name));
            let elements = prefix(&EntryKey::field_elements_prefix(name, CrdtType::ORSet));
            assert_eq!(Reach::of(&whole, CrdtType::ORMap), field, "{name:?}");
            let of_set = Some(Reach::Elements(name.to_owned(), CrdtType::ORSet));
            assert_eq!(Reach::of(&elements, CrdtType::ORMap), of_set, "{name:?}");
            assert_eq!(Reach::of(&whole, CrdtType::ORSet), None, "a set has no fields");
        }
        let others = [
            EntryRange { from: Box::default(), to: Some(b"\x05m".as_slice().into()) },
            EntryRange { from: b"\x10f".as_slice().into(), to: None },
            prefix(b"\x10f"),
            prefix(&EntryKey::field_prefix("f", CrdtType::ORSet)),
            prefix(&EntryKey::field_elements_prefix("f", CrdtType::EWFlag)),
        ];
        for range in others {
            assert_eq!(Reach::of(&range, CrdtType::ORMap), None, "{range:?}");
        }
    }

    #[test]
    fn a_removal_lies_within_all_that_stands_together_with_it() {
        let of_field = EntryRange::with_prefix(&EntryKey::field_name_prefix("f"));
        let field = Reach::Field("f".into());
        let elements = Reach::Elements("f".into(), CrdtType::ORSet);
        for reach in [field, elements] {
            assert_eq!(reach.field(), Some("f"));
            assert_eq!(reach.range(CrdtType::ORMap), of_field);
        }
        assert_eq!(Reach::Object.field(), None);
        assert_eq!(Reach::Object.range(CrdtType::ORMap), EntryRange::fields());
        assert_eq!(Reach::Object.range(CrdtType::ORSet), EntryRange::elements());
    }
}
