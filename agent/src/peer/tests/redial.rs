//! What happens after a link ends: dialled again, later, or not at all.

use std::net::SocketAddr;
use std::time::Duration;

use super::node::{Node, group, linked_pair, settings};
use super::proxy::{Mode, Proxy};
use crate::peer::{CloseReason, LinkUp, Settings};

#[tokio::test]
async fn a_peer_that_comes_back_is_linked_again() {
    let (mut a, up_a, b, up_b) = linked_pair().await;
    let listen: SocketAddr = b.supervisor.local_addr();
    drop(up_b);
    b.supervisor.close().await;
    assert_eq!(a.down().await, (up_a.link, CloseReason::PeerClosed));

    let mut b = Node::start(Settings { listen, ..settings() }, &["g"]).await;
    let (again, _up_b) = (a.up().await, b.up().await);
    assert_ne!(again.link, up_a.link, "an id is never used twice");
    again.outbound.try_send("again".into()).unwrap();
    assert_eq!(b.frame().await.1, "again");
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again() {
    let mut b = Node::start(settings(), &["g"]).await;
    let proxy = Proxy::to(b.supervisor.local_addr()).await;
    let mut a = Node::start(settings(), &["g"]).await;
    a.peers.replace([proxy.address.into()]);
    let (up_a, up_b) = (a.up().await, b.up().await);

    proxy.set(Mode::Cut);
    assert_eq!(a.down().await, (up_a.link, CloseReason::Io));
    assert_eq!(b.down().await, (up_b.link, CloseReason::Io));
    proxy.set(Mode::Pass);
    let (_up_a, _up_b) = (a.up().await, b.up().await);
}

#[tokio::test]
async fn a_connection_that_answers_no_ping_is_given_up() {
    let mut quick = settings();
    quick.timing.ping_interval = Duration::from_millis(50);
    quick.timing.ping_timeout = Duration::from_millis(100);
    let mut b = Node::start(quick.clone(), &["g"]).await;
    let proxy = Proxy::to(b.supervisor.local_addr()).await;
    let mut a = Node::start(quick, &["g"]).await;
    a.peers.replace([proxy.address.into()]);
    let (up_a, up_b) = (a.up().await, b.up().await);

    proxy.set(Mode::Freeze);
    assert_eq!(a.down().await, (up_a.link, CloseReason::Timeout));
    assert_eq!(b.down().await, (up_b.link, CloseReason::Timeout));
}

#[tokio::test]
async fn an_address_that_is_this_agent_is_not_dialled_again() {
    for closes_dialled in [true, false] {
        let mut node = Node::start(settings(), &["g"]).await;
        node.peers.replace([node.address()]);
        let ups = [node.up().await, node.up().await];
        let closed = ups.iter().find(|up| up.dialled == closes_dialled).unwrap();
        closed.outbound.close(CloseReason::SelfLink);

        let mut reasons = [node.down().await, node.down().await];
        reasons.sort_by_key(|(link, _)| *link != closed.link);
        assert_eq!(
            reasons.map(|(_, reason)| reason),
            [CloseReason::SelfLink, CloseReason::PeerClosed]
        );
        node.stays_quiet("it would only meet itself again").await;

        node.supervisor.set_groups([group("g"), group("h")]);
        node.stays_quiet("another group would meet itself too").await;
    }
}

/// Two nodes that have both dialled; per node its dialled and its accepted link.
async fn mutual() -> [(Node, LinkUp, LinkUp); 2] {
    let mut a = Node::start(settings(), &["g"]).await;
    let mut b = Node::start(settings(), &["g"]).await;
    a.peers.replace([b.address()]);
    b.peers.replace([a.address()]);
    let mut ups = Vec::new();
    for node in [&mut a, &mut b] {
        let mut pair = [node.up().await, node.up().await];
        pair.sort_by_key(|up| !up.dialled);
        ups.push(pair);
    }
    let [[a_dialled, a_accepted], [b_dialled, b_accepted]] =
        <[[LinkUp; 2]; 2]>::try_from(ups).unwrap();
    [(a, a_dialled, a_accepted), (b, b_dialled, b_accepted)]
}

#[tokio::test]
async fn a_duplicate_is_dialled_again_only_when_the_kept_link_is_gone() {
    let [(mut a, a_dialled, a_accepted), (mut b, b_dialled, b_accepted)] = mutual().await;

    a_dialled.outbound.close(CloseReason::Duplicate { kept: a_accepted.link });
    let duplicate = CloseReason::Duplicate { kept: a_accepted.link };
    assert_eq!(a.down().await, (a_dialled.link, duplicate));
    assert_eq!(b.down().await, (b_accepted.link, CloseReason::PeerClosed));
    a.stays_quiet("the other link is there").await;

    b.peers.replace([]);
    assert_eq!(b.down().await, (b_dialled.link, CloseReason::Removed));
    assert_eq!(a.down().await, (a_accepted.link, CloseReason::PeerClosed));
    assert!(a.up().await.dialled, "now the address is tried again");
}

#[tokio::test]
async fn a_duplicate_that_the_peer_closes_is_not_dialled_in_a_loop() {
    let [(mut a, a_dialled, _a_accepted), (mut b, b_dialled, b_accepted)] = mutual().await;

    b_accepted.outbound.close(CloseReason::Duplicate { kept: b_dialled.link });
    assert_eq!(a.down().await, (a_dialled.link, CloseReason::PeerClosed));
    assert!(matches!(b.down().await, (_, CloseReason::Duplicate { .. })));
    a.stays_quiet("the peer said that it keeps the other link").await;
}

#[tokio::test]
async fn an_address_taken_off_the_list_loses_its_link() {
    let (mut a, up_a, mut b, up_b) = linked_pair().await;

    a.peers.replace([]);
    assert_eq!(a.down().await, (up_a.link, CloseReason::Removed));
    assert_eq!(b.down().await, (up_b.link, CloseReason::PeerClosed));
    a.stays_quiet("it is not listed").await;

    a.peers.replace([b.address()]);
    assert!(a.up().await.dialled, "listed again, it is dialled again");
}

#[tokio::test]
async fn a_group_served_no_longer_loses_its_links_and_may_come_back() {
    let (mut a, up_a, mut b, up_b) = linked_pair().await;

    b.supervisor.set_groups([]);
    assert_eq!(b.down().await, (up_b.link, CloseReason::Removed));
    assert_eq!(a.down().await, (up_a.link, CloseReason::PeerClosed));
    a.counts(CloseReason::UnknownGroup).await;

    b.supervisor.set_groups([group("g")]);
    let (_up_a, _up_b) = (a.up().await, b.up().await);
}

#[tokio::test]
async fn an_unknown_group_is_asked_for_until_it_is_known() {
    let mut b = Node::start(settings(), &[]).await;
    let mut a = Node::start(settings(), &["g"]).await;
    a.peers.replace([b.address()]);
    a.counts(CloseReason::UnknownGroup).await;

    b.supervisor.set_groups([group("g")]);
    let (_up_a, _up_b) = (a.up().await, b.up().await);
}

#[tokio::test]
async fn one_group_closed_leaves_the_others_of_the_connection() {
    let mut b = Node::start(settings(), &["g", "h"]).await;
    let mut a = Node::start(settings(), &["g"]).await;
    a.peers.replace([b.address()]);
    let (up_g, _g_at_b) = (a.up().await, b.up().await);
    a.supervisor.set_groups([group("g"), group("h")]);
    let (up_h, _h_at_b) = (a.up().await, b.up().await);

    up_h.outbound.close(CloseReason::GroupMismatch);
    assert_eq!(a.down().await, (up_h.link, CloseReason::GroupMismatch));
    assert_eq!(b.down().await.1, CloseReason::PeerClosed);

    up_g.outbound.try_send("still here".into()).unwrap();
    loop {
        // The other group is tried again meanwhile.
        if let crate::peer::LinkEvent::Frame { frame, .. } = b.event().await {
            assert_eq!(frame, "still here");
            break;
        }
    }
}
