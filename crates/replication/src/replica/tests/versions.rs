//! Peers that speak another version of the protocol.

use coppice_crdt::CrdtType;

use super::node::{Node, at};
use super::{CloseReason, LINK, add};
use crate::message::{Hello, Message, OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION};

/// A node, and the Hello of a peer that has not sent it yet.
fn before_hello() -> (Node, Hello) {
    let (mut here, mut there) = (Node::new(1, CrdtType::ORSet), Node::new(2, CrdtType::ORSet));
    for node in [&mut here, &mut there] {
        node.replica.link_up(LINK, true, at(0));
        node.commit(at(0));
    }
    let (_, frame) = there.sent.pop_front().expect("a Hello is sent at once");
    match Message::decode(&frame) {
        Ok(Message::Hello(hello)) => (here, hello),
        other => panic!("{other:?} instead of a Hello"),
    }
}

fn receive(here: &mut Node, frame: &[u8]) {
    here.replica.receive(LINK, frame, at(1));
    here.commit(at(1));
}

#[test]
fn a_newer_peer_is_answered_in_our_version() {
    let (mut here, hello) = before_hello();
    let newer = PROTOCOL_VERSION + 8;
    let hello = Message::Hello(Hello { protocol: newer, ..hello });
    // Its Hello has more behind what is known of one.
    let mut frame = hello.encode_at(newer);
    frame.truncate(frame.len() - 4);
    frame.extend(b"fields of a later version");
    frame.extend(crc32c::crc32c(&frame).to_be_bytes());
    receive(&mut here, &frame);

    here.write("set", add("1"), at(2));
    here.send_log(at(2));
    here.replica.tick(at(1_500));
    here.commit(at(1_500));
    assert_eq!(here.closed, []);
    let versions: Vec<(u8, u8)> = here.sent.iter().map(|(_, frame)| (frame[0], frame[1])).collect();
    let v = PROTOCOL_VERSION;
    assert_eq!(versions, [(1, v), (2, v), (3, v)], "Hello, the write, and an answer");

    receive(&mut here, &Message::TooOld.encode_at(newer));
    let reason = CloseReason::UnsupportedVersion;
    assert_eq!(here.closed, [(LINK, reason)], "only a Hello may be newer than what we speak");
}

#[test]
fn a_peer_that_is_too_old_is_refused() {
    for (protocol, version) in [
        (OLDEST_PROTOCOL_VERSION - 1, PROTOCOL_VERSION),
        (PROTOCOL_VERSION, OLDEST_PROTOCOL_VERSION - 1),
    ] {
        let (mut here, hello) = before_hello();
        let hello = Message::Hello(Hello { protocol, ..hello });
        receive(&mut here, &hello.encode_at(version));
        assert_eq!(here.closed, [(LINK, CloseReason::UnsupportedVersion)]);
        assert_eq!(here.replica.members(), [], "who cannot be understood is no member");
    }
}
