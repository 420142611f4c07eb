//! A counter that only grows.
//!
//! State: per actor a cumulative amount, in removable cells
//! (see `counter_cells`). Value: the sum of the amounts above the floors.
//! Concurrent increments all count; an increment that a DELETE had not seen
//! survives it.
//!
//! Source: Shapiro, Preguiça, Baquero, Zawirski, "A comprehensive study of
//! Convergent and Commutative Replicated Data Types", INRIA RR-7506 (2011),
//! section 3.1 (G-Counter). Removal by floors is Coppice's own; close to it:
//! Almeida, Baquero, "Scalable Eventually Consistent Counters over Unreliable
//! Networks", arXiv:1307.3207 (cells that are retired and replaced).

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
