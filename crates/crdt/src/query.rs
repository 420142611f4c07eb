//! What readers see of an object.
//!
//! Everything here reads through [`Entries`] and costs what it returns, not what
//! the object holds: figures come from headers, collections by page. Absent
//! objects give `None`; a register whose value is expired is absent.
//!
//! Pure: the caller passes the wall time.

use crate::json::write_string;
use crate::{
    CrdtType, Element, Entries, Entry, EntryKey, EntryRange, FieldHeader, Header, Part, Summary,
    Version, picked,
};

/// The most elements shown of a set that is a map's field.
pub const MAX_FIELD_ELEMENTS: usize = 1_000;

/// Some items of a collection, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// A field of a map, as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapField {
    /// Its name.
    pub name: Box<str>,
    /// The type readers see.
    pub crdt_type: CrdtType,
    /// Its value.
    pub value: FieldValue,
    /// The other types that concurrent updates gave it, by type; mostly none.
    pub conflicts: Vec<CrdtType>,
}

/// The value of a map's field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// Of a counter.
    Counter(i128),
    /// Of a flag.
    Flag(bool),
    /// Of a register.
    Register(Version),
    /// Of a set.
    Set {
        /// Its first elements, at most [`MAX_FIELD_ELEMENTS`].
        elements: Vec<Element>,
        /// How many elements it has.
        size: u64,
    },
}

/// Whether readers see the object at `now_ms`.
///
/// # Errors
///
/// What reading `entries` met.
pub fn exists<E: Entries + ?Sized>(entries: &E, now_ms: u64) -> Result<bool, E::Error> {
    match visible(entries)? {
        Some(header) if header.crdt_type == CrdtType::LWWRegister => {
            Ok(register(entries, now_ms)?.is_some())
        }
        Some(_) => Ok(true),
        None => Ok(false),
    }
}

/// A counter's value.
///
/// # Errors
///
/// What reading `entries` met.
pub fn counter<E: Entries + ?Sized>(entries: &E) -> Result<Option<i128>, E::Error> {
    Ok(visible(entries)?.map(|header| header.summary.sum))
}

/// A flag's value.
///
/// # Errors
///
/// What reading `entries` met.
pub fn flag<E: Entries + ?Sized>(entries: &E) -> Result<Option<bool>, E::Error> {
    Ok(visible(entries)?.map(|header| header.summary.entries > 0))
}

/// The version of a register that readers get at `now_ms`.
///
/// # Errors
///
/// What reading `entries` met.
pub fn register<E: Entries + ?Sized>(
    entries: &E,
    now_ms: u64,
) -> Result<Option<Version>, E::Error> {
    let version = value_at(entries, &EntryKey::of_object(Part::Value))?;
    Ok(version.filter(|version| !version.is_expired(now_ms)))
}

/// How many elements a set, or fields a map, has.
///
/// # Errors
///
/// What reading `entries` met.
pub fn size<E: Entries + ?Sized>(entries: &E) -> Result<Option<u64>, E::Error> {
    Ok(visible(entries)?.map(|header| match header.crdt_type {
        CrdtType::ORMap => header.fields,
        _ => header.summary.entries,
    }))
}

/// Whether `element` is in the set.
///
/// # Errors
///
/// What reading `entries` met.
pub fn contains<E: Entries + ?Sized>(
    entries: &E,
    element: &Element,
) -> Result<Option<bool>, E::Error> {
    if visible(entries)?.is_none() {
        return Ok(None);
    }
    let entry = entries.entry(&EntryKey::of_object(Part::Element(element.as_bytes())))?;
    Ok(Some(entry.is_some_and(|entry| entry.is_live())))
}

/// The first `limit` elements of the set behind `after`, in canonical order.
///
/// # Errors
///
/// What reading `entries` met.
pub fn elements<E: Entries + ?Sized>(
    entries: &E,
    after: Option<&Element>,
    limit: usize,
) -> Result<Option<Page<Element>>, E::Error> {
    let Some(header) = visible(entries)? else { return Ok(None) };
    if header.summary.entries == 0 {
        // What was removed just now may still stand there, to be swept.
        return Ok(Some(Page { items: Vec::new(), more: false }));
    }
    let after = after.map(|element| EntryKey::of_object(Part::Element(element.as_bytes())));
    elements_in(entries, &EntryRange::elements(), after.as_ref(), limit).map(Some)
}

/// The first `limit` elements behind `after` of the set that readers see in the
/// map's field `name`; `None` if they see no set there.
///
/// # Errors
///
/// What reading `entries` met.
pub fn field_elements<E: Entries + ?Sized>(
    entries: &E,
    name: &str,
    after: Option<&Element>,
    limit: usize,
) -> Result<Option<Page<Element>>, E::Error> {
    let Some((crdt_type, _)) = entries.field(name)?.visible() else { return Ok(None) };
    if !crdt_type.is_set() {
        return Ok(None);
    }
    let after =
        after.map(|element| EntryKey::of_field(name, crdt_type, Part::Element(element.as_bytes())));
    let range = EntryRange::with_prefix(&EntryKey::field_elements_prefix(name, crdt_type));
    elements_in(entries, &range, after.as_ref(), limit).map(Some)
}

/// The field `name` of a map.
///
/// # Errors
///
/// What reading `entries` met.
pub fn field<E: Entries + ?Sized>(entries: &E, name: &str) -> Result<Option<MapField>, E::Error> {
    let header = entries.field(name)?;
    map_field(entries, name, &header)
}

/// The first `limit` fields of the map behind the name `after`, by the bytes of
/// their names.
///
/// # Errors
///
/// What reading `entries` met.
pub fn fields<E: Entries + ?Sized>(
    entries: &E,
    after: Option<&str>,
    limit: usize,
) -> Result<Option<Page<MapField>>, E::Error> {
    let Some(header) = visible(entries)? else { return Ok(None) };
    if header.fields == 0 {
        return Ok(Some(Page { items: Vec::new(), more: false }));
    }
    let mut rest = EntryRange::fields();
    if let Some(after) = after {
        skip_field(&mut rest, after);
    }
    let mut items = Vec::new();
    while let Some((name, header)) = next_field(entries, &mut rest)? {
        if items.len() == limit {
            return Ok(Some(Page { items, more: true }));
        }
        items.extend(map_field(entries, &name, &header)?);
    }
    Ok(Some(Page { items, more: false }))
}

fn visible<E: Entries + ?Sized>(entries: &E) -> Result<Option<Header>, E::Error> {
    Ok(entries.header()?.filter(Header::exists))
}

fn value_at<E: Entries + ?Sized>(entries: &E, key: &EntryKey) -> Result<Option<Version>, E::Error> {
    match entries.entry(key)? {
        Some(Entry::Versions(versions)) => Ok(picked(&versions).cloned()),
        _ => Ok(None),
    }
}

fn elements_in<E: Entries + ?Sized>(
    entries: &E,
    range: &EntryRange,
    after: Option<&EntryKey>,
    limit: usize,
) -> Result<Page<Element>, E::Error> {
    let mut found = entries.scan(range, after, limit.saturating_add(1))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let items = found.iter().filter(|(_, entry)| entry.is_live());
    let items = items.filter_map(|(key, _)| match key.part() {
        Part::Element(json) => Some(Element::from_key(json)),
        _ => None,
    });
    Ok(Page { items: items.collect(), more })
}

/// Makes `rest` begin behind all entries of the field `name`.
fn skip_field(rest: &mut EntryRange, name: &str) {
    let field = EntryRange::with_prefix(&EntryKey::field_name_prefix(name));
    rest.from = field.to.unwrap_or_else(|| rest.from.clone());
}

/// The first field in `rest` that readers see; `rest` then begins behind it.
fn next_field<E: Entries + ?Sized>(
    entries: &E,
    rest: &mut EntryRange,
) -> Result<Option<(String, FieldHeader)>, E::Error> {
    while let Some((key, _)) = entries.scan(rest, None, 1)?.into_iter().next() {
        let Some(field) = key.field() else { break };
        skip_field(rest, &field.name);
        let header = entries.field(&field.name)?;
        if header.exists() {
            return Ok(Some((field.name.into_owned(), header)));
        }
    }
    Ok(None)
}

fn map_field<E: Entries + ?Sized>(
    entries: &E,
    name: &str,
    header: &FieldHeader,
) -> Result<Option<MapField>, E::Error> {
    let Some((crdt_type, summary)) = header.visible() else { return Ok(None) };
    let Some(value) = field_value(entries, name, (crdt_type, summary))? else { return Ok(None) };
    let existing = header.types.iter().filter(|of| of.summary.exists());
    let others = existing.map(|of| of.crdt_type).filter(|other| *other != crdt_type);
    Ok(Some(MapField { name: name.into(), crdt_type, value, conflicts: others.collect() }))
}

fn field_value<E: Entries + ?Sized>(
    entries: &E,
    name: &str,
    (crdt_type, summary): (CrdtType, Summary),
) -> Result<Option<FieldValue>, E::Error> {
    Ok(match crdt_type {
        CrdtType::GCounter | CrdtType::PNCounter => Some(FieldValue::Counter(summary.sum)),
        CrdtType::EWFlag => Some(FieldValue::Flag(summary.entries > 0)),
        CrdtType::LWWRegister => {
            let key = EntryKey::of_field(name, crdt_type, Part::Value);
            value_at(entries, &key)?.map(FieldValue::Register)
        }
        CrdtType::GSet | CrdtType::ORSet => {
            let range = EntryRange::with_prefix(&EntryKey::field_elements_prefix(name, crdt_type));
            let page = elements_in(entries, &range, None, MAX_FIELD_ELEMENTS)?;
            Some(FieldValue::Set { elements: page.items, size: summary.entries })
        }
        CrdtType::ORMap => None,
    })
}

// === impl FieldValue ===

impl FieldValue {
    /// Writes the value as JSON, as it stands inside a map's value: a counter as a
    /// number however large, a set as the array of the elements held here, a
    /// register as the JSON it was set to.
    pub fn write_json(&self, text: &mut String) {
        match self {
            Self::Counter(value) => text.push_str(&value.to_string()),
            Self::Flag(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Register(version) => {
                let value = String::from_utf8_lossy(&version.bytes);
                if &*version.content_type == "application/json" {
                    text.push_str(&value);
                } else {
                    write_string(text, &value);
                }
            }
            Self::Set { elements, .. } => {
                text.push('[');
                for (at, element) in elements.iter().enumerate() {
                    if at > 0 {
                        text.push(',');
                    }
                    text.push_str(element.as_str());
                }
                text.push(']');
            }
        }
    }
}
