//! What is news to one peer, and in which order it is told.

use std::sync::Arc;

use super::*;

const FAR: ActorId = ActorId::from_bytes([1; 16]);

fn actor(n: u8) -> ActorId {
    ActorId::from_bytes([n; 16])
}

fn member(n: u8) -> Member {
    Member {
        store: [n; 16],
        opening_number: 1,
        name: "someone".into(),
        seen: VersionVector::new(),
        durable: VersionVector::new(),
        report: 1,
        said_hello: true,
        link: Some(LinkId(u64::from(n))),
        heard_ms: 0,
        skew_ms: 0,
    }
}

fn knowing(members: impl IntoIterator<Item = u8>) -> Membership {
    let mut known = Membership::new([9; 16], 1, 86_400_000);
    for n in members {
        known.connected(actor(n), member(n));
    }
    known
}

fn openings(reports: &[MemberReport]) -> Vec<u8> {
    reports.iter().map(|report| report.opening.as_bytes()[0]).collect()
}

#[test]
fn a_member_is_told_of_once_and_then_when_there_is_news() {
    let mut told = Told::default();
    let mut far = member(1);
    assert!(told.news(FAR, &far, 0).is_some(), "it is new");
    assert_eq!(told.news(FAR, &far, 60_000), None, "nothing came from it since");
    far.seen.raise(FAR, 3);
    assert_eq!(told.news(FAR, &far, 60_000).map(|news| news.issued), Some(3));
    far.durable.raise(FAR, 2);
    let durable = told.news(FAR, &far, 60_000).map(|news| news.durable);
    assert_eq!(durable, Some([(FAR, 2)].into_iter().collect()));
    assert_eq!(told.news(FAR, &far, 60_000), None);
}

#[test]
fn that_a_member_lives_is_told_now_and_then() {
    let mut told = Told::default();
    let mut far = member(1);
    assert!(told.news(FAR, &far, 0).is_some());
    far.report += 1;
    assert_eq!(told.news(FAR, &far, ALIVE_AGAIN_MS - 1), None);
    let news = told.news(FAR, &far, ALIVE_AGAIN_MS);
    assert_eq!(news.map(|news| news.report), Some(2), "else it would be forgotten");
    assert_eq!(told.news(FAR, &far, 2 * ALIVE_AGAIN_MS), None, "nothing was heard of it since");
    far.report += 1;
    assert_eq!(told.news(FAR, &far, 2 * ALIVE_AGAIN_MS - 1), None);
}

#[test]
fn nothing_is_remembered_of_who_is_no_member_any_more() {
    let mut told = Told::default();
    assert_eq!(openings(&told.next(&knowing(1..=2), |_| true, 0)), [1, 2]);
    assert!(told.next(&knowing([2]), |_| true, 0).is_empty());
    assert_eq!(told.of.keys().copied().collect::<Vec<_>>(), [actor(2)]);
    assert_eq!(openings(&told.next(&knowing(1..=2), |_| true, 0)), [1], "it is new again");
}

#[test]
fn a_full_frame_is_followed_by_the_others() {
    // Two names fill a frame; the first members have news in every round.
    let mut members = knowing(1..=5);
    let name: Arc<str> = "x".repeat(FRAME_BYTES / 2).into();
    let mut told = Told::default();
    let mut order = Vec::new();
    for round in 1..=5 {
        for n in 1..=5 {
            let member = members.get_mut(&actor(n)).expect("it is a member");
            member.name = Arc::clone(&name);
            member.seen.raise(actor(n), round);
        }
        order.extend(openings(&told.next(&members, |_| true, round)));
    }
    assert_eq!(order, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]);
}
