//! Which writes a replica has seen.
//!
//! A replica's causal context is one version vector: per actor, the highest `n`
//! of an unbroken run from 1. It never covers a dot that is missing, so that
//! absence below it proves removal.
//!
//! Pure: no clock, no IO, no randomness.
//! Source: Almeida, Shoker, Baquero, arXiv:1603.01529, section 7.2; one vector
//! for a whole replica instead of one per object: Gonçalves et al., "`DottedDB`:
//! Anti-Entropy without Merkle Trees, Deletes without Tombstones", SRDS 2017.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fmt;

use crate::{ActorId, Dot};

/// Per actor, the highest `n` of an unbroken run of dots from 1.
///
/// Vectors form a lattice: `join` is the pointwise maximum, `meet` the
/// pointwise minimum, `is_covered_by` the order. An actor at 0 is not listed,
/// so equal vectors are equal values.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct VersionVector {
    seen: BTreeMap<ActorId, u64>,
}

impl VersionVector {
    /// A vector that covers nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { seen: BTreeMap::new() }
    }

    /// The highest `n` covered for `actor`, 0 if none.
    #[must_use]
    pub fn get(&self, actor: &ActorId) -> u64 {
        self.seen.get(actor).copied().unwrap_or(0)
    }

    /// Whether `dot` is covered.
    #[must_use]
    pub fn covers(&self, dot: &Dot) -> bool {
        dot.n <= self.get(&dot.actor)
    }

    /// Covers `actor` up to `n`; never goes back.
    pub fn raise(&mut self, actor: ActorId, n: u64) {
        if n > 0 {
            let seen = self.seen.entry(actor).or_insert(0);
            *seen = n.max(*seen);
        }
    }

    /// Pointwise maximum: covers what either covered.
    pub fn join(&mut self, other: &Self) {
        for (&actor, &n) in &other.seen {
            self.raise(actor, n);
        }
    }

    /// Pointwise minimum: covers what both covered.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let seen = self
            .seen
            .iter()
            .map(|(actor, &n)| (*actor, n.min(other.get(actor))))
            .filter(|&(_, n)| n > 0)
            .collect();
        Self { seen }
    }

    /// Whether `other` covers all that this vector covers: `self <= other`.
    #[must_use]
    pub fn is_covered_by(&self, other: &Self) -> bool {
        self.seen.iter().all(|(actor, &n)| n <= other.get(actor))
    }

    /// Actors and their `n`, in the order of actors.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ActorId, u64)> + '_ {
        self.seen.iter().map(|(&actor, &n)| (actor, n))
    }

    /// How many actors are listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether nothing is covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// How many dots this vector covers that `other` does not.
    #[must_use]
    pub fn count_beyond(&self, other: &Self) -> u64 {
        self.seen
            .iter()
            .map(|(actor, &n)| n.saturating_sub(other.get(actor)))
            .fold(0, u64::saturating_add)
    }
}

impl FromIterator<(ActorId, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (ActorId, u64)>>(pairs: I) -> Self {
        let mut vector = Self::new();
        for (actor, n) in pairs {
            vector.raise(actor, n);
        }
        vector
    }
}

impl<'a> IntoIterator for &'a VersionVector {
    type Item = (&'a ActorId, &'a u64);
    type IntoIter = btree_map::Iter<'a, ActorId, u64>;

    fn into_iter(self) -> Self::IntoIter {
        self.seen.iter()
    }
}

impl fmt::Debug for VersionVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.seen).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ActorId = ActorId::from_bytes([1; 16]);
    const B: ActorId = ActorId::from_bytes([2; 16]);

    fn vector(pairs: &[(ActorId, u64)]) -> VersionVector {
        pairs.iter().copied().collect()
    }

    #[test]
    fn covers_an_unbroken_run_from_one() {
        let seen = vector(&[(A, 3)]);
        let covered: Vec<bool> = (1..=4).map(|n| seen.covers(&Dot::new(A, n))).collect();
        assert_eq!(covered, [true, true, true, false]);
        assert!(!seen.covers(&Dot::new(B, 1)));
    }

    #[test]
    fn join_and_meet_are_the_pointwise_bounds() {
        let (ours, theirs) = (vector(&[(A, 3), (B, 1)]), vector(&[(A, 2)]));
        let mut joined = theirs.clone();
        joined.join(&ours);
        assert_eq!(joined, ours);
        assert_eq!(ours.meet(&theirs), theirs, "an actor at 0 is not listed");
        assert!(theirs.is_covered_by(&ours) && !ours.is_covered_by(&theirs));
        assert_eq!((ours.count_beyond(&theirs), theirs.count_beyond(&ours)), (2, 0));
    }

    #[test]
    fn raise_never_goes_back() {
        let mut seen = vector(&[(A, 3)]);
        seen.raise(A, 2);
        seen.raise(B, 0);
        assert_eq!(seen, vector(&[(A, 3)]));
        assert_eq!(
            (seen.len(), seen.is_empty(), VersionVector::new().is_empty()),
            (1, false, true)
        );
        assert_eq!(vector(&[(A, u64::MAX), (B, 2)]).count_beyond(&VersionVector::new()), u64::MAX);
    }

    #[test]
    fn it_is_read_actor_by_actor() {
        let (a, b) = (ActorId::from_bytes([0xa7; 16]), ActorId::from_bytes([0xb8; 16]));
        let vector: VersionVector = [(b, 2), (a, 1)].into_iter().collect();
        assert_eq!((vector.len(), VersionVector::new().len()), (2, 0));
        let read: Vec<_> = (&vector).into_iter().map(|(&actor, &n)| (actor, n)).collect();
        assert_eq!(read, [(a, 1), (b, 2)]);
        assert_eq!(format!("{vector:?}"), "{a7a7a7a7: 1, b8b8b8b8: 2}");
    }
}
