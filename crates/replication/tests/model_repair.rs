//! Repair by state: what is an interval's context, and what is a frame's base,
//! while parts of several sources are merged between local writes and deltas?
//!
//! The rule that holds:
//! - A part joins the source's vector to its own interval's context: joined, in
//!   whatever order sources come, never replaced and never taken back. Entries
//!   are judged by that one context.
//! - A replica's vector is the minimum over intervals. The base of its frames
//!   is the join over all that is in its log, and the log holds each repair,
//!   with the source's vector, before its first part.
//! - An own write, and a unit from a log, raises the context of all intervals.
//! - **A full list.** Neighbours must not be merged by the meet of their
//!   contexts: a local removal leaves nothing but the context. A part that would
//!   need one interval too many extends the interval before it: it is credited
//!   with that interval's context and no more, entries beyond that are left out,
//!   and only a source that covers that context will do. What such a source has
//!   removed since is removed a little early, which is harmless. A part for
//!   which this is not possible is left for another source. A finished repair
//!   makes the list short again.
//! - **A source that vanishes** between two parts, with units that nobody else
//!   has, leaves a base that nobody can cover: the receiver's own writes then
//!   reach no one until the actor is retired. Its final n is the highest that
//!   *any interval or base* has seen, not the highest that a member has whole;
//!   the receiver raises all its intervals to it and is repaired from.
//!
//! The rules that fail, and what breaks:
//! - the source's vector for the whole group at the first part: what the other
//!   intervals lack counts as removed;
//! - absence in a part read outside its interval: the same, at once;
//! - entries judged by the replica's vector, or contexts forgotten when a new
//!   source begins, or merged by meet: what was removed meanwhile comes back
//!   with the next part;
//! - a context replaced by the next source's vector: it comes back with the log;
//! - base = the minimum, or a repair that is not in the log: a peer applies a
//!   removal before what it removes;
//! - extending with entries beyond the context: a local removal of one comes
//!   back; extending from a source that does not cover it: entries are lost;
//! - a vanished source's unfinished units dropped: what they had replaced is
//!   gone, and so is what replaced it.
//!
//! Bounds: two sources and a receiver, two or three keys (each an interval), a
//! history of two writes that the logs no longer hold, one more write each (or
//! two by the receiver), two repairs. Interrupting and crashing are the same
//! here: what is committed stays, the snapshot is gone.

#[path = "model/repair.rs"]
mod repair;
#[path = "model/verdict.rs"]
mod verdict;

use repair::{
    ENDS_EQUAL, Fate, Full, NOTHING_COMES_BACK, NOTHING_IS_LOST, REMOVAL_FOLLOWS, Repair, Rule,
    Write,
};
use verdict::{assert_holds, assert_refuted};

fn two_intervals(rule: Rule) -> Repair {
    Repair {
        rule,
        list: (2, Full::ExtendNeighbour),
        keys: 2,
        budget: [1, 1, 1],
        writes: &[Write::Put(0b10), Write::Put(0b11), Write::Delete(0)],
        sessions: 2,
        fate: Fate::Stays,
    }
}

fn full_list(full: Full) -> Repair {
    Repair {
        list: (2, full),
        keys: 3,
        writes: &[Write::Put(0b010), Write::Delete(1)],
        ..two_intervals(Rule::Sound)
    }
}

fn mortal_source(fate: Fate) -> Repair {
    Repair { writes: &[Write::Put(0b10), Write::Delete(0)], fate, ..two_intervals(Rule::Sound) }
}

#[test]
fn a_part_raises_the_context_of_its_own_interval() {
    let one_write_each = two_intervals(Rule::Sound);
    let two_writes_by_the_receiver = Repair { budget: [1, 0, 2], ..one_write_each.clone() };

    assert_holds("contexts joined by interval", one_write_each);
    assert_holds("the same, two local writes", two_writes_by_the_receiver);
}

#[test]
fn a_part_says_nothing_about_other_intervals() {
    let whole_group = two_intervals(Rule::WholeGroupAtFirstPart);
    let everywhere = two_intervals(Rule::AbsenceEverywhere);

    assert_refuted("vector joined to the whole group", &whole_group, NOTHING_IS_LOST);
    assert_refuted("absence read outside the part", &everywhere, NOTHING_IS_LOST);
}

#[test]
fn an_entry_is_judged_by_its_interval_alone() {
    let by_group = two_intervals(Rule::JudgedByGroup);

    assert_refuted("judged by the group's vector", &by_group, NOTHING_COMES_BACK);
}

#[test]
fn a_context_is_joined_and_never_given_up() {
    let replaced = two_intervals(Rule::ContextReplaced);
    let forgotten = two_intervals(Rule::ContextsForgotten);

    assert_refuted("context replaced", &replaced, NOTHING_COMES_BACK);
    assert_refuted("contexts forgotten", &forgotten, NOTHING_COMES_BACK);
}

#[test]
fn the_base_is_all_that_a_write_may_have_seen() {
    let minimum = two_intervals(Rule::BaseIsMinimum);
    let not_logged = two_intervals(Rule::RepairNotLogged);

    assert_refuted("base is the minimum", &minimum, REMOVAL_FOLLOWS);
    assert_refuted("repair not in the log", &not_logged, REMOVAL_FOLLOWS);
}

#[test]
fn a_full_list_extends_the_interval_before() {
    assert_holds("a full list extends a neighbour", full_list(Full::ExtendNeighbour));
}

#[test]
fn a_full_list_is_not_shortened_in_other_ways() {
    let meet = full_list(Full::MergeByMeet);
    let all_entries = full_list(Full::ExtendWithAllEntries);
    let any_source = full_list(Full::ExtendFromAnySource);

    assert_refuted("neighbours merged by meet", &meet, NOTHING_COMES_BACK);
    assert_refuted("entries beyond the context", &all_entries, NOTHING_COMES_BACK);
    assert_refuted("a source that is behind", &any_source, NOTHING_IS_LOST);
}

#[test]
fn a_vanished_source_is_final_where_it_was_seen() {
    assert_holds("raised to what was seen", mortal_source(Fate::RaisedToSeen));
}

#[test]
fn a_vanished_source_strands_what_depends_on_it() {
    let nothing_done = mortal_source(Fate::NothingDone);
    let lowered = mortal_source(Fate::LoweredToComplete);

    assert_refuted("nothing done", &nothing_done, ENDS_EQUAL);
    assert_refuted("lowered to what is complete", &lowered, ENDS_EQUAL);
}
