//! A counter that grows and shrinks.
//!
//! State: per actor two cumulative amounts, what it added and what it took, in
//! removable cells (see `counter_cells`). Value: the sum of additions above
//! their floors less that of subtractions above theirs; it can be negative.
//! A DELETE takes the increments and decrements it had seen and no others.
//!
//! Source: Shapiro, Preguiça, Baquero, Zawirski, "A comprehensive study of
//! Convergent and Commutative Replicated Data Types", INRIA RR-7506 (2011),
//! section 3.1 (PN-Counter).

use crate::operation::{Applied, Place, Step, Work};
use crate::{Amounts, Entries, counter_cells};

/// Adds `by`. 0 makes the counter exist, and takes no dot if it does already.
pub(crate) fn increment<E: Entries + ?Sized>(
    place: Place<'_>,
    by: u64,
    work: &Work<'_, E>,
) -> Step<Applied, E> {
    counter_cells::raise(place, Amounts { up: by, down: 0 }, work)
}

/// Takes `by`. 0 makes the counter exist, and takes no dot if it does already.
pub(crate) fn decrement<E: Entries + ?Sized>(
    place: Place<'_>,
    by: u64,
    work: &Work<'_, E>,
) -> Step<Applied, E> {
    counter_cells::raise(place, Amounts { up: 0, down: by }, work)
}
