//! A flag in which enable wins over a concurrent disable.
//!
//! State: the dots of the enables that are live; the flag is true while there is
//! one. `disable` takes those it saw; on a flag that is absent it leaves the
//! existence alone, a flag that is false.
//!
//! Source: Almeida, Shoker, Baquero, arXiv:1603.01529, section 7 (EWFlag over a
//! dot set).

use crate::operation::{Applied, Outcome, Place, Step, Work};
use crate::{Entries, EntryDelta, ObjectDelta, Part};

/// Raises the flag. Always takes a dot, and replaces the enables it saw.
pub(crate) fn enable<E: Entries + ?Sized>(
    place: Place<'_>,
    work: &Work<'_, E>,
) -> Step<Applied, E> {
    let summary = work.summary(place)?;
    let mut delta = ObjectDelta::default();
    let key = place.key(Part::Enabled);
    let removed = work.dots(&key)?;
    delta.entries.insert(key, EntryDelta::Dots { added: vec![work.dot()], removed });
    if !summary.existence {
        delta.put_existence(place, work.dot());
    }
    Ok(Applied { delta, outcome: Outcome::Flag(true) })
}

/// Lowers the flag, or creates a lowered one. Takes no dot if it is lowered.
pub(crate) fn disable<E: Entries + ?Sized>(
    place: Place<'_>,
    work: &Work<'_, E>,
) -> Step<Applied, E> {
    let summary = work.summary(place)?;
    let mut delta = ObjectDelta::default();
    let key = place.key(Part::Enabled);
    let removed = work.dots(&key)?;
    if !removed.is_empty() {
        delta.entries.insert(key, EntryDelta::Dots { added: Vec::new(), removed });
    }
    if !summary.existence {
        delta.put_existence(place, work.dot());
    }
    Ok(Applied { delta, outcome: Outcome::Flag(false) })
}
