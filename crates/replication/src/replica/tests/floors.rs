//! Floors of dead counter cells: kept while an increment may be under way,
//! dropped when none can be.

use coppice_crdt::{CrdtType, Operation, VersionVector};

use super::node::{Node, at};
use super::wires::{connect, cut, exchange, flow, flow_but, run, wire_up};
use super::{LINK, LinkId};
use crate::message::Message;
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

#[test]
fn a_floor_stays_until_all_that_its_owner_had_issued_by_its_report_is_here() {
    let (mut a, mut b) = pair();
    a.write(KEY, Operation::Increment { by: 5 }, at(1));
    exchange(&mut a, &mut b, at(1));
    b.write(KEY, Operation::Delete, at(2));
    a.write(KEY, Operation::Increment { by: 3 }, at(2));
    // The owner hears of the removal and says so; its increment is late.
    let mut late = Vec::new();
    for ms in [3, 200, 400, 600] {
        a.send_log(at(ms));
        b.send_log(at(ms));
        for (link, frame) in std::mem::take(&mut b.sent) {
            a.replica.receive(link, &frame, at(ms));
        }
        a.work(at(ms));
        for (link, frame) in std::mem::take(&mut a.sent) {
            match Message::decode(&frame) {
                Ok(Message::Delta(_)) => late.push((link, frame)),
                _ => b.replica.receive(link, &frame, at(ms)),
            }
        }
        b.work(at(ms));
        a.drop_floors(at(ms));
        b.drop_floors(at(ms));
    }
    assert!(!late.is_empty() && b.sum(KEY) == 0, "the increment has to be under way");
    let knows = b.replica.members.get(&a.replica.identity.opening);
    let knows = knows.is_some_and(|owner| {
        b.replica.visible().iter().all(|(actor, n)| owner.seen.get(&actor) >= n)
    });
    assert!(knows, "the owner has to report that it knows of the removal");
    assert_eq!(b.dead_cells().len(), 1, "an increment that had not seen the removal is to come");
    for (link, frame) in late {
        b.replica.receive(link, &frame, at(700));
    }
    b.work(at(700));
    settle(&mut a, &mut b, 700);
    assert_eq!((a.sum(KEY), b.sum(KEY)), (3, 3), "not 8: the 5 were removed");
}

#[test]
fn no_floor_goes_while_a_repair_is_under_way() {
    let (mut a, mut b) = pair();
    a.write(KEY, Operation::Increment { by: 5 }, at(1));
    exchange(&mut a, &mut b, at(1));
    b.write(KEY, Operation::Delete, at(2));
    exchange(&mut a, &mut b, at(3));
    // What a repair brought stands in some places and is not in the vector yet.
    let owner = a.replica.identity.opening;
    b.replica.repair.merged.raise(owner, 1_000);
    settle(&mut a, &mut b, 3);
    b.replica.tick(at(500));
    assert_eq!(b.replica.settled_owners(), [], "amounts may be here that the vector lacks");
    b.replica.repair.merged = VersionVector::new();
    assert_eq!(b.replica.settled_owners(), [], "nothing was settled meanwhile");
    b.replica.tick(at(600));
    assert_eq!(b.replica.settled_owners().len(), 1, "it is once the repair is over");
    b.replica.repair.merged.raise(owner, 1_000);
    assert_eq!(b.replica.settled_owners(), [], "nor is what was settled before cleared");
}

const OTHER: &str = "other";

/// More records than stand between two checkpoints of a log.
const STRETCH: usize = 130;

fn three() -> Vec<Node> {
    (1..=3).map(|number| Node::new(number, CrdtType::PNCounter)).collect()
}

fn pad(node: &mut Node, ms: u64) {
    for _ in 0..STRETCH {
        node.write(OTHER, Operation::Increment { by: 1 }, at(ms));
    }
}

#[test]
fn only_a_cells_last_death_lets_its_floor_go() {
    let (mut a, mut b) = pair();
    a.write(KEY, Operation::Increment { by: 5 }, at(1));
    exchange(&mut a, &mut b, at(1));
    b.write(KEY, Operation::Delete, at(2));
    a.write(KEY, Operation::Increment { by: 3 }, at(2));
    pad(&mut b, 2);
    exchange(&mut a, &mut b, at(3));
    assert_eq!((a.sum(KEY), b.sum(KEY)), (3, 3), "it lives again");
    settle(&mut a, &mut b, 3);

    // The owner knows of the first removal, and not of the second.
    b.write(KEY, Operation::Delete, at(500));
    for ms in [550, 600, 650] {
        b.drop_floors(at(ms));
    }
    assert_eq!(b.dead_cells().len(), 1, "the first death's record is of no use any more");
    a.write(KEY, Operation::Increment { by: 2 }, at(700));
    exchange(&mut a, &mut b, at(700));
    settle(&mut a, &mut b, 700);
    assert_eq!((a.sum(KEY), b.sum(KEY)), (2, 2), "not 10: the floor went with the first death");
    assert_eq!(a.replica.digest(), b.replica.digest());

    b.write(KEY, Operation::Delete, at(2_000));
    exchange(&mut a, &mut b, at(2_000));
    settle(&mut a, &mut b, 2_000);
    b.drop_floors(at(3_000));
    assert!(b.dead_cells().is_empty() && !is_stored(&b), "the last death is known to its owner");
}

#[test]
fn a_removal_of_more_of_a_dead_cell_counts_as_its_death() {
    const A: usize = 0;
    const B: usize = 1;
    const C: usize = 2;
    let mut nodes = three();
    let all = [(A, B, LinkId(1)), (A, C, LinkId(2)), (B, C, LinkId(3))];
    wire_up(&mut nodes, &all, at(0));
    nodes[A].write(KEY, Operation::Increment { by: 5 }, at(1));
    flow(&mut nodes, &all, at(1));
    cut(&mut nodes, &all);

    // C saw all 8 when it removed them, B only 5.
    nodes[B].write(KEY, Operation::Delete, at(2));
    pad(&mut nodes[B], 2);
    nodes[A].write(KEY, Operation::Increment { by: 3 }, at(2));
    let to_c = [(A, C, LinkId(4))];
    wire_up(&mut nodes, &to_c, at(3));
    cut(&mut nodes, &to_c);
    nodes[C].write(KEY, Operation::Delete, at(4));

    // The owner hears of B's removal; what it sends is lost but for its report.
    let to_b = [(A, B, LinkId(5))];
    for ms in [10, 200, 400, 600] {
        if ms == 10 {
            for (node, dialled) in [(A, true), (B, false)] {
                nodes[node].replica.link_up(LinkId(5), dialled, at(ms));
                nodes[node].commit(at(ms));
            }
        }
        for node in [A, B] {
            nodes[node].drop_floors(at(ms));
        }
        let lost = |from, message: &Message| from == A && matches!(message, Message::Delta(_));
        flow_but(&mut nodes, &to_b, at(ms), lost);
    }
    cut(&mut nodes, &to_b);
    assert_eq!((nodes[A].sum(KEY), nodes[B].sum(KEY)), (3, 0));

    // From C comes what the owner had issued, with the removal of all of it.
    let bc = [(B, C, LinkId(6))];
    wire_up(&mut nodes, &bc, at(700));
    run(&mut nodes, &bc, 800..=2_000);
    cut(&mut nodes, &bc);
    assert_eq!(nodes[B].sum(KEY), 0);

    nodes[A].write(KEY, Operation::Increment { by: 2 }, at(2_100));
    let last = [(A, B, LinkId(7)), (B, C, LinkId(8))];
    wire_up(&mut nodes, &last, at(2_200));
    run(&mut nodes, &last, 2_300..=20_000);
    for node in &nodes {
        assert_eq!(node.sum(KEY), 2, "not 10: the owner had not heard of C's removal");
        assert_eq!(node.dead_cells().len(), 0);
    }
}

#[test]
fn floors_do_not_pile_up_under_traffic_that_never_pauses() {
    let (mut a, mut b) = pair();
    let mut most = 0;
    for round in 0..1_500 {
        let (ms, key) = (10 + round * 20, format!("counter {}", round % 11));
        a.write(&key, Operation::Increment { by: 1 }, at(ms));
        exchange(&mut a, &mut b, at(ms));
        // When time passes, the owner never knows all that is here, and issued
        // something that is not here.
        b.write(&key, Operation::Delete, at(ms));
        a.write(OTHER, Operation::Increment { by: 1 }, at(ms));
        b.drop_floors(at(ms));
        a.replica.tick(at(ms));
        most = most.max(b.dead_cells().len());
    }
    assert!(most <= 2 * 64 + 20, "{most} floors of 1500 removals are kept");
    assert!(most > 10, "{most} floors: nothing was tried");
}

#[test]
fn a_floor_goes_where_its_owner_is_only_heard_of_through_others() {
    let mut nodes = three();
    let chain = [(0, 1, LinkId(1)), (1, 2, LinkId(2))];
    wire_up(&mut nodes, &chain, at(0));
    nodes[0].write(KEY, Operation::Increment { by: 5 }, at(1));
    run(&mut nodes, &chain, 100..=1_000);
    nodes[2].write(KEY, Operation::Delete, at(1_100));
    assert_eq!(nodes[2].dead_cells().len(), 1);
    run(&mut nodes, &chain, 1_200..=1_400);
    assert_eq!(nodes[2].dead_cells().len(), 1, "the owner's report cannot be here yet");
    run(&mut nodes, &chain, 1_500..=6_000);
    for node in &nodes {
        assert!(node.dead_cells().is_empty() && !is_stored(node));
    }
}
