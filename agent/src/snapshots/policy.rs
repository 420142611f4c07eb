//! When snapshots are taken and how many are kept: one policy out of the
//! settings of all groups, since a snapshot always holds all groups.
//!
//! Pure: no clock, no files.

use std::time::Duration;

use coppice_api::Snapshot;

/// What all groups together ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The shortest interval of a group that wants snapshots; `None`: none is
    /// taken by time.
    pub interval: Option<Duration>,
    /// The most that a group wants kept; 0: none wants any, so none is taken
    /// and none is removed.
    pub keep: usize,
    /// Whether a group wants one on a clean stop.
    pub on_shutdown: bool,
}

// === impl Policy ===

impl Policy {
    /// The policy for groups with these settings. A group that keeps none asks
    /// for nothing.
    pub fn of<'a>(groups: impl IntoIterator<Item = &'a Snapshot>) -> Self {
        let wanting = groups.into_iter().filter(|snapshot| snapshot.retain > 0);
        wanting.fold(Self::default(), |policy, snapshot| {
            let interval = Some(snapshot.interval.get()).filter(|interval| !interval.is_zero());
            let keep = usize::try_from(snapshot.retain).unwrap_or(usize::MAX);
            Self {
                interval: policy.interval.into_iter().chain(interval).min(),
                keep: policy.keep.max(keep),
                on_shutdown: policy.on_shutdown || snapshot.on_shutdown,
            }
        })
    }

    /// How long to wait for the next one, `since_last` after the last; `None`:
    /// until the policy changes.
    pub fn wait(&self, since_last: Duration) -> Option<Duration> {
        self.interval.map(|interval| interval.saturating_sub(since_last))
    }
}

#[cfg(test)]
mod tests {
    use coppice_api::TextDuration;

    use super::*;

    fn group(seconds: u64, retain: u32, on_shutdown: bool) -> Snapshot {
        Snapshot { interval: TextDuration::from_secs(seconds), retain, on_shutdown }
    }

    #[test]
    fn the_shortest_interval_and_the_largest_retain_win() {
        let policy = Policy::of(&[group(60, 2, false), group(10, 1, true), group(30, 7, false)]);
        let interval = Some(Duration::from_secs(10));
        assert_eq!(policy, Policy { interval, keep: 7, on_shutdown: true });
    }

    #[test]
    fn a_group_that_keeps_none_asks_for_nothing() {
        assert_eq!(Policy::of(&[group(1, 0, true)]), Policy::default());
        let policy = Policy::of(&[group(1, 0, true), group(60, 1, false)]);
        let interval = Some(Duration::from_mins(1));
        assert_eq!(policy, Policy { interval, keep: 1, on_shutdown: false });
        assert_eq!(Policy::of(&[]), Policy::default(), "no group, no snapshot");
    }

    #[test]
    fn without_an_interval_only_a_stop_takes_one() {
        let policy = Policy::of(&[group(0, 3, true)]);
        assert_eq!(policy, Policy { interval: None, keep: 3, on_shutdown: true });
        assert_eq!(policy.wait(Duration::MAX), None);
    }

    #[test]
    fn one_is_due_an_interval_after_the_last() {
        let policy = Policy::of(&[group(60, 1, true)]);
        let seconds = Duration::from_secs;
        assert_eq!(policy.wait(seconds(0)), Some(seconds(60)));
        assert_eq!(policy.wait(seconds(59)), Some(seconds(1)));
        assert_eq!(policy.wait(seconds(600)), Some(seconds(0)), "at once, and once");
    }
}
