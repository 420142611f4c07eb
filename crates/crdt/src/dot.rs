//! One write of one actor.
//!
//! Source: Almeida, Shoker, Baquero, "Delta State Replicated Data Types",
//! arXiv:1603.01529, section 7.2 (causal CRDTs).

use std::fmt;

use crate::ActorId;

/// The `n`-th write of `actor` in a group; `n` counts 1, 2, 3… without a gap.
///
/// Dots order by actor, then by `n`: an order for canonical encodings, not of
/// time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who wrote.
    pub actor: ActorId,
    /// Which of the actor's writes, from 1.
    pub n: u64,
}

impl Dot {
    /// The `n`-th write of `actor`.
    #[must_use]
    pub const fn new(actor: ActorId, n: u64) -> Self {
        Self { actor, n }
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.actor, self.n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_show_the_writer_and_the_number() {
        assert_eq!(format!("{:?}", Dot::new(ActorId::from_bytes([0xa7; 16]), 12)), "a7a7a7a7:12");
    }
}
