//! Frames on links that work: order, size, back-pressure, orderly ends.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::node::{Node, group, linked_pair, settings};
use crate::peer::{CloseReason, LinkEvent, MAX_FRAME_BYTES, PeerIdentity, SendError};

#[tokio::test]
async fn frames_travel_both_ways_in_order() {
    let (mut a, up_a, mut b, up_b) = linked_pair().await;
    assert!(up_a.dialled && !up_b.dialled);
    assert_eq!(up_a.remote, b.address().to_string());
    assert_eq!((up_a.group, up_b.group), (group("g"), group("g")));
    assert_eq!(up_a.identity, PeerIdentity::Insecure);

    for frame in ["one", "two", "three"] {
        up_a.outbound.try_send(frame.into()).unwrap();
        up_b.outbound.try_send(frame.into()).unwrap();
    }
    for frame in ["one", "two", "three"] {
        assert_eq!(a.frame().await, (up_a.link, frame.into()));
        assert_eq!(b.frame().await, (up_b.link, frame.into()));
    }
}

#[tokio::test]
async fn the_longest_frame_passes_and_a_longer_one_is_not_taken() {
    let (_a, up_a, mut b, up_b) = linked_pair().await;
    let longest = Bytes::from(vec![7; MAX_FRAME_BYTES]);

    up_a.outbound.try_send(longest.clone()).unwrap();
    assert_eq!(b.frame().await, (up_b.link, longest));

    let longer = Bytes::from(vec![7; MAX_FRAME_BYTES + 1]);
    assert_eq!(up_a.outbound.try_send(longer), Err(SendError::Length(MAX_FRAME_BYTES + 1)));
    assert_eq!(up_a.outbound.try_send(Bytes::new()), Err(SendError::Length(0)));
}

#[tokio::test]
async fn groups_share_one_connection_and_do_not_mix() {
    let mut b = Node::start(settings(), &["g", "h"]).await;
    let mut a = Node::start(settings(), &["g", "h"]).await;
    a.peers.replace([b.address()]);

    let at_b = [b.up().await, b.up().await];
    let remotes: BTreeSet<_> = at_b.iter().map(|up| up.remote.clone()).collect();
    assert_eq!(remotes.len(), 1, "one TCP connection carries both groups");
    for up in &[a.up().await, a.up().await] {
        up.outbound.try_send(Bytes::from(up.group.to_string())).unwrap();
        let (link, frame) = b.frame().await;
        let group = &at_b.iter().find(|up| up.link == link).unwrap().group;
        assert_eq!((group, frame), (&up.group, Bytes::from(up.group.to_string())));
    }
}

#[tokio::test]
async fn a_slow_reader_makes_the_sender_wait_and_not_grow() {
    const FRAME_BYTES: usize = 256 * 1024;
    let mut b = Node::start_with_mailbox(settings(), &["g"], 1).await;
    let mut a = Node::start(settings(), &["g"]).await;
    a.peers.replace([b.address()]);
    let up_a = a.up().await;
    let up_b = b.up().await;

    let mut sent = 0;
    loop {
        let frame = Bytes::from(vec![u8::try_from(sent % 251).unwrap(); FRAME_BYTES]);
        match up_a.outbound.try_send(frame) {
            Ok(()) => sent += 1,
            Err(SendError::Full) => {
                // The reader has stopped when room does not come any more.
                match timeout(Duration::from_millis(500), a.events.recv()).await {
                    Ok(event) => assert!(matches!(event, Some(LinkEvent::Room { .. }))),
                    Err(_elapsed) => break,
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent * FRAME_BYTES < 32 * 1024 * 1024, "queues and windows have bounds");
    }
    assert!(up_a.outbound.queued_bytes() <= 2 * 1024 * 1024);

    for number in 0..sent {
        let (link, frame) = b.frame().await;
        assert_eq!((link, frame[0]), (up_b.link, u8::try_from(number % 251).unwrap()));
    }
    assert!(matches!(a.event().await, LinkEvent::Room { .. }), "room is told once read");
}

#[tokio::test]
async fn what_is_queued_before_a_close_arrives() {
    let (mut a, up_a, mut b, _up_b) = linked_pair().await;
    let frame = Bytes::from(vec![1; 500 * 1024]);
    for _ in 0..4 {
        up_a.outbound.try_send(frame.clone()).unwrap();
    }
    up_a.outbound.close(CloseReason::GroupMismatch);
    assert_eq!(up_a.outbound.try_send(frame.clone()), Err(SendError::Closed));

    for _ in 0..4 {
        assert_eq!(b.frame().await.1, frame);
    }
    assert_eq!(b.down().await.1, CloseReason::PeerClosed);
    assert_eq!(a.down().await, (up_a.link, CloseReason::GroupMismatch));
}

#[tokio::test]
async fn closing_the_transport_sends_what_is_queued_and_ends_all_tasks() {
    let (a, up_a, mut b, up_b) = linked_pair().await;
    for _ in 0..4 {
        up_a.outbound.try_send(Bytes::from(vec![1; 500 * 1024])).unwrap();
    }
    let Node { supervisor, mut events, .. } = a;
    supervisor.close().await;

    let down = events.recv().await;
    assert!(matches!(down, Some(LinkEvent::Down { reason: CloseReason::Shutdown, .. })));
    for _ in 0..4 {
        assert_eq!(b.frame().await.1.len(), 500 * 1024);
    }
    assert_eq!(b.down().await, (up_b.link, CloseReason::PeerClosed));
    b.supervisor.close().await;
}

#[tokio::test]
async fn the_transport_closes_in_time_though_nobody_reads_its_mailbox() {
    let mut b = Node::start_with_mailbox(settings(), &["g"], 1).await;
    let mut a = Node::start(settings(), &["g"]).await;
    a.peers.replace([b.address()]);
    let (up_a, _up_b) = (a.up().await, b.up().await);
    for _ in 0..8 {
        up_a.outbound.try_send(Bytes::from(vec![1; 100 * 1024])).unwrap();
    }
    timeout(Duration::from_secs(5), b.supervisor.close()).await.expect("close has a deadline");
}
