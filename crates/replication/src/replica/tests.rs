//! Replicas over a store in memory: what is kept, and what passes between them.

mod beginnings;
mod exchanges;
mod floors;
mod gossip;
mod node;
mod parts;
mod removals;
mod repairs;
mod state;
mod stored;
mod versions;
mod wires;

use coppice_crdt::{ActorId, CrdtType, Element, Operation, RegisterWrite};

use super::*;
use crate::message::{Base, Delta, Message};
use crate::record::RecordKey;
use crate::unit::Cover;
use node::{NO_LIMITS, Node, at};
use stored::entries;
use wires::{connect, exchange};

const LINK: LinkId = LinkId(1);
const OTHER_LINK: LinkId = LinkId(2);

fn add(json: &str) -> Operation {
    Operation::Add { elements: vec![Element::parse(json.as_bytes()).unwrap()] }
}

fn remove(json: &str) -> Operation {
    Operation::Remove { elements: vec![Element::parse(json.as_bytes()).unwrap()] }
}

fn expiring(ttl_ms: u64) -> Operation {
    let bytes = Box::from(&b"v"[..]);
    Operation::Set(RegisterWrite { content_type: "text/plain".into(), bytes, ttl_ms: Some(ttl_ms) })
}

fn deadlines(node: &Node) -> Vec<u64> {
    let deadline = |key: &RecordKey| match key {
        RecordKey::Deadline(ms, _) => Some(*ms),
        _ => None,
    };
    node.records.keys().filter_map(deadline).collect()
}

/// Two nodes of a set group, linked, that have said hello.
fn pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::new(1, CrdtType::ORSet), Node::new(2, CrdtType::ORSet));
    connect(&mut a, &mut b, LINK, at(0));
    exchange(&mut a, &mut b, at(0));
    (a, b)
}

/// A node that lost its store beside one whose log was trimmed.
fn trimmed_source(number: u8, elements: usize) -> Node {
    let mut source = Node::new(number, CrdtType::ORSet);
    for element in 0..elements {
        source.write(&format!("set {}", element % 7), add(&format!("{element}")), at(0));
    }
    source.replica.set_settings(ReplicaSettings { log_bytes: 0, ..source.replica.settings });
    source.replica.tick(at(0));
    source.commit(at(0));
    assert!(source.replica.counters.trims > 0, "the log has to be too short");
    source
}

#[test]
fn a_refused_batch_leaves_the_deadline_of_a_register_as_it_was() {
    let mut node = Node::new(1, CrdtType::LWWRegister);
    node.write("k", expiring(1_000), at(0));
    let before = deadlines(&node);
    let refused = [("k".into(), expiring(9_000)), ("absent".into(), Operation::Delete)];
    node.submit(&refused, NO_LIMITS, at(1)).unwrap_err();
    node.write("other", expiring(50), at(2));
    let mut expected = before;
    expected.push(at(52).wall_ms);
    expected.sort_unstable();
    assert_eq!(deadlines(&node), expected);
    node.write("k", Operation::Delete, at(3));
    assert_eq!(deadlines(&node), [at(52).wall_ms], "the record of the first write is gone");
}

#[test]
fn a_refused_submission_writes_nothing() {
    let mut node = Node::new(1, CrdtType::ORSet);
    node.write("set", add("1"), at(0));
    let refused = [("set".into(), add("2")), ("absent".into(), Operation::Clear)];
    node.submit(&refused, NO_LIMITS, at(1)).unwrap_err();
    let limits = WriteLimits { elements: 1, ..NO_LIMITS };
    node.submit(&[("set".into(), add("3"))], limits, at(1)).unwrap_err();
    assert_eq!(node.commit(at(1)), 0);
}

#[test]
fn what_one_writes_the_other_gets() {
    let (mut a, mut b) = pair();
    a.write("set", add("1"), at(1));
    b.write("set", add("2"), at(1));
    exchange(&mut a, &mut b, at(1));
    assert_eq!(entries(&a.records), entries(&b.records));
    assert_eq!(a.replica.digest(), b.replica.digest());
    assert_eq!(a.replica.visible(), b.replica.visible());
}

#[test]
fn frames_that_brought_nothing_are_answered_soon() {
    let (mut a, mut b) = pair();
    a.write("set", add("1"), at(1));
    a.send_log(at(1));
    let (_, frame) = a.sent.pop_back().expect("a delta");
    b.replica.receive(LINK, &frame, at(1));
    b.work(at(1));
    b.sent.clear();
    b.replica.receive(LINK, &frame, at(2)); // As if by way of a third.
    b.work(at(2));
    b.replica.tick(at(200));
    b.commit(at(200));
    let acks = b.sent.iter().filter_map(|(_, frame)| match Message::decode(frame) {
        Ok(Message::Ack(ack)) => Some(ack.frames),
        _ => None,
    });
    assert_eq!(acks.max(), Some(2), "the sender's window would stay closed");
}

#[test]
fn a_frame_behind_one_that_is_not_yet_joined_is_no_gap() {
    let (mut a, mut b) = pair();
    for n in 0..4 {
        a.write("set", add(&format!("{n}")), at(1));
        a.send_log(at(1));
    }
    let frames: Vec<_> = a.sent.drain(..).collect();
    let [first, second, third, fourth] = &frames[..] else { panic!("a frame each") };
    for (link, frame) in [first, second] {
        b.replica.receive(*link, frame, at(60));
    }
    b.work(at(60));
    // Later than a gap may last, but the wait of the second is over.
    for (link, frame) in [third, fourth] {
        b.replica.receive(*link, frame, at(170));
    }
    b.replica.tick(at(170));
    b.work(at(170));
    let wanted =
        |(_, frame): &(LinkId, Vec<u8>)| matches!(Message::decode(frame), Ok(Message::Want(_)));
    assert!(!b.sent.iter().any(wanted), "nothing was missing");
    assert_eq!(entries(&a.records), entries(&b.records));
}

#[test]
fn a_gap_is_asked_for_and_mended() {
    let (mut a, mut b) = pair();
    let mut origin = Node::new(3, CrdtType::ORSet);
    connect(&mut origin, &mut b, OTHER_LINK, at(0));
    exchange(&mut origin, &mut b, at(0));
    b.replica.tick(at(1_100));
    b.commit(at(1_100));
    exchange(&mut a, &mut b, at(1_100));
    connect(&mut origin, &mut a, LinkId(3), at(1_100));
    // The origin's write reaches only `a`, which expects it to reach `b` as well.
    origin.write("set", add("1"), at(1_100));
    origin.sent.retain(|(link, _)| *link == LinkId(3));
    exchange(&mut origin, &mut a, at(1_100));
    a.write("set", add("2"), at(1_100));
    exchange(&mut a, &mut b, at(1_100));
    assert!(entries(&b.records).is_empty(), "a's write may have seen the origin's");
    b.replica.tick(at(1_250));
    b.commit(at(1_250));
    exchange(&mut a, &mut b, at(1_250));
    assert_eq!(entries(&b.records).len(), 3, "two elements and the existence");
    assert_eq!(entries(&a.records), entries(&b.records));
}

#[test]
fn nobody_else_makes_this_openings_writes() {
    let (mut a, mut b) = pair();
    let own = ActorId::from_bytes([2; 16]);
    let unit =
        Unit { covers: vec![Cover { actor: own, after: 0, upto: u64::MAX }], ..Unit::default() };
    let delta = Delta { epoch: 0, base: Base::Exact(VersionVector::new()), unit };
    b.replica.receive(LINK, &Message::Delta(delta).encode(), at(1));
    b.commit(at(1));
    assert_eq!(b.closed, [(LINK, CloseReason::DamagedUnit)]);
    b.write("set", add("1"), at(1));
    a.commit(at(1));
}

#[test]
fn a_unit_that_adds_what_it_does_not_claim_is_damaged() {
    let (mut a, mut b) = pair();
    a.write("set", add("1"), at(1));
    a.send_log(at(1));
    let (_, frame) = a.sent.pop_back().expect("a delta");
    let Ok(Message::Delta(mut delta)) = Message::decode(&frame) else { panic!("a delta") };
    delta.unit.covers[0].actor = ActorId::from_bytes([7; 16]);
    b.replica.receive(LINK, &Message::Delta(delta).encode(), at(1));
    b.commit(at(1));
    assert_eq!(b.closed, [(LINK, CloseReason::DamagedUnit)]);
}

#[test]
fn runs_that_cannot_be_counted_do_no_harm() {
    let (_, mut b) = pair();
    let run = |byte| Cover { actor: ActorId::from_bytes([byte; 16]), after: 0, upto: u64::MAX };
    let unit = Unit { covers: vec![run(7), run(8)], ..Unit::default() };
    let delta = Delta { epoch: 0, base: Base::Exact(VersionVector::new()), unit };
    b.replica.receive(LINK, &Message::Delta(delta).encode(), at(1));
    b.work(at(1));
}

/// Many elements, more than a removal looks at one by one.
fn many(from: usize, to: usize) -> Operation {
    let element = |n: usize| Element::parse(n.to_string().as_bytes()).unwrap();
    Operation::Add { elements: (from..to).map(element).collect() }
}

#[test]
fn an_add_of_what_is_being_swept_stays() {
    let mut node = Node::new(1, CrdtType::ORSet);
    node.write("set", many(0, 1_500), at(0));
    node.submit(&[("set".into(), Operation::Clear)], NO_LIMITS, at(1)).unwrap();
    node.commit(at(1));
    assert_eq!(entries(&node.records).len(), 1, "the existence");
    assert!(node.records.len() > 1_500, "the elements are hidden, not yet deleted");
    node.after_commit();
    node.submit(&[("set".into(), many(0, 5))], NO_LIMITS, at(2)).unwrap();
    node.commit(at(2));
    assert_eq!(entries(&node.records).len(), 6);
    node.work(at(3));
    assert_eq!(entries(&node.records).len(), 6);
    assert!(node.records.len() < 50, "the rest is deleted");
    state::check(&node);
}

#[test]
fn a_large_removal_leaves_what_was_added_meanwhile() {
    let (mut a, mut b) = pair();
    a.write("set", many(0, 1_500), at(1));
    exchange(&mut a, &mut b, at(1));
    b.write("set", many(1_490, 1_510), at(2));
    a.write("set", Operation::Clear, at(2));
    exchange(&mut a, &mut b, at(2));
    for node in [&mut a, &mut b] {
        node.work(at(3));
        assert_eq!(entries(&node.records).len(), 21, "twenty elements and the existence");
        state::check(node);
    }
    assert_eq!(a.replica.digest(), b.replica.digest());
}

#[test]
fn an_empty_replica_is_repaired_while_it_writes() {
    let mut source = trimmed_source(1, 100);
    let mut empty = Node::new(2, CrdtType::ORSet);
    empty.write("own", add("\"mine\""), at(0));
    connect(&mut source, &mut empty, LINK, at(0));
    exchange(&mut source, &mut empty, at(0));
    assert_eq!(empty.replica.counters.repairs_completed, 1);
    assert!(!empty.replica.is_under_repair());
    exchange(&mut source, &mut empty, at(1));
    assert_eq!(entries(&source.records), entries(&empty.records));
    assert_eq!(source.replica.digest(), empty.replica.digest());
}

#[test]
fn what_was_removed_meanwhile_stays_removed_when_a_source_is_lost() {
    let mut first = trimmed_source(1, 100);
    let mut second = Node::open(3, CrdtType::ORSet, first.records.clone());
    let mut empty = Node::new(2, CrdtType::ORSet);
    connect(&mut first, &mut empty, LINK, at(0));
    // Some parts come, then the source is gone.
    for _ in 0..60 {
        let to_first = std::mem::take(&mut empty.sent);
        for (link, frame) in to_first {
            first.replica.receive(link, &frame, at(0));
        }
        first.work(at(0));
        first.commit(at(0));
        for (link, frame) in std::mem::take(&mut first.sent) {
            empty.replica.receive(link, &frame, at(0));
        }
        empty.work(at(0));
    }
    let here = entries(&empty.records);
    assert!(empty.replica.is_under_repair() && !here.is_empty(), "it has to be half-way");
    let (key, name, _) = &here[0];
    let json = std::str::from_utf8(&name.as_bytes()[1..]).unwrap();
    let gone = if name.part() == coppice_crdt::Part::Existence { "0" } else { json };
    empty.submit(&[(key.clone(), remove(gone))], NO_LIMITS, at(1)).unwrap();
    empty.replica.link_down(LINK);
    empty.commit(at(1));
    let removed: Vec<_> = entries(&empty.records);

    connect(&mut second, &mut empty, OTHER_LINK, at(2));
    exchange(&mut second, &mut empty, at(2));
    for ms in [200, 2_500, 5_000] {
        for node in [&mut second, &mut empty] {
            node.replica.tick(at(ms));
            node.commit(at(ms));
        }
        exchange(&mut second, &mut empty, at(ms));
    }
    assert!(!empty.replica.is_under_repair());
    assert_eq!(entries(&second.records), entries(&empty.records));
    let lost = here.iter().filter(|entry| !removed.contains(entry));
    for (key, name, entry) in lost {
        let back = entries(&empty.records).contains(&(key.clone(), name.clone(), entry.clone()));
        assert!(!back, "a local removal during repair comes back");
    }
}

#[test]
fn a_batch_is_not_begun_again_for_each_record_it_waits_for() {
    const FIELDS: u64 = 200;
    let mut node = Node::new(1, CrdtType::ORMap);
    let count = |field: u64| Operation::Update {
        field: format!("field {field}").into(),
        crdt_type: CrdtType::PNCounter,
        operation: Box::new(Operation::Increment { by: 1 }),
    };
    let batch = |from: u64| -> Vec<_> {
        (from..from + FIELDS).map(|field| ("map".into(), count(field))).collect()
    };
    node.submit(&batch(0), NO_LIMITS, at(1)).unwrap();
    node.commit(at(1));
    node.forget_and_resume();
    let before = node.replica.clock.last().bits();
    node.submit(&batch(FIELDS), NO_LIMITS, at(1)).unwrap();
    node.commit(at(1));
    // Each run of an operation on a map takes a stamp.
    let runs = node.replica.clock.last().bits() - before;
    assert!(runs >= FIELDS, "{runs} runs: nothing was counted");
    assert!(runs <= 6 * FIELDS, "{runs} runs of {FIELDS} operations");
}

#[test]
fn what_is_joined_of_a_unit_stays_joined_while_the_rest_is_loaded() {
    const SETS: [&str; 3] = ["one", "three", "two"];
    let (mut a, mut b) = pair();
    for key in SETS {
        a.write(key, many(0, 200), at(1));
    }
    exchange(&mut a, &mut b, at(1));
    let clear = SETS.map(|key| (key.into(), Operation::Clear));
    a.submit(&clear, NO_LIMITS, at(2)).unwrap();
    a.commit(at(2));
    a.write("one", add("7"), at(2));
    a.send_log(at(2));
    for (link, frame) in std::mem::take(&mut a.sent) {
        b.replica.receive(link, &frame, at(2));
    }

    // Each set is looked through: it is loaded once it is its turn.
    let mut joined = Vec::new();
    loop {
        match b.replica.step(at(2)) {
            Ok(true) => {}
            Ok(false) => break,
            Err(missing) => {
                if let crate::Read::Scan(key, _) = &missing.0 {
                    joined.push((key.to_string(), b.replica.joined_objects));
                }
                b.supply(missing);
            }
        }
    }
    let expected = SETS.iter().enumerate().map(|(at, key)| ((*key).to_owned(), at));
    assert_eq!(joined, expected.collect::<Vec<_>>());
    b.commit(at(2));
    // The next unit is joined from its first object on.
    assert_eq!(entries(&b.records), entries(&a.records));
    assert_eq!(a.replica.digest(), b.replica.digest());
    state::check(&b);
}
