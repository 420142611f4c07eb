//! Dots over crashes: which actor may a store write with after it was opened?
//!
//! The rule that holds: a new one, minted at the first write after each opening.
//! Then a dot names one write for ever, and what a vector covers is there,
//! whether the disk lost its tail, was rolled back to a copy, or runs twice.
//!
//! The rules that fail:
//! - the stored actor goes on from the stored counter: a write that left before
//!   it was lost, and a new one, share a dot; the peer covers it and never takes
//!   the second. The same after a roll-back, and between a disk and its clone;
//! - the stored actor goes on unless a peer, asked before the first write, knows
//!   more of it: the store may write before it hears anyone, or hear a peer that
//!   does not have the lost write; and a clone is behind nobody.
//!
//! Bounds: one store (a clone makes a second) and a peer, two or three writes,
//! two or three openings, copies taken and synced at any time.

#[path = "model/identity.rs"]
mod identity;
#[path = "model/verdict.rs"]
mod verdict;

use identity::{DOTS_ARE_UNIQUE, Fault, Identity, NOTHING_IS_MASKED, Rule};
use verdict::{assert_holds, assert_refuted};

const LOST_TAIL: &[Fault] = &[Fault::LostTail];
const ROLLED_BACK: &[Fault] = &[Fault::RolledBack];
const CLONED: &[Fault] = &[Fault::Cloned];

fn identity(rule: Rule, faults: &'static [Fault]) -> Identity {
    Identity { rule, faults, writes: 3, openings: 3 }
}

#[test]
fn a_new_actor_for_each_opening_names_every_write_once() {
    let all = &[Fault::LostTail, Fault::RolledBack, Fault::Cloned];
    let any_fault = Identity { writes: 2, ..identity(Rule::NewActor, all) };
    let one_clone = Identity { openings: 2, ..identity(Rule::NewActor, CLONED) };

    assert_holds("new actor, any faults", any_fault);
    assert_holds("new actor, lost tails", identity(Rule::NewActor, LOST_TAIL));
    assert_holds("new actor, roll-backs", identity(Rule::NewActor, ROLLED_BACK));
    assert_holds("new actor, a clone", one_clone);
}

#[test]
fn a_stored_actor_masks_a_later_write() {
    for (fault, faults) in [("tail", LOST_TAIL), ("roll-back", ROLLED_BACK), ("clone", CLONED)] {
        let stored = identity(Rule::StoredActor, faults);

        assert_refuted(&format!("stored actor, {fault}"), &stored, NOTHING_IS_MASKED);
        assert_refuted(&format!("stored actor, {fault}"), &stored, DOTS_ARE_UNIQUE);
    }
}

#[test]
fn asking_a_peer_does_not_mend_a_stored_actor() {
    for (fault, faults) in [("tail", LOST_TAIL), ("roll-back", ROLLED_BACK), ("clone", CLONED)] {
        let asking = identity(Rule::StoredUnlessPeerKnowsMore, faults);

        assert_refuted(&format!("a peer is asked, {fault}"), &asking, NOTHING_IS_MASKED);
        assert_refuted(&format!("a peer is asked, {fault}"), &asking, DOTS_ARE_UNIQUE);
    }
}
