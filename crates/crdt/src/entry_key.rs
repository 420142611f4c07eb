//! The name of one entry inside an object, in an encoding that sorts.
//!
//! State is kept by entry (a counter cell, a set element, a map field's part),
//! so that the cost of an operation does not grow with its object. An entry's
//! name is a byte string: stores keep entries in its order, repair walks them in
//! its order, and collections list in its order, which for elements is the order
//! of their canonical JSON bytes.
//!
//! Layout: `part` for an object's own entries, `0x10 name 0x00 0x01 type part`
//! for a map field's; in `name` a 0x00 stands as 0x00 0xff, so that no name is a
//! prefix of another. A part is a tag byte and what it names: existence 0x01,
//! value 0x02, enabled 0x03, cell 0x04 and 16 bytes of actor, element 0x05 and
//! its canonical JSON.

use std::borrow::Cow;
use std::fmt;

use crate::{ActorId, CrdtType};

const EXISTENCE: u8 = 0x01;
const VALUE: u8 = 0x02;
const ENABLED: u8 = 0x03;
const CELL: u8 = 0x04;
const ELEMENT: u8 = 0x05;
const FIELD: u8 = 0x10;
const ESCAPED_ZERO: u8 = 0xff;
const END_OF_NAME: u8 = 0x01;

/// Which part of an object, or of a map field, an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// That the object or field exists, whatever else it holds.
    Existence,
    /// A register's versions.
    Value,
    /// A flag's enabling dots.
    Enabled,
    /// One actor's cells of a counter.
    Cell(ActorId),
    /// A set's element, as canonical JSON bytes.
    Element(&'a [u8]),
}

/// A field of a map: named by name and type, so that concurrent updates with
/// two types keep both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field's name.
    pub name: Cow<'a, str>,
    /// The type it was updated with.
    pub crdt_type: CrdtType,
}

/// The encoded name of one entry inside an object. Orders as its bytes do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey(Box<[u8]>);

/// Bytes that are no entry's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an entry")]
pub struct MalformedEntryKey;

impl EntryKey {
    /// The longest encoded name: a field of 512 zero bytes and an element of 4 KiB.
    pub const MAX_BYTES: usize = 8 * 1024;

    /// The name of `part` of the object itself.
    #[must_use]
    pub fn of_object(part: Part<'_>) -> Self {
        let mut bytes = Vec::with_capacity(24);
        push_part(&mut bytes, part);
        Self(bytes.into())
    }

    /// The name of `part` of the field `name` as a `crdt_type`.
    #[must_use]
    pub fn of_field(name: &str, crdt_type: CrdtType, part: Part<'_>) -> Self {
        let mut bytes = Self::field_prefix(name, crdt_type);
        push_part(&mut bytes, part);
        Self(bytes.into())
    }

    /// What every element of a set object begins with.
    #[must_use]
    pub const fn elements_prefix() -> [u8; 1] {
        [ELEMENT]
    }

    /// What every entry of every field of a map object begins with.
    #[must_use]
    pub const fn fields_prefix() -> [u8; 1] {
        [FIELD]
    }

    /// What every element of the field `name` as a set of `crdt_type` begins with.
    #[must_use]
    pub fn field_elements_prefix(name: &str, crdt_type: CrdtType) -> Vec<u8> {
        let mut bytes = Self::field_prefix(name, crdt_type);
        bytes.push(ELEMENT);
        bytes
    }

    /// What every entry of the field `name` as a `crdt_type` begins with.
    #[must_use]
    pub fn field_prefix(name: &str, crdt_type: CrdtType) -> Vec<u8> {
        let mut bytes = Self::field_name_prefix(name);
        bytes.push(crdt_type.byte());
        bytes
    }

    /// What every entry of the field `name`, of any type, begins with.
    #[must_use]
    pub fn field_name_prefix(name: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(name.len() + 24);
        bytes.push(FIELD);
        for &byte in name.as_bytes() {
            bytes.push(byte);
            if byte == 0 {
                bytes.push(ESCAPED_ZERO);
            }
        }
        bytes.extend([0, END_OF_NAME]);
        bytes
    }

    /// The name of the field whose entries' names all begin so.
    #[must_use]
    pub fn field_of_prefix(bytes: &[u8]) -> Option<String> {
        // Made whole by a type, so that there is one way to read names.
        let whole = [bytes, &[CrdtType::ORSet.byte()]].concat();
        let (field, _) = split_field(&whole)?;
        Some(field?.name.into_owned())
    }

    /// An entry's name from its encoded bytes, checked to be one.
    ///
    /// # Errors
    ///
    /// [`MalformedEntryKey`] if the bytes are not exactly one name.
    pub fn parse(bytes: &[u8]) -> Result<Self, MalformedEntryKey> {
        let key = Self(bytes.into());
        if bytes.len() > Self::MAX_BYTES {
            return Err(MalformedEntryKey);
        }
        let (_, rest) = split_field(bytes).ok_or(MalformedEntryKey)?;
        parse_part(rest).ok_or(MalformedEntryKey)?;
        Ok(key)
    }

    /// The encoded bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The map field this entry belongs to, if any.
    #[must_use]
    pub fn field(&self) -> Option<Field<'_>> {
        split_field(&self.0).and_then(|(field, _)| field)
    }

    /// The actor whose cells stand under this key, if cells do.
    #[must_use]
    pub fn owner(&self) -> Option<ActorId> {
        match self.part() {
            Part::Cell(actor) => Some(actor),
            _ => None,
        }
    }

    /// Which part of its object or field this entry is.
    #[must_use]
    pub fn part(&self) -> Part<'_> {
        // Every constructor checked that the bytes hold a part.
        split_field(&self.0).and_then(|(_, rest)| parse_part(rest)).unwrap_or(Part::Existence)
    }
}

impl fmt::Debug for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = self.field() {
            write!(f, "{}/{}.", field.name, field.crdt_type)?;
        }
        match self.part() {
            Part::Existence => f.write_str("existence"),
            Part::Value => f.write_str("value"),
            Part::Enabled => f.write_str("enabled"),
            Part::Cell(actor) => write!(f, "cell({actor:?})"),
            Part::Element(json) => f.write_str(&String::from_utf8_lossy(json)),
        }
    }
}

fn push_part(bytes: &mut Vec<u8>, part: Part<'_>) {
    match part {
        Part::Existence => bytes.push(EXISTENCE),
        Part::Value => bytes.push(VALUE),
        Part::Enabled => bytes.push(ENABLED),
        Part::Cell(actor) => {
            bytes.push(CELL);
            bytes.extend(actor.as_bytes());
        }
        Part::Element(json) => {
            bytes.push(ELEMENT);
            bytes.extend(json);
        }
    }
}

fn parse_part(bytes: &[u8]) -> Option<Part<'_>> {
    let (&tag, rest) = bytes.split_first()?;
    match tag {
        EXISTENCE => rest.is_empty().then_some(Part::Existence),
        VALUE => rest.is_empty().then_some(Part::Value),
        ENABLED => rest.is_empty().then_some(Part::Enabled),
        CELL => Some(Part::Cell(ActorId::from_bytes(rest.try_into().ok()?))),
        ELEMENT => (!rest.is_empty()).then_some(Part::Element(rest)),
        _ => None,
    }
}

/// The field that `bytes` begin with, if any, and the part behind it.
fn split_field(bytes: &[u8]) -> Option<(Option<Field<'_>>, &[u8])> {
    let Some(named) = bytes.strip_prefix(&[FIELD]) else {
        return Some((None, bytes));
    };
    let mut name = Cow::Borrowed(&[] as &[u8]);
    let mut at = 0;
    loop {
        let zero = at + named.get(at..)?.iter().position(|&byte| byte == 0)?;
        match *named.get(zero + 1)? {
            END_OF_NAME => {
                extend(&mut name, &named[at..zero]);
                at = zero + 2;
                break;
            }
            ESCAPED_ZERO => {
                extend(&mut name, &named[at..=zero]);
                name.to_mut(); // From here on the name is not one piece of `bytes`.
                at = zero + 2;
            }
            _ => return None,
        }
    }
    let crdt_type = CrdtType::from_byte(*named.get(at)?)?;
    let name = match name {
        Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).ok()?),
    };
    Some((Some(Field { name, crdt_type }), &named[at + 1..]))
}

fn extend<'a>(name: &mut Cow<'a, [u8]>, piece: &'a [u8]) {
    if name.is_empty() {
        *name = Cow::Borrowed(piece);
    } else {
        name.to_mut().extend(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_their_encoding() {
        let actor = ActorId::from_bytes([7; 16]);
        let parts = [
            Part::Existence,
            Part::Value,
            Part::Enabled,
            Part::Cell(actor),
            Part::Element(b"\"x\""),
        ];
        for part in parts {
            let own = EntryKey::of_object(part);
            assert_eq!(EntryKey::parse(own.as_bytes()), Ok(own.clone()));
            assert_eq!((own.field(), own.part()), (None, part));

            for name in ["likes", "", "a\0b", "\0", "\0\0", "a\0"] {
                let key = EntryKey::of_field(name, CrdtType::ORSet, part);
                assert_eq!(EntryKey::parse(key.as_bytes()), Ok(key.clone()));
                let field = key.field().map(|field| (field.name.into_owned(), field.crdt_type));
                assert_eq!(field, Some((name.to_owned(), CrdtType::ORSet)));
                assert_eq!(key.part(), part);
            }
        }
    }

    #[test]
    fn fields_sort_by_name_then_type_whatever_bytes_they_hold() {
        let names = ["", "\0", "\0a", "a", "a\0", "a\0b", "aa", "b"];
        let keys: Vec<EntryKey> = names
            .iter()
            .flat_map(|name| {
                [CrdtType::GCounter, CrdtType::ORSet]
                    .map(|crdt_type| EntryKey::of_field(name, crdt_type, Part::Existence))
            })
            .collect();
        assert!(keys.is_sorted(), "entries of one field must stand together, in name order");
    }

    #[test]
    fn bytes_that_name_no_entry_are_refused() {
        let cases: [&[u8]; 9] = [
            b"",
            b"\x00",
            b"\x06",
            b"\x01x",
            b"\x04short",
            b"\x05",
            b"\x10name",
            b"\x10a\x00\x02",
            b"\x10\xff\x00\x01\x01\x01",
        ];
        for bytes in cases {
            assert_eq!(EntryKey::parse(bytes), Err(MalformedEntryKey), "{bytes:?}");
        }
    }

    #[test]
    fn the_longest_name_is_one_and_a_longer_one_is_not() {
        let element = vec![b'1'; crate::Element::MAX_BYTES];
        let longest =
            EntryKey::of_field(&"\0".repeat(512), CrdtType::ORSet, Part::Element(&element));
        assert_eq!(EntryKey::parse(longest.as_bytes()), Ok(longest.clone()));
        let mut bytes = longest.as_bytes().to_vec();
        bytes.resize(EntryKey::MAX_BYTES, b'1');
        assert!(EntryKey::parse(&bytes).is_ok(), "its length is the limit");
        bytes.push(b'1');
        assert_eq!(EntryKey::parse(&bytes), Err(MalformedEntryKey));
    }

    #[test]
    fn traces_show_field_type_and_part() {
        let shown = |part| format!("{:?}", EntryKey::of_object(part));
        assert_eq!(shown(Part::Existence), "existence");
        assert_eq!(shown(Part::Value), "value");
        assert_eq!(shown(Part::Enabled), "enabled");
        assert_eq!(shown(Part::Element(b"[1]")), "[1]");
        assert_eq!(shown(Part::Cell(ActorId::from_bytes([0xa7; 16]))), "cell(a7a7a7a7)");
        let of_field = EntryKey::of_field("likes", CrdtType::ORSet, Part::Element(b"[1]"));
        assert_eq!(format!("{of_field:?}"), "likes/ORSet.[1]");
    }
}
