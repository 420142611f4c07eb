//! Wrong protocols, to show that the simulation notices each of them.
//!
//! Every one is a mistake that somebody could make, at the place where they
//! would make it: there the code asks [`is`]. Without the feature `mutants`, which
//! only `make sim-mutants` turns on, that is a constant `false`, and nothing of
//! this is in a program.
//!
//! The choice is one for the whole process, against our own rule: passed as a
//! value it would go through every layer of the code that is under test.

/// A wrong protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// The actor is the store's, not the opening's.
    DotUsedTwice = 1,
    /// An answer that promises fsync leaves before the fsync.
    AnswerBeforeCommit,
    /// A frame is applied wherever it arrives.
    DeltaOverGap,
    /// A frame is applied if it continues each origin's dots.
    CausalPerOrigin,
    /// What one range's part had seen is taken for seen in every range.
    AbsenceOutsideRange,
    /// A repair judges what is here by the group's vector alone.
    LocalRemovalComesBack,
    /// A repair takes over what came, and leaves what did not come.
    RemovalLostWhileAway,
    /// A link goes on at the first record left of a log that was trimmed.
    LogTrimmedTooSoon,
    /// What a store's earlier opening reported still counts at the next handshake.
    PeerVectorJoined,
    /// A dead cell's floor is dropped without a look whether it lives again.
    FloorDroppedAlive,
    /// A join keeps the value that readers get.
    LosingValueDropped,
    /// An expired value is deleted where it is, and nobody is told.
    PurgeWithoutDot,
    /// A batch is two units.
    BatchSplit,
    /// A removal in steps reads the state as it is by then, and takes all of it.
    StepsTakeWhatCame,
    /// A sweep takes its first page for all that a removal hides.
    SweepEndsEarly,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::DotUsedTwice,
        Self::AnswerBeforeCommit,
        Self::DeltaOverGap,
        Self::CausalPerOrigin,
        Self::AbsenceOutsideRange,
        Self::LocalRemovalComesBack,
        Self::RemovalLostWhileAway,
        Self::LogTrimmedTooSoon,
        Self::PeerVectorJoined,
        Self::FloorDroppedAlive,
        Self::LosingValueDropped,
        Self::PurgeWithoutDot,
        Self::BatchSplit,
        Self::StepsTakeWhatCame,
        Self::SweepEndsEarly,
    ];

    /// What it is called on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DotUsedTwice => "dot-used-twice",
            Self::AnswerBeforeCommit => "answer-before-commit",
            Self::DeltaOverGap => "delta-over-gap",
            Self::CausalPerOrigin => "causal-per-origin",
            Self::AbsenceOutsideRange => "absence-outside-range",
            Self::LocalRemovalComesBack => "local-removal-comes-back",
            Self::RemovalLostWhileAway => "removal-lost-while-away",
            Self::LogTrimmedTooSoon => "log-trimmed-too-soon",
            Self::PeerVectorJoined => "peer-vector-joined",
            Self::FloorDroppedAlive => "floor-dropped-alive",
            Self::LosingValueDropped => "losing-value-dropped",
            Self::PurgeWithoutDot => "purge-without-dot",
            Self::BatchSplit => "batch-split",
            Self::StepsTakeWhatCame => "steps-take-what-came",
            Self::SweepEndsEarly => "sweep-ends-early",
        }
    }

    /// What is wrong with it, in a line.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::DotUsedTwice => "a dot used twice after a crash",
            Self::AnswerBeforeCommit => "an answer before its commit",
            Self::DeltaOverGap => "a delta applied over a gap",
            Self::CausalPerOrigin => "causal order kept only per origin",
            Self::AbsenceOutsideRange => "absence outside a complete range taken for removal",
            Self::LocalRemovalComesBack => "a local removal during repair that comes back",
            Self::RemovalLostWhileAway => "a removal lost for a replica that was away",
            Self::LogTrimmedTooSoon => "the log trimmed too soon",
            Self::PeerVectorJoined => "a peer's vector joined across its restarts",
            Self::FloorDroppedAlive => "a counter's floor dropped with its cell alive",
            Self::LosingValueDropped => "a losing register value dropped at the join",
            Self::PurgeWithoutDot => "a purge without a dot",
            Self::BatchSplit => "a batch split in two",
            Self::StepsTakeWhatCame => "a removal in steps that takes what came after its start",
            Self::SweepEndsEarly => "a sweep that ends with its first page",
        }
    }
}

/// Whether `mutant` is the protocol that runs.
#[cfg(not(feature = "mutants"))]
#[must_use]
#[inline]
pub const fn is(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use chosen::{choose, is};

#[cfg(feature = "mutants")]
mod chosen {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    static CHOSEN: AtomicU8 = AtomicU8::new(0);

    /// Makes every replica of this process run `mutant`; `None`: the right protocol.
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.store(mutant.map_or(0, |mutant| mutant as u8), Ordering::Relaxed);
    }

    /// Whether `mutant` is the protocol that runs.
    #[must_use]
    pub fn is(mutant: Mutant) -> bool {
        CHOSEN.load(Ordering::Relaxed) == mutant as u8
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_has_a_name_and_a_description_of_its_own() {
        let names: BTreeSet<_> = Mutant::ALL.into_iter().map(Mutant::name).collect();
        let described: BTreeSet<_> = Mutant::ALL.into_iter().map(Mutant::description).collect();
        assert_eq!(names.len(), Mutant::ALL.len(), "`SIM_MUTANT` chooses by name");
        assert_eq!(described.len(), Mutant::ALL.len(), "two lines of a report look the same");
    }

    #[test]
    #[cfg(feature = "mutants")]
    fn only_the_chosen_one_runs() {
        // One that nothing in this crate asks for: other tests run beside.
        choose(Some(Mutant::DotUsedTwice));
        assert!(is(Mutant::DotUsedTwice) && !is(Mutant::BatchSplit));
        choose(None);
        assert!(Mutant::ALL.into_iter().all(|mutant| !is(mutant)), "the right protocol runs");
    }
}
