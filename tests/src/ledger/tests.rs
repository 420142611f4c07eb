//! What a ledger concludes, and what it leaves open.

use std::collections::BTreeSet;

use coppice_crdt::CrdtType;
use serde_json::json;

use super::{Change, Existence, Expected, Fate, Issuer, Ledger, Target};

const EARLY: Issuer = Issuer { agent: 0, run: 0, epoch: 0, side: 0 };
const NEAR: Issuer = Issuer { agent: 0, run: 0, epoch: 1, side: 0 };
const FAR: Issuer = Issuer { agent: 1, run: 0, epoch: 1, side: 1 };

fn x() -> Target {
    Target::object("x")
}

/// A ledger of answered operations on one object, each before the next.
fn ledger(crdt_type: CrdtType, entries: &[(Issuer, Change)]) -> Ledger {
    let mut ledger = Ledger::new(crdt_type);
    for (issuer, change) in entries {
        let number = ledger.begin(*issuer, x(), change.clone());
        ledger.end(number, Fate::Acknowledged);
    }
    ledger
}

fn put() -> Change {
    Change::Put("e".into())
}

fn take() -> Change {
    Change::Take("e".into())
}

#[test]
fn a_delete_takes_the_amounts_that_it_saw() {
    let entries = [(EARLY, Change::Add(5)), (NEAR, Change::Delete), (FAR, Change::Add(3))];
    let expectation = ledger(CrdtType::PNCounter, &entries).expect(&x(), CrdtType::PNCounter);
    assert_eq!(expectation.expected, Expected::Counter { low: 3, high: 3 });
    assert_eq!(expectation.existence, Existence::Present);
    assert_eq!(expectation.contradiction(Some(&json!(3))), None);
    for wrong in [json!(8), json!(0)] {
        assert!(expectation.contradiction(Some(&wrong)).is_some());
    }
}

#[test]
fn an_add_that_a_remove_did_not_see_wins() {
    let entries = [(EARLY, put()), (NEAR, take()), (FAR, put())];
    let expectation = ledger(CrdtType::ORSet, &entries).expect(&x(), CrdtType::ORSet);
    assert!(expectation.is_decided());
    assert!(expectation.contradiction(Some(&json!([]))).is_some(), "the far add is lost");
    assert_eq!(expectation.contradiction(Some(&json!(["e"]))), None);
}

#[test]
fn a_removed_element_must_not_come_back() {
    let entries = [(EARLY, put()), (NEAR, take())];
    let expectation = ledger(CrdtType::ORSet, &entries).expect(&x(), CrdtType::ORSet);
    assert!(expectation.contradiction(Some(&json!(["e"]))).is_some());
    assert_eq!(expectation.existence, Existence::Open, "an emptied set exists");
}

#[test]
fn what_is_concurrent_without_a_cut_stays_open() {
    let mut ledger = ledger(CrdtType::ORSet, &[]);
    let added = ledger.begin(NEAR, x(), put());
    let removed = ledger.begin(Issuer { agent: 1, ..NEAR }, x(), take());
    ledger.end(added, Fate::Acknowledged);
    ledger.end(removed, Fate::Acknowledged);

    let expectation = ledger.expect(&x(), CrdtType::ORSet);

    assert!(!expectation.is_decided());
    for either in [json!([]), json!(["e"])] {
        assert_eq!(expectation.contradiction(Some(&either)), None);
    }
    assert!(expectation.contradiction(Some(&json!(["f"]))).is_some(), "nobody added that");
}

#[test]
fn an_unanswered_operation_is_settled_by_the_restart() {
    let mut ledger = ledger(CrdtType::ORSet, &[]);
    let added = ledger.begin(EARLY, x(), put());
    ledger.end(added, Fate::Unknown);
    let open = ledger.expect(&x(), CrdtType::ORSet).expected;
    let may: BTreeSet<_> = ["e".to_owned()].into();
    assert_eq!(open, Expected::Set { must: BTreeSet::new(), may });

    let removed = ledger.begin(Issuer { run: 1, ..EARLY }, x(), take());
    ledger.end(removed, Fate::Acknowledged);

    let expectation = ledger.expect(&x(), CrdtType::ORSet);
    assert!(expectation.contradiction(Some(&json!(["e"]))).is_some(), "the remove saw it");
}

#[test]
fn a_register_holds_a_write_that_no_later_one_replaced() {
    let write = |value: &str| Change::Write(value.into());
    let entries = [(EARLY, write("old")), (NEAR, write("near")), (FAR, write("far"))];
    let expectation = ledger(CrdtType::LWWRegister, &entries).expect(&x(), CrdtType::LWWRegister);
    assert_eq!(expectation.contradiction(Some(&json!("near"))), None);
    assert_eq!(expectation.contradiction(Some(&json!("far"))), None);
    assert!(expectation.contradiction(Some(&json!("old"))).is_some(), "both had seen it");
    assert!(expectation.contradiction(None).is_some(), "nobody removed it");
}

#[test]
fn an_enable_wins_over_a_disable_that_did_not_see_it() {
    let entries = [(NEAR, Change::Enable), (FAR, Change::Disable)];
    let expectation = ledger(CrdtType::EWFlag, &entries).expect(&x(), CrdtType::EWFlag);
    assert_eq!(expectation.expected, Expected::Flag(Some(true)));

    let entries = [(EARLY, Change::Enable), (FAR, Change::Disable)];
    let expectation = ledger(CrdtType::EWFlag, &entries).expect(&x(), CrdtType::EWFlag);
    assert_eq!(expectation.expected, Expected::Flag(Some(false)));
}

#[test]
fn removing_a_map_removes_its_fields() {
    let mut ledger = Ledger::new(CrdtType::ORMap);
    let (field, map) = (Target::field("x", "f"), x());
    for (issuer, target, change) in [
        (EARLY, field.clone(), Change::Add(4)),
        (FAR, field.clone(), Change::Add(1)),
        (NEAR, map, Change::Clear),
    ] {
        let number = ledger.begin(issuer, target, change);
        ledger.end(number, Fate::Acknowledged);
    }
    let expectation = ledger.expect(&field, CrdtType::PNCounter);
    assert_eq!(expectation.expected, Expected::Counter { low: 1, high: 1 });
    assert_eq!(ledger.conflicts(1), 1, "one operation on each side met the other");
}
