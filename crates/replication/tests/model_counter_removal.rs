//! Counter cells and floors: how does a removal take what it saw, no more, and
//! when may its floor be forgotten?
//!
//! The rule that holds: a cell is named (actor, birth) and holds a cumulative
//! amount; a removal records the amount it saw as the cell's floor, joined by
//! maximum, and the value is the sum of amounts above floors. The owner raises
//! a cell only while some of it is alive, else it opens a new one. A record is
//! dropped, cell and floor together, when
//! - the cell is dead (amount <= floor), and
//! - a vector that the owner reported covers the removals in the record, and
//! - all that the owner had issued by that report is here.
//!
//! The owner itself may drop at once. Each replica decides alone and unasked,
//! so dead records are no part of what equal vectors make equal: live cells
//! with amounts and floors are, and an `ETag` or digest may cover only those. An
//! absent cell whose birth is covered is dead for good: a floor that arrives for
//! it is ignored, and a state merge drops it on the other side. In a merge a
//! cell may be judged by its birth or by its newest increment.
//!
//! The rules that fail, for a counter at 1 that one replica removes while its
//! owner adds 2 (so 2 is right):
//! - the record dropped at the removal: 3, the cumulative amount comes back;
//! - the floor folded into the cell: what was subtracted is joined away;
//! - a settled floor dropped with its cell alive: 3 at once;
//! - dropped once the owner knows of the removal, though what it had issued is
//!   still under way: that arrives and is counted from zero, 3;
//! - dropped once all that the owner issued is here, though it does not know of
//!   the removal: it raises the old cell, 3;
//! - a dead cell raised again by its owner: where the floor is gone, 3;
//! - dropped once the owner knows what the cell first died of: it lived again by
//!   what was under way, died of another removal, and is raised by an owner that
//!   knows only of the first;
//! - in a merge, a cell kept because one of its *removals* is news to the side
//!   that has dropped it: that removal's floor is too low, and the cell revives.
//!
//! "Right" is counted from what each removal had seen when it was issued, which
//! no rule reads.
//!
//! Bounds: three replicas, up to three increments (each adds a power of two of
//! its own) and two removals, deltas in any causal order, state merges and reports
//! between any two replicas at any time.

#[path = "model/counter.rs"]
mod counter;
#[path = "model/verdict.rs"]
mod verdict;

use counter::{Counter, Judge, Rule, VALUE_IS_EXACT};
use verdict::{assert_holds, assert_refuted};

/// The first replica increments, the second removes.
fn counter(rule: Rule) -> Counter {
    Counter { rule, merges: Some(Judge::Birth), increments: [2, 0, 0], removals: [0, 1, 0] }
}

fn by_deltas_only(rule: Rule) -> Counter {
    Counter { merges: None, ..counter(rule) }
}

#[test]
fn a_removal_takes_what_it_saw() {
    let one_owner = Counter { increments: [3, 0, 0], removals: [0, 2, 0], ..counter(Rule::Sound) };
    let two_owners = Counter { increments: [2, 1, 0], ..by_deltas_only(Rule::Sound) };

    assert_holds("three increments, two removals", one_owner);
    assert_holds("two owners, deltas only", two_owners);
}

#[test]
fn a_merge_judges_a_cell_by_its_increments() {
    let two_removers = Counter { removals: [0, 1, 1], ..counter(Rule::Sound) };
    let newest = Counter { merges: Some(Judge::Newest), ..two_removers.clone() };
    let removals_too = Counter { merges: Some(Judge::NewestAndRemovals), ..two_removers };

    assert_holds("two removers, judged by the newest increment", newest);
    assert_refuted("judged by its removals too", &removals_too, VALUE_IS_EXACT);
}

#[test]
fn concurrent_removals_join_their_floors() {
    let two_removers = Counter { removals: [0, 1, 1], ..counter(Rule::Sound) };
    let at_length = Counter { increments: [3, 0, 0], ..two_removers.clone() };

    assert_holds("two removers", two_removers);
    assert_holds("two removers, three increments", at_length);
}

#[test]
fn an_owner_may_remove_and_raise() {
    let owner_removes = Counter { removals: [1, 1, 0], ..counter(Rule::Sound) };

    assert_holds("the owner removes too", owner_removes);
}

#[test]
fn a_removal_needs_a_floor_of_its_own() {
    let dropped = by_deltas_only(Rule::RecordDropped);
    let folded = by_deltas_only(Rule::FloorFolded);
    let alive = by_deltas_only(Rule::FloorDroppedAlive);

    assert_refuted("record dropped at the removal", &dropped, VALUE_IS_EXACT);
    assert_refuted("floor folded into the cell", &folded, VALUE_IS_EXACT);
    assert_refuted("floor dropped, cell alive", &alive, VALUE_IS_EXACT);
}

#[test]
fn a_floor_is_dropped_only_when_the_owner_can_do_no_harm() {
    let under_way = by_deltas_only(Rule::WithoutOwnersWrites);
    let unaware = by_deltas_only(Rule::WithoutOwnersKnowledge);
    let raised = by_deltas_only(Rule::DeadCellRaised);
    let twice = Counter {
        increments: [3, 0, 0],
        removals: [0, 2, 0],
        ..by_deltas_only(Rule::FirstDeathCounts)
    };

    assert_refuted("the owner's writes are not all here", &under_way, VALUE_IS_EXACT);
    assert_refuted("the owner does not know", &unaware, VALUE_IS_EXACT);
    assert_refuted("a dead cell is raised again", &raised, VALUE_IS_EXACT);
    assert_refuted("the first of two deaths counts", &twice, VALUE_IS_EXACT);
}
