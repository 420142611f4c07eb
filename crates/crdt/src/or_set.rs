//! A set in which an add wins over a concurrent remove.
//!
//! State: per element the dots of the adds that are live; an element is in the
//! set while it has one. A remove takes the dots it saw and leaves no tombstone:
//! the context tells that they were here. An add of an element that is present
//! takes a dot all the same and replaces those it saw, else a concurrent remove
//! would take a re-add that it never saw.
//!
//! Sources: Bieniusa et al., "An Optimized Conflict-free Replicated Set",
//! INRIA RR-8083 (2012); Almeida, Shoker, Baquero, arXiv:1603.01529, section 7
//! (`AWSet` over a dot map).

use std::collections::BTreeSet;

use crate::operation::{Applied, Outcome, Place, Step, Stop, Work};
use crate::removal::{self, Live};
use crate::{Element, Entries, EntryDelta, ObjectDelta, Part};

/// Adds `elements`. Always takes a dot, unless there are none.
pub(crate) fn add<E: Entries + ?Sized>(
    place: Place<'_>,
    elements: &[Element],
    work: &Work<'_, E>,
) -> Step<Applied, E> {
    let summary = work.summary(place)?;
    let mut delta = ObjectDelta::default();
    let mut new = 0;
    for element in distinct(elements) {
        let key = place.key(Part::Element(element.as_bytes()));
        let seen = work.dots(&key)?;
        new += u64::from(seen.is_empty());
        let change = EntryDelta::Dots { added: vec![work.dot()], removed: seen };
        delta.entries.insert(key, change);
    }
    if !delta.is_empty() && !summary.existence {
        delta.put_existence(place, work.dot());
    }
    let size = summary.entries.saturating_add(new);
    Ok(Applied { delta, outcome: Outcome::Set { changed: new > 0, size } })
}

/// Removes those of `elements` that are present. Takes no dot if none is.
pub(crate) fn remove<E: Entries + ?Sized>(
    place: Place<'_>,
    elements: &[Element],
    work: &Work<'_, E>,
) -> Step<Applied, E> {
    let summary = work.summary(place)?;
    if !summary.exists() {
        return Err(Stop::Refused(place.absent()));
    }
    let mut delta = ObjectDelta::default();
    let mut gone = 0;
    for element in distinct(elements) {
        let key = place.key(Part::Element(element.as_bytes()));
        let seen = work.dots(&key)?;
        if !seen.is_empty() {
            gone += 1;
            let change = EntryDelta::Dots { added: Vec::new(), removed: seen };
            delta.entries.insert(key, change);
        }
    }
    if gone > 0 && !summary.existence {
        delta.put_existence(place, work.dot());
    }
    let size = summary.entries.saturating_sub(gone);
    Ok(Applied { delta, outcome: Outcome::Set { changed: gone > 0, size } })
}

/// Removes every element that is present. Takes no dot if the set is empty.
pub(crate) fn clear<E: Entries + ?Sized>(place: Place<'_>, work: &Work<'_, E>) -> Step<Applied, E> {
    let summary = work.summary(place)?;
    if !summary.exists() {
        return Err(Stop::Refused(place.absent()));
    }
    let outcome = Outcome::Set { changed: summary.entries > 0, size: 0 };
    if summary.entries == 0 {
        return Ok(Applied::unchanged(outcome));
    }
    let mut delta = ObjectDelta::default();
    let live = Live { entries: summary.entries, cells: 0, dead: 0 };
    removal::take_all(&mut delta, &place.elements(), live, work)?;
    if !summary.existence {
        delta.put_existence(place, work.dot());
    }
    Ok(Applied { delta, outcome })
}

fn distinct(elements: &[Element]) -> BTreeSet<&Element> {
    elements.iter().collect()
}
