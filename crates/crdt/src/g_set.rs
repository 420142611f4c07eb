//! A set that only grows, until the object or field is removed.
//!
//! State: per element the dots of the adds that are live. Nothing but the
//! removal of the whole set takes an element, and that takes only the adds it
//! had seen: so the dots of an OR-Set stand here too.
//!
//! Source: Shapiro, Preguiça, Baquero, Zawirski, "A comprehensive study of
//! Convergent and Commutative Replicated Data Types", INRIA RR-7506 (2011),
//! section 3.3 (G-Set); removal as in the OR-Set.

use crate::operation::{Applied, Place, Step, Work};
use crate::{Element, Entries, or_set};

/// Adds `elements`; see [`or_set::add`].
pub(crate) fn add<E: Entries + ?Sized>(
    place: Place<'_>,
    elements: &[Element],
    work: &Work<'_, E>,
) -> Step<Applied, E> {
    or_set::add(place, elements, work)
}
