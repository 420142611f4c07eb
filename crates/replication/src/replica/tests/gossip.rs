//! Members that are only heard of through others: who knows of whom, what it
//! decides, and how much is said.

use coppice_crdt::{ActorId, CrdtType, VersionVector};

use super::node::{Node, at};
use super::wires::{Wire, cut, flow, flow_but, run, wire_up};
use super::{CloseReason, LINK, LinkId, add};
use crate::message::{MemberReport, Message};

const CHAIN: [Wire; 2] = [(0, 1, LinkId(1)), (1, 2, LinkId(2))];

fn three() -> Vec<Node> {
    (1..=3).map(|number| Node::new(number, CrdtType::ORSet)).collect()
}

fn chain() -> Vec<Node> {
    let mut nodes = three();
    wire_up(&mut nodes, &CHAIN, at(0));
    run(&mut nodes, &CHAIN, 100..=3_000);
    nodes
}

/// The members a node knows: their number in their opening's id, whether they
/// said hello, and what they lack.
fn known(node: &Node) -> Vec<(u8, bool, u64)> {
    let members = node.replica.members().into_iter();
    let about =
        members.map(|view| (view.opening.as_bytes()[0], view.member.said_hello, view.lag_deltas));
    about.collect()
}

fn actor(n: u64) -> ActorId {
    ActorId::from_bytes((u128::from(n) | 7 << 120).to_be_bytes())
}

fn report(opening: ActorId, durable: VersionVector) -> MemberReport {
    MemberReport {
        opening,
        store: *opening.as_bytes(),
        opening_number: 1,
        name: "someone".into(),
        report: 1,
        age_ms: 0,
        issued: 0,
        durable,
    }
}

#[test]
fn members_are_known_beyond_links_with_what_they_have() {
    let mut nodes = chain();
    assert_eq!(known(&nodes[0]), [(2, true, 0), (3, false, 0)]);
    assert_eq!(known(&nodes[2]), [(1, false, 0), (2, true, 0)]);

    cut(&mut nodes, &CHAIN[1..]);
    nodes[0].write("set", add("1"), at(3_000));
    run(&mut nodes, &CHAIN[..1], 3_100..=6_000);
    assert_eq!(known(&nodes[0]), [(2, true, 0), (3, false, 1)]);
    let silent_ms = nodes[0].replica.members()[1].member.silent_ms(6_000);
    assert!(
        (3_000..=6_000).contains(&silent_ms),
        "it was last heard by another, {silent_ms} ms ago"
    );

    let again = [CHAIN[0], (1, 2, LinkId(3))];
    wire_up(&mut nodes, &again[1..], at(6_100));
    run(&mut nodes, &again, 6_200..=9_000);
    assert_eq!(known(&nodes[0]), [(2, true, 0), (3, false, 0)]);
}

#[test]
fn the_log_waits_for_members_beyond_links() {
    let mut nodes = chain();
    cut(&mut nodes, &CHAIN[1..]);
    for n in 0..300 {
        nodes[0].write("set", add(&n.to_string()), at(3_000));
    }
    run(&mut nodes, &CHAIN[..1], 3_100..=6_000);
    assert_eq!(nodes[0].replica.log.first_seq(), 0, "the last of the chain may come here");

    let again = [CHAIN[0], (1, 2, LinkId(3))];
    wire_up(&mut nodes, &again[1..], at(6_100));
    run(&mut nodes, &again, 6_200..=9_000);
    assert!(nodes[0].replica.log.first_seq() > 200, "everybody has it on disk");
}

#[test]
fn an_opening_that_is_gone_is_forgotten_by_all() {
    let mut nodes = chain();
    cut(&mut nodes, &CHAIN[1..]);
    let records = std::mem::take(&mut nodes[2].records);
    let mut later = Node::open(4, CrdtType::ORSet, records);
    later.replica.identity.store = [3; 16];
    later.replica.identity.opening_number = 2;
    nodes[2] = later;
    let again = [CHAIN[0], (1, 2, LinkId(3))];
    wire_up(&mut nodes, &again[1..], at(3_100));
    run(&mut nodes, &again, 3_200..=10_000);
    for (at, expected) in [(0, [2, 4]), (1, [1, 4]), (2, [1, 2])] {
        let openings: Vec<u8> = known(&nodes[at]).into_iter().map(|(number, ..)| number).collect();
        assert_eq!(openings, expected);
    }
}

#[test]
fn who_has_links_with_everybody_tells_nothing() {
    let mut nodes = three();
    let mesh = [CHAIN[0], CHAIN[1], (0, 2, LinkId(3))];
    wire_up(&mut nodes, &mesh, at(0));
    let mut told = 0;
    for ms in (100..20_000).step_by(100) {
        for (n, node) in nodes.iter_mut().enumerate() {
            node.write("set", add(&format!("{n}")), at(ms));
            node.drop_floors(at(ms));
        }
        flow_but(&mut nodes, &mesh, at(ms), |_, message| {
            told += u64::from(matches!(message, Message::Members(_)));
            false
        });
    }
    assert_eq!(told, 0);
}

#[test]
fn each_frame_is_bounded_and_all_is_told_in_turns() {
    let mut nodes = chain();
    // Long vectors of many members, as from another neighbour of the first.
    let members = (1..=300).map(|n| {
        let durable = (0..n).map(|of| (actor(10_000 + of), n)).collect();
        report(actor(n), durable)
    });
    let members: Vec<MemberReport> = members.collect();
    for some in members.chunks(100) {
        nodes[1].replica.receive(CHAIN[0].2, &Message::Members(some.to_vec()).encode(), at(3_000));
    }
    nodes[1].commit(at(3_000));
    let mut frames = Vec::new();
    for ms in (4_000..120_000).step_by(100) {
        nodes[1].drop_floors(at(ms));
        nodes[2].drop_floors(at(ms));
        flow_but(&mut nodes, &CHAIN, at(ms), |from, message| {
            let of_many = |reports: &[MemberReport]| {
                reports.iter().any(|told| members.iter().any(|of| of.opening == told.opening))
            };
            if let (1, Message::Members(reports)) = (from, message)
                && of_many(reports)
            {
                frames.push((ms, message.encode().len()));
            }
            false
        });
        if nodes[2].replica.members().len() == 302 {
            break;
        }
    }
    let largest = frames.iter().map(|(_, bytes)| *bytes).max();
    assert!(largest.is_some_and(|bytes| bytes < 40 << 10), "{largest:?} bytes in a frame");
    assert!(frames.is_sorted_by(|a, b| a.0 + 1_000 <= b.0), "more than a frame a second");
    for told in &members {
        let known = nodes[2].replica.members.get(&told.opening).expect("it was told of");
        assert_eq!(known.durable, told.durable);
    }
    flow(&mut nodes, &CHAIN, at(120_000));
}

#[test]
fn a_long_vector_is_told_in_pieces() {
    let mut nodes = chain();
    let durable: VersionVector = (0..2_000).map(|of| (actor(10_000 + of), 5)).collect();
    let told = MemberReport { issued: 9, ..report(actor(1), durable.clone()) };
    nodes[1].replica.receive(CHAIN[0].2, &Message::Members(vec![told]).encode(), at(3_000));
    let here = |node: &Node| node.replica.members.get(&actor(1)).map(|far| far.seen.clone());
    for ms in (3_100..4_300).step_by(100) {
        if here(&nodes[2]).is_none() {
            run(&mut nodes, &CHAIN, ms..=ms);
        }
    }
    let first = here(&nodes[2]).expect("a piece was told");
    assert!(first.len() < 1_000 && first.get(&actor(1)) == 9, "each piece says what was issued");
    run(&mut nodes, &CHAIN, 4_300..=9_000);
    assert_eq!(nodes[2].replica.members.get(&actor(1)).map(|far| &far.durable), Some(&durable));
}

#[test]
fn nobody_has_what_this_replica_never_wrote() {
    let mut nodes = chain();
    let own = nodes[1].replica.identity.opening;
    let claim = report(actor(1), [(own, 3)].into_iter().collect());
    nodes[1].replica.receive(LINK, &Message::Members(vec![claim]).encode(), at(3_000));
    nodes[1].commit(at(3_000));
    assert_eq!(nodes[1].closed, [(LINK, CloseReason::DamagedUnit)]);
}

#[test]
fn nobody_tells_a_replica_of_itself() {
    let mut nodes = chain();
    let own = nodes[1].replica.identity.opening;
    let before = known(&nodes[1]);
    let told = MemberReport { report: 99, ..report(own, VersionVector::new()) };
    nodes[1].replica.receive(LINK, &Message::Members(vec![told]).encode(), at(3_000));
    assert_eq!(known(&nodes[1]), before, "it would keep the log for itself");
}
