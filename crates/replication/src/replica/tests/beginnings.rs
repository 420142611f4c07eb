//! When a removal in steps may begin: over a store that holds all that is known,
//! one at a time, and not while too much is hidden.

use coppice_crdt::RemovalLimits;

use super::*;
use crate::unit::ObjectKey;
use crate::working_set::RemovalPace;

fn increment(field: &str) -> Operation {
    Operation::Update {
        field: field.into(),
        crdt_type: CrdtType::PNCounter,
        operation: Box::new(Operation::Increment { by: 3 }),
    }
}

/// A map with more counters than one unit may take.
fn node() -> Node {
    let mut node = Node::new(1, CrdtType::ORMap);
    let limits = RemovalLimits { cells: 1, ..RemovalLimits::default() };
    node.replica.set.pace = RemovalPace { limits, entries_per_part: 1, ..RemovalPace::default() };
    for field in ["a", "b", "c"] {
        node.write("map", increment(field), at(0));
    }
    node
}

fn begins(node: &mut Node) -> bool {
    let key: ObjectKey = "map".into();
    loop {
        match node.replica.begin_removal(&key, &Operation::Delete) {
            Ok(begun) => return begun,
            Err(missing) => node.supply(missing),
        }
    }
}

#[test]
fn it_waits_for_what_is_not_committed() {
    let mut node = node();
    node.submit(&[("map".into(), increment("d"))], NO_LIMITS, at(1)).unwrap();
    assert!(!begins(&mut node), "it reads the store, which lacks what it is to take");
    node.commit(at(1));
    assert!(begins(&mut node));
}

#[test]
fn it_waits_for_the_one_under_way() {
    let mut node = node();
    assert!(begins(&mut node));
    assert!(!begins(&mut node), "the first one would be forgotten half-way");
    assert_eq!(node.replica.removal_units(), Some(0), "that is still under way");
}

#[test]
fn it_waits_until_less_is_hidden() {
    let mut node = node();
    node.replica.set.pace = RemovalPace {
        few_entries: 4,
        entries_per_step: 4,
        hidden_ranges: 1,
        ..node.replica.set.pace
    };
    let elements = (0..200).map(|n| Element::parse(n.to_string().as_bytes()).unwrap()).collect();
    let many = Operation::Update {
        field: "set".into(),
        crdt_type: CrdtType::ORSet,
        operation: Box::new(Operation::Add { elements }),
    };
    node.write("map", many, at(1));
    node.write("map", Operation::RemoveField { field: "set".into() }, at(2));
    assert!(node.replica.has_sweeps(), "something has to be hidden");
    assert!(!begins(&mut node), "each read looks at all that is hidden");
    while node.replica.has_sweeps() {
        node.after_commit();
        node.commit(at(3));
    }
    assert!(begins(&mut node));
}
