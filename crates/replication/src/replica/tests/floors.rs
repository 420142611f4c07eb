//! Floors of dead counter cells: kept while an increment may be under way,
//! dropped when none can be.

use coppice_crdt::{CrdtType, Operation};

use super::LINK;
use super::node::{Node, at, connect, exchange};
use crate::record::RecordKey;

const KEY: &str = "home";

fn pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::new(1, CrdtType::PNCounter), Node::new(2, CrdtType::PNCounter));
    connect(&mut a, &mut b, LINK, at(0));
    exchange(&mut a, &mut b, at(0));
    (a, b)
}

/// Lets both answer each other, so that each knows what the other has.
fn settle(a: &mut Node, b: &mut Node, ms: u64) {
    for ms in [ms + 200, ms + 400] {
        a.replica.tick(at(ms));
        b.replica.tick(at(ms));
        a.commit(at(ms));
        b.commit(at(ms));
        exchange(a, b, at(ms));
    }
}

fn is_stored(node: &Node) -> bool {
    node.records.keys().any(|key| matches!(key, RecordKey::Object(id) if &*id.key == KEY))
}

#[test]
fn nothing_is_left_of_a_deleted_counter_once_its_owner_knows() {
    let (mut a, mut b) = pair();
    a.write(KEY, Operation::Increment { by: 5 }, at(1));
    exchange(&mut a, &mut b, at(1));
    b.write(KEY, Operation::Delete, at(2));
    assert_eq!(b.dead_cells().len(), 1, "an increment may be under way");

    b.drop_floors(at(2));
    assert_eq!(b.dead_cells().len(), 1, "the owner did not report to know of the removal");

    exchange(&mut a, &mut b, at(3));
    assert!(!is_stored(&a), "an own cell goes as soon as it is dead");
    settle(&mut a, &mut b, 3);
    b.drop_floors(at(500));
    assert_eq!(b.dead_cells().len(), 0);
    assert!(!is_stored(&b), "the floor was all that was left");
    assert_eq!(a.replica.digest(), b.replica.digest());
}

#[test]
fn a_floor_stays_while_an_increment_of_its_owner_is_under_way() {
    let (mut a, mut b) = pair();
    a.write(KEY, Operation::Increment { by: 5 }, at(1));
    exchange(&mut a, &mut b, at(1));
    // Concurrent: the removal sees 5, the increment does not see the removal.
    b.write(KEY, Operation::Delete, at(2));
    a.write(KEY, Operation::Increment { by: 3 }, at(2));
    b.drop_floors(at(2));
    exchange(&mut a, &mut b, at(3));
    settle(&mut a, &mut b, 3);
    b.drop_floors(at(500));

    for node in [&mut a, &mut b] {
        assert_eq!(node.replica.totals().objects, 1);
        let sum = node.sum(KEY);
        assert_eq!(sum, 3, "not 8: the 5 were removed; not 0: the 3 were not");
    }
    assert_eq!(a.replica.digest(), b.replica.digest());
}
