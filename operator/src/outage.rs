//! What to say of something that fails again and again: each cause once, until it works.

use std::collections::BTreeSet;
use std::fmt::Display;

/// How many causes are told before the rest is left out.
const CAUSES: usize = 8;

/// What was told since it last worked.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    told: BTreeSet<String>,
}

// === impl Outage ===

impl Outage {
    /// It failed for this cause: whether to tell.
    pub(crate) fn failed(&mut self, cause: &impl Display) -> bool {
        self.told.len() < CAUSES && self.told.insert(cause.to_string())
    }

    /// It worked: whether it was told that it did not.
    pub(crate) fn worked(&mut self) -> bool {
        !std::mem::take(&mut self.told).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_until_it_works() {
        let mut outage = Outage::default();
        assert!(!outage.worked(), "nothing was told");
        assert!(outage.failed(&"refused"));
        assert!(!outage.failed(&"refused"));
        assert!(outage.failed(&"no answer"), "another cause may need another mend");
        assert!(!outage.failed(&"refused"), "causes that take turns are known");
        assert!(outage.worked());
        assert!(outage.failed(&"refused"), "the next outage");
    }

    #[test]
    fn causes_that_are_all_different_are_told_a_few_times() {
        let mut outage = Outage::default();
        assert_eq!((0..100).filter(|cause| outage.failed(cause)).count(), CAUSES);
    }
}
