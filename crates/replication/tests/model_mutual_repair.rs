//! Repair by state from a source that is under repair itself: what does it say
//! to have seen?
//!
//! The rule that holds: a part says what was seen in its own interval, the
//! puller credits that interval with it, its log takes notice before each part
//! that brings news, and the group's vector is what was seen in every interval.
//!
//! The rules that fail, and what breaks:
//! - serving nothing, or only what was seen everywhere: two replicas, each half
//!   repaired of what only the other has whole, wait for each other for ever;
//! - what was seen everywhere, with all entries: one of them that is removed
//!   locally comes back with the next part;
//! - what was seen anywhere: what the interval lacks counts as removed;
//! - the log taking notice of the first part alone, or of what the source has
//!   seen everywhere: a peer applies a removal before what it removes;
//! - the group's vector raised to all that any part said: as "anywhere".
//!
//! Bounds: two replicas or three, two keys (each an interval), a history of two
//! writes that no log holds, one more write each or two by the third, one repair
//! each or two by one.

#[path = "model/mutual_repair.rs"]
mod mutual_repair;
#[path = "model/verdict.rs"]
mod verdict;

use mutual_repair::{
    Completed, ENDS_EQUAL, Logged, MutualRepair, NOTHING_COMES_BACK, NOTHING_IS_LOST,
    REMOVAL_FOLLOWS, Served,
};
use verdict::{assert_holds, assert_refuted};

const RULE: MutualRepair = MutualRepair {
    served: Served::Interval,
    logged: Logged::EachPart,
    completed: Completed::MinimumOfIntervals,
    budgets: &[(1, 1), (1, 1)],
};

/// Only the third writes and pulls.
const THIRD: MutualRepair = MutualRepair { budgets: &[(0, 0), (0, 0), (2, 1)], ..RULE };

#[test]
fn a_part_says_what_was_seen_in_its_interval() {
    assert_holds("by interval", RULE);
    assert_holds("one begins anew", MutualRepair { budgets: &[(1, 2), (1, 1)], ..RULE });
    assert_holds("a third that has neither half", THIRD);
}

#[test]
fn who_is_under_repair_serves_what_only_it_has() {
    let nothing = MutualRepair { served: Served::Nothing, ..RULE };
    let minimum = MutualRepair { served: Served::MinimumAlone, ..RULE };

    assert_refuted("nothing is served", &nothing, ENDS_EQUAL);
    assert_refuted("only what was seen everywhere", &minimum, ENDS_EQUAL);
}

#[test]
fn a_part_says_no_more_and_no_less() {
    let minimum = MutualRepair { served: Served::Minimum, ..RULE };
    let anywhere = MutualRepair { served: Served::Join, ..RULE };

    assert_refuted("the minimum, with all entries", &minimum, NOTHING_COMES_BACK);
    assert_refuted("the join", &anywhere, NOTHING_IS_LOST);
}

#[test]
fn the_log_takes_notice_before_each_part_that_brings_news() {
    let first = MutualRepair { logged: Logged::FirstPart, ..THIRD };
    let minimum = MutualRepair { logged: Logged::SourceMinimum, ..THIRD };

    assert_refuted("the first part alone", &first, REMOVAL_FOLLOWS);
    assert_refuted("the source's minimum", &minimum, REMOVAL_FOLLOWS);
}

#[test]
fn the_group_has_seen_what_every_interval_has() {
    let joined = MutualRepair { completed: Completed::JoinOfParts, ..THIRD };

    assert_refuted("all that any part said", &joined, NOTHING_IS_LOST);
}
