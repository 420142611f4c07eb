//! A map whose fields are counters, sets, flags and registers.
//!
//! State: the fields' entries, flattened under (field, type), so that a map is as
//! cheap to change as its field. A field's update is that type's own operation
//! with the field's prefix; a removal takes the entries it saw, so that an update
//! it had not seen survives, and only what that update wrote: a nested counter
//! does not come back with its old amount.
//!
//! Concurrent updates of one name with two types keep both; readers see the type
//! whose name sorts first. A removal takes all of them.
//!
//! Sources: Almeida, Shoker, Baquero, arXiv:1603.01529, section 7 (ORMap over a
//! dot map); Riak's map lets nested removals take what they saw in the same way
//! (Brown, Cribbs, Meiklejohn, Elliott, "Riak DT Map", `PaPEC` workshop 2014).

use crate::operation::{Applied, Operation, Outcome, Place, Step, Stop, Work, apply_at};
use crate::removal::{self, Live};
use crate::{CrdtType, Entries, EntryKey, EntryRange, ObjectDelta, Refusal, Summary};

/// Runs `operation` on the field `name` as a `crdt_type`.
pub(crate) fn update<E: Entries + ?Sized>(
    name: &str,
    crdt_type: CrdtType,
    operation: &Operation,
    work: &Work<'_, E>,
) -> Step<Applied, E> {
    if crdt_type == CrdtType::ORMap {
        return Err(Stop::Refused(Refusal::MapInMap));
    }
    let header = work.header(CrdtType::ORMap)?;
    let field = work.field(name)?;
    let visible = field.visible();
    if let Some((visible, _)) = visible
        && visible != crdt_type
    {
        let field = name.into();
        return Err(Stop::Refused(Refusal::FieldOfAnotherType {
            field,
            visible,
            requested: crdt_type,
        }));
    }
    let place = Place::Field { name, crdt_type };
    let Applied { mut delta, outcome } = apply_at(operation, crdt_type, place, work)?;
    let is_new = visible.is_none() && !delta.is_empty();
    if !delta.is_empty() && !header.summary.existence {
        delta.put_existence(Place::Object, work.dot());
    }
    let changed = is_new || changes_value(&outcome, visible.map(|(_, summary)| summary));
    let size = header.fields.saturating_add(u64::from(is_new));
    let outcome = Outcome::Map { changed, size, field: Some(Box::new(outcome)) };
    Ok(Applied { delta, outcome })
}

/// Removes the field `name`, whatever types it has. Takes no dot if it has none.
pub(crate) fn remove<E: Entries + ?Sized>(name: &str, work: &Work<'_, E>) -> Step<Applied, E> {
    let header = work.header(CrdtType::ORMap)?;
    if !header.exists() {
        return Err(Stop::Refused(Refusal::Absent));
    }
    let field = work.field(name)?;
    if !field.exists() {
        let outcome = Outcome::Map { changed: false, size: header.fields, field: None };
        return Ok(Applied::unchanged(outcome));
    }
    let mut delta = ObjectDelta::default();
    let range = EntryRange::with_prefix(&EntryKey::field_name_prefix(name));
    removal::take_all(&mut delta, &range, Live::of_field(&field), work)?;
    if !header.summary.existence {
        delta.put_existence(Place::Object, work.dot());
    }
    let size = header.fields.saturating_sub(1);
    Ok(Applied { delta, outcome: Outcome::Map { changed: true, size, field: None } })
}

/// Removes every field. Takes no dot if there is none.
pub(crate) fn clear<E: Entries + ?Sized>(work: &Work<'_, E>) -> Step<Applied, E> {
    let header = work.header(CrdtType::ORMap)?;
    if !header.exists() {
        return Err(Stop::Refused(Refusal::Absent));
    }
    let outcome = Outcome::Map { changed: header.summary.entries > 0, size: 0, field: None };
    if header.summary.entries == 0 {
        return Ok(Applied::unchanged(outcome));
    }
    let mut delta = ObjectDelta::default();
    removal::take_all(&mut delta, &EntryRange::fields(), Live::of(&header), work)?;
    if !header.summary.existence {
        delta.put_existence(Place::Object, work.dot());
    }
    Ok(Applied { delta, outcome })
}

/// Whether an operation on a field that was as `before` says changed its value.
fn changes_value(outcome: &Outcome, before: Option<Summary>) -> bool {
    let before = before.unwrap_or_default();
    match outcome {
        Outcome::Counter(value) => *value != before.sum,
        Outcome::Flag(value) => *value != (before.entries > 0),
        Outcome::Set { changed, .. } | Outcome::Map { changed, .. } => *changed,
        Outcome::Register(_) | Outcome::Deleted => true,
        Outcome::Purged(purged) => *purged,
    }
}
