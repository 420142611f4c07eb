//! Exchanges that somebody waits for.

use super::*;

/// Two nodes of a set group that send only on their interval, linked.
fn lazy_pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::new(1, CrdtType::ORSet), Node::new(2, CrdtType::ORSet));
    for node in [&mut a, &mut b] {
        let settings = ReplicaSettings { eager: false, ..node.replica.settings };
        node.replica.set_settings(settings);
    }
    connect(&mut a, &mut b, LINK, at(0));
    exchange(&mut a, &mut b, at(0));
    for node in [&mut a, &mut b] {
        node.replica.tick(at(0)); // The first round; the next one is after the interval.
        node.commit(at(0));
    }
    exchange(&mut a, &mut b, at(0));
    (a, b)
}

fn traffic(node: &Node) -> Traffic {
    node.replica.members().first().expect("the other one").traffic
}

#[test]
fn an_exchange_brings_what_both_lack() {
    let (mut a, mut b) = lazy_pair();
    a.write("set", add("1"), at(1));
    b.write("set", add("2"), at(1));
    b.write("set", add("3"), at(1));
    exchange(&mut a, &mut b, at(1));
    assert_ne!(entries(&a.records), entries(&b.records), "the interval has not passed");

    let number = a.replica.exchange_now();
    a.commit(at(2));
    exchange(&mut a, &mut b, at(2));
    assert_eq!(entries(&a.records), entries(&b.records));
    assert_eq!(traffic(&a), Traffic { sent: 1, received: 2, exchanged: Some(number) });
    assert_eq!(traffic(&b).exchanged, None, "it asked for nothing");
}

#[test]
fn a_shorter_interval_takes_force_at_once() {
    let (mut a, mut b) = lazy_pair();
    a.write("set", add("1"), at(1));
    let mut rounds_at = |a: &mut Node, ms| {
        a.replica.tick(at(ms));
        a.commit(at(ms));
        exchange(a, &mut b, at(ms));
        b.records.is_empty() || entries(&b.records).is_empty()
    };
    assert!(rounds_at(&mut a, 1_000), "an interval of 5 s is under way");
    let settings = ReplicaSettings { interval_ms: 500, ..a.replica.settings };
    a.replica.set_settings(settings);
    assert!(!rounds_at(&mut a, 1_050), "the last round was over 500 ms ago");
}

#[test]
fn an_exchange_is_over_once_what_was_announced_is_here() {
    let (mut a, mut b) = lazy_pair();
    b.write("set", add("1"), at(1));
    let number = a.replica.exchange_now();
    a.commit(at(2));
    for (link, frame) in a.sent.drain(..) {
        b.replica.receive(link, &frame, at(2));
    }
    b.commit(at(2));
    let answer: Vec<_> = b.sent.drain(..).collect();
    for (link, frame) in answer {
        a.replica.receive(link, &frame, at(3));
    }
    a.commit(at(3));
    assert_eq!(traffic(&a).exchanged, None, "the answer announced a write that is on its way");
    exchange(&mut a, &mut b, at(4));
    assert_eq!(traffic(&a).exchanged, Some(number));
}

#[test]
fn an_exchange_before_the_first_hello_closes_the_link() {
    let mut node = Node::new(1, CrdtType::ORSet);
    node.replica.link_up(LINK, false, at(0));
    let ask = Message::Exchange(crate::Exchange { number: 1, answers: false });
    node.replica.receive(LINK, &ask.encode(), at(0));
    node.commit(at(0));
    assert_eq!(node.closed, [(LINK, CloseReason::UnexpectedMessage)]);
}
