//! Who is a member, from what, and for how long.

use super::*;

const ANN: ActorId = ActorId::from_bytes([1; 16]);
const BOB: ActorId = ActorId::from_bytes([2; 16]);
const LATER: ActorId = ActorId::from_bytes([3; 16]);

const FORGET_MS: u64 = 86_400_000;

fn nobody() -> Membership {
    Membership::new([9; 16], 7, FORGET_MS)
}

fn member(store: u8, opening_number: u64, link: u64) -> Member {
    Member {
        store: [store; 16],
        opening_number,
        name: "a".into(),
        seen: VersionVector::new(),
        durable: VersionVector::new(),
        report: 0,
        said_hello: true,
        link: Some(LinkId(link)),
        heard_ms: 0,
        skew_ms: 0,
    }
}

fn report(opening: ActorId, opening_number: u64, report: u64, age_ms: u64) -> MemberReport {
    let [store, ..] = *opening.as_bytes();
    MemberReport {
        opening,
        store: [if opening == LATER { 1 } else { store }; 16],
        opening_number,
        name: "a".into(),
        report,
        age_ms,
        issued: 0,
        durable: VersionVector::new(),
    }
}

fn on_disk(n: u64) -> VersionVector {
    [(ANN, n)].into_iter().collect()
}

fn openings(members: &Membership) -> Vec<ActorId> {
    members.iter().map(|(&opening, _)| opening).collect()
}

fn told_onward(members: &Membership, now_ms: u64) -> Vec<ActorId> {
    members.to_tell(None, now_ms).map(|(&opening, _)| opening).collect()
}

#[test]
fn a_disconnected_opening_stays_until_a_later_one_of_its_store_connects() {
    let mut members = nobody();
    members.connected(ANN, member(1, 4, 1));
    members.disconnected(LinkId(1));
    members.connected(BOB, member(2, 9, 2));
    assert_eq!(members.iter().count(), 2, "the log is kept for Ann");
    members.connected(LATER, member(1, 5, 3));
    assert!(members.get_mut(&ANN).is_none());
    assert_eq!(members.linked().collect::<Vec<_>>(), [BOB, LATER]);
}

#[test]
fn openings_of_a_clone_stay_side_by_side_while_they_are_linked() {
    let mut members = nobody();
    members.connected(ANN, member(1, 4, 1));
    members.connected(LATER, member(1, 5, 2));
    members.forget_silent(2 * FORGET_MS);
    assert_eq!(members.linked().count(), 2);
}

#[test]
fn a_link_that_was_replaced_does_not_disconnect_its_opening() {
    let mut members = nobody();
    members.connected(ANN, member(1, 4, 1));
    members.connected(ANN, member(1, 4, 2));
    members.disconnected(LinkId(1));
    assert_eq!(members.linked().collect::<Vec<_>>(), [ANN]);
}

#[test]
fn the_log_is_kept_for_who_has_least_on_disk() {
    let mut members = nobody();
    assert_eq!(members.durable_everywhere(), None, "nobody is known to have anything");
    members.connected(ANN, Member { durable: on_disk(7), ..member(1, 1, 1) });
    members.connected(BOB, Member { durable: on_disk(3), ..member(2, 1, 2) });
    members.disconnected(LinkId(2));
    assert_eq!(members.durable_everywhere(), Some(on_disk(3)), "Bob may come back");
    members.connected(BOB, Member { durable: on_disk(1), ..member(2, 1, 3) });
    assert_eq!(members.durable_everywhere(), Some(on_disk(1)), "replaced, not joined");
}

#[test]
fn the_log_is_kept_for_who_is_only_told_of() {
    let mut members = nobody();
    members.connected(BOB, Member { durable: on_disk(7), ..member(2, 1, 2) });
    members.told(&MemberReport { durable: on_disk(4), ..report(ANN, 4, 1, 0) }, 0);
    assert_eq!(members.durable_everywhere(), Some(on_disk(4)), "its relay may be gone tomorrow");
    members.told(&MemberReport { durable: on_disk(6), ..report(LATER, 5, 1, 0) }, 0);
    assert_eq!(members.durable_everywhere(), Some(on_disk(6)), "Ann's store is with a later one");
}

#[test]
fn a_members_own_word_counts_alone_while_it_is_linked() {
    let mut members = nobody();
    members.connected(ANN, Member { durable: on_disk(3), ..member(1, 4, 1) });
    let more = MemberReport { durable: on_disk(9), issued: 9, ..report(ANN, 4, 50, 0) };
    members.told(&more, 10);
    assert_eq!(members.get(&ANN).map(|ann| (&ann.durable, ann.report)), Some((&on_disk(3), 0)));
    members.disconnected(LinkId(1));
    members.told(&more, 10);
    assert_eq!(members.get(&ANN).map(|ann| (&ann.durable, ann.report)), Some((&on_disk(9), 50)));
}

#[test]
fn only_a_newer_report_shows_life_and_older_ones_take_nothing_back() {
    let mut members = nobody();
    members.told(&MemberReport { durable: on_disk(5), ..report(ANN, 4, 10, 0) }, 1_000);
    for told in [report(ANN, 4, 10, 0), report(ANN, 4, 9, 0)] {
        members.told(&MemberReport { durable: on_disk(2), ..told }, 9_000);
        let ann = members.get(&ANN).expect("she is known");
        assert_eq!((ann.silent_ms(9_000), &ann.durable), (8_000, &on_disk(5)));
    }
    members.told(&report(ANN, 4, 11, 3_000), 9_000);
    assert_eq!(members.get(&ANN).map(|ann| ann.silent_ms(9_000)), Some(3_000));
}

#[test]
fn what_was_last_heard_before_this_process_began_is_no_younger_for_it() {
    let mut members = nobody();
    members.told(&report(ANN, 4, 1, FORGET_MS / 2 - 2_000), 1_000);
    assert_eq!(told_onward(&members, 1_000), [ANN]);
    assert_eq!(told_onward(&members, 3_000), [], "as if it had been heard just now");
}

/// Three replicas that tell each other of a member that fell silent, over links
/// that take long, forget it: each delay makes what is told look younger.
#[test]
fn who_is_gone_does_not_live_on_in_what_is_told() {
    const STEP_MS: u64 = FORGET_MS / 200;
    let last = report(ANN, 4, 99, 0);
    let mut ring = [nobody(), nobody(), nobody()];
    ring[0].told(&last, 0);
    for step in 1..2_000 {
        let now_ms = step * STEP_MS;
        let told = ring.each_ref().map(|members| {
            members.to_tell(None, now_ms).map(|(_, ann)| ann.silent_ms(now_ms)).next()
        });
        for (at, members) in ring.iter_mut().enumerate() {
            // Told a step ago.
            if let Some(age_ms) = told[(at + 1) % 3] {
                members.told(&MemberReport { age_ms, ..last.clone() }, now_ms + STEP_MS);
            }
            members.forget_silent(now_ms + STEP_MS);
        }
        let knows = |members: &Membership| members.get(&ANN).is_some();
        assert!(!(20..190).contains(&step) || ring.iter().all(knows), "too early, at {step}");
        assert!(step < 250 || !ring.iter().any(knows), "not forgotten at {step}");
    }
}

#[test]
fn an_opening_does_not_come_back_once_a_later_one_of_its_store_is_known() {
    for hello in [true, false] {
        let mut members = nobody();
        members.told(&report(ANN, 4, 1, 0), 0);
        if hello {
            members.connected(LATER, member(1, 5, 1));
        } else {
            members.told(&report(LATER, 5, 1, 0), 0);
        }
        members.told(&report(ANN, 4, 2, 0), 0);
        assert_eq!(openings(&members), [LATER], "its store was opened since");
    }
    let mut copies = nobody();
    for _ in 0..2 {
        copies.told(&report(ANN, 4, 1, 0), 0);
        copies.told(&report(LATER, 4, 1, 0), 0);
        assert_eq!(openings(&copies), [ANN, LATER], "of two copies of a disk neither is later");
    }
    let mut members = nobody();
    members.told(&MemberReport { store: [9; 16], ..report(ANN, 6, 1, 0) }, 0);
    assert_eq!(openings(&members), [], "its store is this replica's own");
}

#[test]
fn who_is_told_of_is_bounded_and_who_said_hello_comes_first() {
    let mut members = nobody();
    for n in 0..2_000_u128 {
        let opening = ActorId::from_bytes((n + (1 << 100)).to_be_bytes());
        members.told(&report(opening, 1, 1, 0), 0);
    }
    assert_eq!(members.iter().count(), MAX_TOLD_OF);
    members.connected(ANN, member(1, 4, 1));
    assert!(members.get(&ANN).is_some());
}
