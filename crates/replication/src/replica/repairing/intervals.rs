//! A range cut into intervals, each with what was merged there beyond the
//! group's vector.
//!
//! Only contexts that differ make intervals, and only repairs that were given up
//! half-way leave them. A list has [`MAX_INTERVALS`] at most. It cannot be
//! shortened by giving up what a context says, for what was removed meanwhile
//! has left nothing but the context. So what would make it too long is credited
//! with less than its source had seen:
//!
//! - with the context of the interval before it and no more, if that covers what
//!   was seen here and the source covers the rest of it. The list stays as long
//!   as it is, and what the source holds beyond is left out;
//! - else with nothing: the place is left for another source, or for this one
//!   when it comes by again and the list is shorter.
//!
//! Invariant: a full list holds two neighbours of which the first covers the
//! second; a last interval that would break this is not made. So a source that
//! has seen all that was merged in the range always finishes it: on its first way
//! through it extends such an interval over its neighbour, which makes the list
//! shorter by one, and with room for one more interval it credits each part
//! whole. `tests/model_repair.rs` checks what is credited; the tests beside this
//! file check that it ends.

use coppice_crdt::{EntryRange, VersionVector};

use super::Place;
use crate::record::{Intervals, MAX_INTERVALS, Position};
use crate::unit::ObjectKey;

/// Between two places; `None`: from the start, to the end of the range.
pub(super) type Bounds<'a> = (Option<&'a Position>, Option<&'a Position>);

/// A range that no repair has reached.
pub(super) fn untouched() -> Intervals {
    vec![(None, VersionVector::new())]
}

/// Joins what a source had seen between two places, which lie in one interval, as
/// far as the list allows.
///
/// Returns what was joined: nothing that the source holds beyond it may enter.
/// `None` if that is nothing; the list is as it was then.
pub(super) fn credit(
    intervals: &mut Intervals,
    bounds: Bounds<'_>,
    vector: &VersionVector,
    group: &VersionVector,
) -> Option<VersionVector> {
    let mut whole = intervals.clone();
    join_between(&mut whole, bounds, vector);
    shorten(&mut whole, group);
    if has_room(&whole) {
        *intervals = whole;
        return Some(vector.clone());
    }
    let at = intervals.iter().skip(1).zip(intervals.iter());
    let mut neighbours = at.filter(|(_, before)| before.0.as_ref() == bounds.0);
    let ((_, here), (_, before)) = neighbours.next()?;
    let here = joined(here, group);
    let before = joined(before, group);
    if !here.is_covered_by(&before) || !before.is_covered_by(&joined(&here, vector)) {
        return None;
    }
    join_between(intervals, bounds, &before);
    shorten(intervals, group);
    Some(before)
}

/// Whether the list may be as it is: see the invariant.
fn has_room(intervals: &Intervals) -> bool {
    let extends = || intervals.windows(2).any(|pair| pair[1].1.is_covered_by(&pair[0].1));
    intervals.len() < MAX_INTERVALS || (intervals.len() == MAX_INTERVALS && extends())
}

/// What was seen at a place (`None`: the start of the range), and where the
/// interval ends that holds it.
pub(super) fn seen_at(
    intervals: &[(Option<Position>, VersionVector)],
    place: Option<&Position>,
    group: &VersionVector,
) -> (VersionVector, Option<Position>) {
    let holds = |end: &Position| place.is_none_or(|place| place < end);
    match intervals.iter().find(|(end, _)| end.as_ref().is_none_or(holds)) {
        Some((end, context)) => (joined(context, group), end.clone()),
        None => (group.clone(), None),
    }
}

/// The first place of a range from `from` on where less than `wanted` was seen.
pub(super) fn first_lacking(
    intervals: &[(Option<Position>, VersionVector)],
    (range, from): (u8, Option<&Position>),
    (wanted, group): (&VersionVector, &VersionVector),
) -> Option<Place> {
    let mut start = None;
    for (end, context) in intervals {
        let behind = end.as_ref().is_none_or(|end| from.is_none_or(|from| from < end));
        if behind && !wanted.is_covered_by(&joined(context, group)) {
            return Some((range, start.max(from).cloned()));
        }
        start = end.as_ref();
    }
    None
}

fn joined(a: &VersionVector, b: &VersionVector) -> VersionVector {
    let mut joined = a.clone();
    joined.join(b);
    joined
}

/// Makes `place` a border between two intervals.
fn split_at(intervals: &mut Intervals, place: Option<&Position>) {
    let Some(place) = place else { return };
    let inside = |end: &Option<Position>| end.as_ref().is_none_or(|end| end > place);
    let Some(at) = intervals.iter().position(|(end, _)| inside(end)) else { return };
    let starts_here = at > 0 && intervals[at - 1].0.as_ref() == Some(place);
    if !starts_here {
        let context = intervals[at].1.clone();
        intervals.insert(at, (Some(place.clone()), context));
    }
}

/// Joins `vector` to the context of what lies between two places.
fn join_between(intervals: &mut Intervals, (from, to): Bounds<'_>, vector: &VersionVector) {
    split_at(intervals, from);
    split_at(intervals, to);
    let mut start: Option<Position> = None;
    for (end, context) in intervals.iter_mut() {
        let begins = from.is_none_or(|from| start.as_ref().is_some_and(|start| start >= from));
        let ends = match (to, end.as_ref()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(to), Some(end)) => end <= to,
        };
        if begins && ends {
            context.join(vector);
        }
        start.clone_from(end);
    }
}

/// Leaves out what the group's vector says, and joins neighbours that are equal.
fn shorten(intervals: &mut Intervals, group: &VersionVector) {
    for (_, context) in intervals.iter_mut() {
        *context = context.iter().filter(|(actor, n)| *n > group.get(actor)).collect();
    }
    intervals.dedup_by(|next, kept| {
        let same = next.1 == kept.1;
        if same {
            kept.0 = next.0.take();
        }
        same
    });
}

/// What was seen where each entry of `key` stands: `group`, and what intervals add.
pub(super) fn contexts_of(
    intervals: &[(Option<Position>, VersionVector)],
    key: &ObjectKey,
    group: &VersionVector,
) -> Vec<(EntryRange, VersionVector)> {
    let mut seen = Vec::new();
    let mut from: Box<[u8]> = Box::default();
    for (end, context) in intervals {
        let to = match end {
            Some(end) if end.key < *key => continue,
            Some(end) if end.key == *key => Some(end.entry.clone()),
            _ => None,
        };
        if to.as_ref().is_some_and(|to| *to <= from) {
            continue;
        }
        seen.push((EntryRange { from, to: to.clone() }, joined(context, group)));
        match to {
            Some(to) => from = to,
            None => return seen,
        }
    }
    seen.push((EntryRange { from, to: None }, group.clone()));
    seen
}

#[cfg(test)]
mod tests;
