//! What the records of a store in memory hold, as queries, sweeps and repairs
//! read it.

use std::collections::BTreeMap;

use coppice_crdt::{Entry, EntryKey, EntryRange, RangeRemoval};

use crate::record::{FieldRecord, ObjectRecord, Position, RecordKey, decode_entry};
use crate::unit::ObjectKey;
use crate::working_set::EntryPage;

/// All that a store holds.
pub(super) type Records = BTreeMap<RecordKey, Vec<u8>>;

/// Entries of a store, in the order in which repair walks them.
pub(super) type Listed = Vec<(ObjectKey, EntryKey, Entry)>;

/// Records of an object as they are stored.
pub(super) fn stored_page(
    records: &Records,
    id: &crate::ObjectId,
    range: EntryRange,
    limit: usize,
) -> EntryPage {
    let mut page = EntryPage {
        key: id.key.clone(),
        range,
        entries: Vec::new(),
        fields: Vec::new(),
        more: false,
    };
    for (record, bytes) in records {
        match record {
            RecordKey::Entry(of, name) if of == id && page.range.contains(name.as_bytes()) => {
                if page.entries.len() == limit {
                    page.more = true;
                    continue;
                }
                page.entries.push((name.clone(), decode_entry(bytes).unwrap()));
            }
            RecordKey::Field(of, name) if of == id => {
                let at = EntryKey::field_name_prefix(name);
                if page.range.contains(&at) {
                    let generation = FieldRecord::decode(bytes).unwrap().generation;
                    page.fields.push((name.clone(), generation));
                }
            }
            _ => {}
        }
    }
    page
}

/// The state as it stands in records, in order.
pub(super) fn entries(records: &Records) -> Listed {
    let mut listed = Listed::new();
    for (key, bytes) in records {
        match key {
            RecordKey::Object(id) => {
                let record = ObjectRecord::decode(bytes).unwrap();
                let inline = record.inline.unwrap_or_default();
                listed
                    .extend(inline.into_iter().map(|(name, entry)| (id.key.clone(), name, entry)));
            }
            RecordKey::Entry(id, name) => {
                listed.push((id.key.clone(), name.clone(), decode_entry(bytes).unwrap()));
            }
            _ => {}
        }
    }
    listed.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let hidden = |key: &ObjectKey| {
        records.iter().find_map(|(record, bytes)| match record {
            RecordKey::Object(id) if id.key == *key => {
                Some(ObjectRecord::decode(bytes).unwrap().hidden)
            }
            _ => None,
        })
    };
    let mut of: Option<(ObjectKey, Vec<RangeRemoval>)> = None;
    let visible = listed.into_iter().filter_map(|(key, name, entry)| {
        if of.as_ref().is_none_or(|(known, _)| *known != key) {
            of = Some((key.clone(), hidden(&key).unwrap_or_default()));
        }
        let mut hidden = of.iter().flat_map(|(_, hidden)| hidden);
        let left = hidden.try_fold(entry, |left, removal| removal.survivors(&name, left))?;
        Some((key, name, left))
    });
    visible.collect()
}

/// At most `limit` entries of a range between two places, and where it stopped.
pub(super) fn page(
    records: &Records,
    set: &crate::WorkingSet,
    range: u8,
    (from, to): (Option<&Position>, Option<&Position>),
    limit: usize,
) -> (Listed, Option<Position>) {
    let place = |key: &ObjectKey, name: &EntryKey| Position {
        key: key.clone(),
        entry: name.as_bytes().into(),
    };
    let mut within: Listed = entries(records)
        .into_iter()
        .filter(|(key, name, _)| {
            let place = place(key, name);
            set.range_of(key) == range
                && from.is_none_or(|from| *from <= place)
                && to.is_none_or(|to| place < *to)
        })
        .collect();
    let reached = within.get(limit).map(|(key, name, _)| place(key, name));
    within.truncate(limit);
    (within, reached)
}
