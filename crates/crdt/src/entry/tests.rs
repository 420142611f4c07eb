//! Joins of entries, and what is live in them.

use super::*;

const A: ActorId = ActorId::from_bytes([1; 16]);
const B: ActorId = ActorId::from_bytes([2; 16]);

fn vector(pairs: &[(ActorId, u64)]) -> VersionVector {
    pairs.iter().copied().collect()
}

fn cell(birth: u64, last: u64, up: u64, floor: u64) -> Cell {
    let amounts = |up| Amounts { up, down: 0 };
    Cell { birth, last, amounts: amounts(up), floor: amounts(floor) }
}

fn version(actor: ActorId, n: u64, ms: u64) -> Version {
    Version {
        dot: Dot::new(actor, n),
        stamp: HybridTimestamp::new(ms, 0),
        deadline_ms: None,
        content_type: "text/plain".into(),
        bytes: Box::default(),
    }
}

#[test]
fn a_dot_survives_where_both_hold_it_or_one_has_not_heard_of_it() {
    let (first, second, third) = (Dot::new(A, 1), Dot::new(A, 2), Dot::new(B, 1));
    let ours = Entry::Dots(vec![first, second]);
    let theirs = Entry::Dots(vec![second, third]);
    let joined = Entry::join(
        None,
        (Some(&ours), &vector(&[(A, 2)])),
        (Some(&theirs), &vector(&[(A, 2), (B, 1)])),
    );
    assert_eq!(joined, Some(Entry::Dots(vec![second, third])), "they have removed the first");
    let unseen = Entry::join(None, (Some(&ours), &vector(&[(A, 2)])), (None, &vector(&[])));
    assert_eq!(unseen, Some(ours.clone()));
    let gone = Entry::join(None, (None, &vector(&[(A, 2)])), (Some(&ours), &vector(&[(A, 2)])));
    assert_eq!(gone, None);
}

#[test]
fn cells_join_by_maximum_and_stay_dropped() {
    let ours = Entry::Cells(vec![cell(1, 1, 5, 5)]);
    let theirs = Entry::Cells(vec![cell(1, 2, 8, 0)]);
    let none = VersionVector::new();
    let joined = Entry::join(Some(A), (Some(&ours), &none), (Some(&theirs), &none));
    assert_eq!(joined, Some(Entry::Cells(vec![cell(1, 2, 8, 5)])));
    let dropped = Entry::join(Some(A), (Some(&ours), &none), (None, &vector(&[(A, 1)])));
    assert_eq!(dropped, None);
    let raised = Entry::join(Some(A), (None, &vector(&[(A, 1)])), (Some(&theirs), &none));
    assert_eq!(raised, Some(theirs), "its last increment was not seen here");
}

#[test]
fn a_cell_is_live_while_either_amount_is_above_its_floor() {
    let amounts = |up, down| Amounts { up, down };
    let is_live = |amounts, floor| Cell { birth: 1, last: 1, amounts, floor }.is_live();
    assert!(is_live(amounts(1, 1), amounts(1, 0)));
    assert!(is_live(amounts(2, 0), amounts(1, 0)));
    assert!(!is_live(amounts(1, 1), amounts(1, 1)));
    let lowered = Cell { birth: 1, last: 1, amounts: amounts(5, 9), floor: amounts(1, 2) };
    assert_eq!(lowered.value(), -3);
    let all = Cell { amounts: amounts(0, u64::MAX), floor: amounts(u64::MAX, 0), ..lowered };
    assert_eq!(all.value(), -i128::from(u64::MAX), "what is below a floor counts as nothing");
}

#[test]
fn readers_get_the_greatest_stamp_then_actor() {
    let versions = [version(A, 9, 5), version(B, 1, 5), version(A, 10, 4)];
    assert_eq!(picked(&versions), Some(&versions[1]));
    assert_eq!(picked(&[]), None);
}

#[test]
fn a_value_is_expired_from_its_deadline_on() {
    let version = Version { deadline_ms: Some(10), ..version(A, 1, 1) };
    assert_eq!([9, 10, 11].map(|now_ms| version.is_expired(now_ms)), [false, true, true]);
    let lasting = Version { deadline_ms: None, ..version };
    assert!(!lasting.is_expired(u64::MAX));
}

#[test]
fn removals_name_live_dots_only() {
    let cells = Entry::Cells(vec![cell(1, 2, 5, 5), cell(3, 7, 1, 0)]);
    assert_eq!(cells.live_dots(Some(A)), [Dot::new(A, 7)]);
    assert_eq!(cells.live_dots(None), []);
    assert!(cells.is_live() && !Entry::Cells(vec![cell(1, 2, 5, 5)]).is_live());
    assert_eq!(Entry::Versions(vec![version(B, 2, 0)]).live_dots(None), [Dot::new(B, 2)]);
    assert_eq!(Entry::Dots(vec![Dot::new(B, 2)]).live_dots(None), [Dot::new(B, 2)]);
}

#[test]
fn another_shape_under_the_name_keeps_what_is_here() {
    let (dots, none) = (Entry::Dots(vec![Dot::new(A, 1)]), VersionVector::new());
    let cells = Entry::Cells(vec![cell(1, 1, 1, 0)]);
    assert_eq!(
        Entry::join(Some(A), (Some(&dots), &none), (Some(&cells), &none)),
        Some(dots.clone())
    );
}
