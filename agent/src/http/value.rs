//! Objects as JSON: envelopes, and the values inside them.
//!
//! Collections are shown by page. An envelope is
//! `{"key","type","value",…,"etag"}`; beside a collection's `value` stand `size`
//! and, if there is more, `next`; beside a number beyond 2^53 `exact`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coppice_crdt::query::{self, FieldValue, MapField};
use coppice_crdt::{CrdtType, Element, Entries, Header, Version};

use super::body::is_json;
use super::json::JsonBuffer;
use super::problem::{Answer, Problem};
use crate::etag::EtagText;
use crate::query::QueryError;

/// The greatest integer that every JSON reader takes exactly: 2^53.
const MAX_EXACT: u128 = 1 << 53;

/// A page ends early rather than growing past about so many bytes.
pub(crate) const PAGE_BYTES: usize = 4 << 20;

/// An object of a view.
pub(crate) type Object<'a> = dyn Entries<Error = QueryError> + 'a;

/// Which part of a collection is shown.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) after: Option<Cursor>,
    pub(crate) limit: usize,
}

/// Where a page goes on: the last item of the one before, opaque to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor(pub(crate) String);

impl Cursor {
    pub(crate) fn parse(text: &str) -> Answer<Self> {
        let decoded = URL_SAFE_NO_PAD.decode(text).ok();
        let last = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        last.filter(|last| !last.is_empty()).map(Self).ok_or_else(|| {
            Problem::malformed(
                "the parameter \"after\" is not the `next` of a page: pass that unchanged",
            )
        })
    }

    /// Writes the member `next` for a page that ends with `last`.
    pub(crate) fn write_next(json: &mut JsonBuffer, last: &str) {
        json.text("next", &URL_SAFE_NO_PAD.encode(last));
    }
}

impl Default for Window {
    /// The first page of the default length.
    fn default() -> Self {
        Self { after: None, limit: 100 }
    }
}

/// Writes an object's envelope; `false`, and nothing written, if it is absent.
pub(crate) fn write_envelope(
    json: &mut JsonBuffer,
    (key, header): (&str, &Header),
    object: &Object<'_>,
    (window, now_ms): (&Window, u64),
) -> Answer<bool> {
    let register = match header.crdt_type {
        CrdtType::LWWRegister => match query::register(object, now_ms)? {
            Some(version) => Some(version),
            None => return Ok(false),
        },
        _ => None,
    };
    write_head(json, key, header.crdt_type);
    match register {
        Some(version) => {
            json.name("value");
            write_register(json, &version);
        }
        None => write_value(json, header, object, window)?,
    }
    write_tail(json, header);
    Ok(true)
}

/// `{"key":…,"type":…`
pub(crate) fn write_head(json: &mut JsonBuffer, key: &str, crdt_type: CrdtType) {
    json.item();
    json.open(b'{');
    json.text("key", key);
    json.text("type", crdt_type.name());
}

/// `,"etag":…}`
pub(crate) fn write_tail(json: &mut JsonBuffer, header: &Header) {
    json.text("etag", EtagText::new(header.etag).as_str());
    json.close(b'}');
}

/// Writes `value` and what stands beside it, for all types but registers.
pub(crate) fn write_value(
    json: &mut JsonBuffer,
    header: &Header,
    object: &Object<'_>,
    window: &Window,
) -> Answer<()> {
    match header.crdt_type {
        CrdtType::GCounter | CrdtType::PNCounter => {
            write_counter(json, "value", header.summary.sum);
        }
        CrdtType::EWFlag => {
            json.name("value");
            json.bool(header.summary.entries > 0);
        }
        CrdtType::GSet | CrdtType::ORSet => {
            let after = element_after(window)?;
            let page = query::elements(object, after.as_ref(), window.limit)?;
            write_elements(json, page, header.summary.entries);
        }
        CrdtType::ORMap => write_fields(json, header.fields, object, window)?,
        // Written by the caller, who has to know first whether it is expired.
        CrdtType::LWWRegister => {}
    }
    Ok(())
}

/// The element that a page of a set goes on behind.
pub(crate) fn element_after(window: &Window) -> Answer<Option<Element>> {
    let Some(Cursor(last)) = &window.after else { return Ok(None) };
    let element = Element::parse(last.as_bytes()).ok();
    element.map(Some).ok_or_else(|| {
        Problem::malformed(
            "the parameter \"after\" is not the `next` of this set: pass that unchanged",
        )
    })
}

/// Writes the member `name` and, beyond 2^53, `exact`.
pub(crate) fn write_counter(json: &mut JsonBuffer, name: &str, value: i128) {
    json.name(name);
    json.number(value);
    if value.unsigned_abs() > MAX_EXACT {
        json.text("exact", itoa::Buffer::new().format(value));
    }
}

/// Writes a register's value as it stands inside JSON.
pub(crate) fn write_register(json: &mut JsonBuffer, version: &Version) {
    json.open(b'{');
    json.text("contentType", &version.content_type);
    if is_json(&version.content_type) {
        json.name("value");
        json.raw(&version.bytes);
    } else {
        json.text("base64", &STANDARD.encode(&version.bytes));
    }
    json.close(b'}');
}

/// Writes the members `value`, `size` and `next` of a set's page.
pub(crate) fn write_elements(json: &mut JsonBuffer, page: Option<query::Page<Element>>, size: u64) {
    let (items, more) = page.map_or_else(Default::default, |page| (page.items, page.more));
    json.name("value");
    write_array(json, &items);
    json.name("size");
    json.number(size);
    if let Some(last) = items.last().filter(|_| more) {
        Cursor::write_next(json, last.as_str());
    }
}

fn write_array(json: &mut JsonBuffer, elements: &[Element]) {
    json.open(b'[');
    for element in elements {
        json.item();
        json.raw(element.as_bytes());
    }
    json.close(b']');
}

/// Writes the value alone, and answers where its next page begins: `?view=value`.
/// Of all types but registers.
pub(crate) fn write_bare(
    json: &mut JsonBuffer,
    header: &Header,
    object: &Object<'_>,
    window: &Window,
) -> Answer<Option<String>> {
    match header.crdt_type {
        CrdtType::GCounter | CrdtType::PNCounter => json.number(header.summary.sum),
        CrdtType::EWFlag => json.bool(header.summary.entries > 0),
        CrdtType::GSet | CrdtType::ORSet => {
            let page = query::elements(object, element_after(window)?.as_ref(), window.limit)?;
            let (items, more) = page.map_or_else(Default::default, |page| (page.items, page.more));
            write_array(json, &items);
            return Ok(items
                .last()
                .filter(|_| more)
                .map(|last| URL_SAFE_NO_PAD.encode(last.as_str())));
        }
        CrdtType::ORMap => {
            let (page, last) = read_fields(object, window)?;
            json.object(page.values);
            return Ok(last.map(|last| URL_SAFE_NO_PAD.encode(&*last)));
        }
        // Written by the caller, as its bytes.
        CrdtType::LWWRegister => {}
    }
    Ok(None)
}

/// Writes the members `value`, `size`, `exact`, `conflicts`, `partial` and `next`
/// of a map's page.
fn write_fields(
    json: &mut JsonBuffer,
    size: u64,
    object: &Object<'_>,
    window: &Window,
) -> Answer<()> {
    let (page, last) = read_fields(object, window)?;
    page.write(json, size);
    if let Some(last) = last {
        Cursor::write_next(json, &last);
    }
    Ok(())
}

/// A page of a map, and its last field if there are more.
fn read_fields(object: &Object<'_>, window: &Window) -> Answer<(FieldsPage, Option<Box<str>>)> {
    /// Fields loaded at a time: each may hold a set of up to 4 MiB.
    const STEP: usize = 8;
    let mut page = FieldsPage::default();
    let mut last = window.after.as_ref().map(|Cursor(last)| last.clone().into_boxed_str());
    let mut left = window.limit;
    let mut more = true;
    while more && left > 0 && page.values.len() < PAGE_BYTES {
        let step = query::fields(object, last.as_deref(), left.min(STEP))?;
        let (fields, behind) = step.map_or_else(Default::default, |step| (step.items, step.more));
        more = behind;
        for field in fields {
            page.push(&field);
            left -= 1;
            last = Some(field.name);
        }
    }
    Ok((page, last.filter(|_| more)))
}

/// Members of objects that stand side by side, each written field by field.
#[derive(Default)]
struct FieldsPage {
    values: JsonBuffer,
    exact: JsonBuffer,
    conflicts: JsonBuffer,
    /// Sets too large to stand here whole, with their sizes: `?field=` pages them.
    partial: JsonBuffer,
}

impl FieldsPage {
    fn push(&mut self, field: &MapField) {
        self.values.name(&field.name);
        write_field_value(&mut self.values, &field.value);
        match &field.value {
            FieldValue::Counter(value) if value.unsigned_abs() > MAX_EXACT => {
                self.exact.text(&field.name, itoa::Buffer::new().format(*value));
            }
            FieldValue::Set { elements, size } if (elements.len() as u64) < *size => {
                self.partial.name(&field.name);
                self.partial.number(*size);
            }
            _ => {}
        }
        if !field.conflicts.is_empty() {
            self.conflicts.name(&field.name);
            write_types(&mut self.conflicts, &field.conflicts);
        }
    }

    fn write(self, json: &mut JsonBuffer, size: u64) {
        json.name("value");
        json.object(self.values);
        json.name("size");
        json.number(size);
        for (name, members) in
            [("exact", self.exact), ("conflicts", self.conflicts), ("partial", self.partial)]
        {
            if members.len() > 0 {
                json.name(name);
                json.object(members);
            }
        }
    }
}

pub(crate) fn write_types(json: &mut JsonBuffer, types: &[CrdtType]) {
    json.open(b'[');
    for crdt_type in types {
        json.item();
        json.string(crdt_type.name());
    }
    json.close(b']');
}

/// Writes a field's value as it stands inside a map: plain.
pub(crate) fn write_field_value(json: &mut JsonBuffer, value: &FieldValue) {
    match value {
        FieldValue::Counter(value) => json.number(*value),
        FieldValue::Flag(value) => json.bool(*value),
        FieldValue::Register(version) => write_plain_register(json, version),
        FieldValue::Set { elements, .. } => write_array(json, elements),
    }
}

/// Writes a field's register: its JSON. Fields are only ever set to JSON; what
/// else a damaged peer may have put there is shown with its type.
pub(crate) fn write_plain_register(json: &mut JsonBuffer, version: &Version) {
    if is_json(&version.content_type) {
        json.raw(&version.bytes);
    } else {
        write_register(json, version);
    }
}
