//! Flags by which a test makes rotations quick. They are hidden: with shorter times than
//! the built-in ones, pods that are slow to hear of a new authority are cut off.

use clap::Args;
use coppice_api::TextDuration;
use time::Duration;

use super::authority::AuthorityName;
use super::rotation::Timings;

/// How long rotations wait, where that is not what it should be.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct RotationArgs {
    /// For tests: from the publication of an authority to its first signature.
    #[arg(long, hide = true, env = "COPPICE_ROTATION_WAIT", value_name = "DURATION")]
    pub rotation_wait: Option<TextDuration>,
    /// For tests: from the last signature of an authority to its end.
    #[arg(long, hide = true, env = "COPPICE_ROTATION_KEEP", value_name = "DURATION")]
    pub rotation_keep: Option<TextDuration>,
}

// === impl RotationArgs ===

impl RotationArgs {
    /// The waits of one authority's rotations.
    #[must_use]
    pub fn timings(&self, name: AuthorityName) -> Timings {
        let mut timings = Timings::of(name);
        let of = |given: TextDuration| Duration::try_from(given.get()).unwrap_or(Duration::MAX);
        if let Some(wait) = self.rotation_wait.map(of) {
            timings.spread = timings.spread.min(wait);
            timings.settle = timings.settle.min(wait);
            timings.give_up = timings.give_up.map(|after| after.min(wait));
        }
        if let Some(keep) = self.rotation_keep.map(of) {
            timings.keep = keep;
        }
        timings
    }
}
