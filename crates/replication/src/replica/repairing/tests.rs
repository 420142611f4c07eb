//! Intervals against a plain map of each place to its context.

use coppice_crdt::{ActorId, Part};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const KEYS: [&str; 3] = ["a", "b", "c"];
/// Places inside an object: its start, and two entries.
const PLACES: [&[u8]; 3] = [b"", b"\x05\"k\"", b"\x05\"p\""];

fn place(at: usize) -> Position {
    Position { key: KEYS[at / 3].into(), entry: PLACES[at % 3].into() }
}

fn vector(actor: u8, n: u64) -> VersionVector {
    [(ActorId::from_bytes([actor; 16]), n)].into_iter().collect()
}

/// An interval by the indices of its ends (the last stands for the end of the
/// range), and the vector to credit it with.
fn credits() -> impl Strategy<Value = Vec<((usize, usize), (u8, u64))>> {
    let interval = (0..9_usize, 1..10_usize).prop_map(|(a, b)| (a.min(b - 1), b.max(a + 1)));
    vec((interval, (0..3_u8, 1..5_u64)), 0..12)
}

proptest! {
    #[test]
    fn each_place_has_the_join_of_what_its_intervals_were_credited_with(steps in credits()) {
        let mut intervals: Intervals = vec![(None, VersionVector::new())];
        let mut naive = vec![VersionVector::new(); 9];
        for ((from, to), (actor, n)) in steps {
            let vector = vector(actor, n);
            let ends = ((from > 0).then(|| place(from)), (to < 9).then(|| place(to)));
            credit_interval(&mut intervals, (ends.0.as_ref(), ends.1.as_ref()), &vector);
            naive[from..to].iter_mut().for_each(|context| context.join(&vector));

            prop_assert!(intervals.last().is_some_and(|(end, _)| end.is_none()));
            prop_assert!(intervals.windows(2).all(|pair| pair[0].1 != pair[1].1), "not joined");
            let ends: Vec<&Position> = intervals.iter().filter_map(|(end, _)| end.as_ref()).collect();
            prop_assert!(ends.is_sorted_by(|a, b| a < b));
        }
        let group = vector(9, 1);
        for (at, expected) in naive.iter().enumerate() {
            let place = place(at);
            let seen = contexts_of(&intervals, &place.key, &group);
            let mut expected = expected.clone();
            expected.join(&group);
            let found: Vec<_> =
                seen.iter().filter(|(range, _)| range.contains(&place.entry)).collect();
            prop_assert_eq!(found.len(), 1, "ranges are disjoint and hold every entry");
            prop_assert_eq!(&found[0].1, &expected);
        }
    }
}

#[test]
fn an_object_that_no_repair_has_reached_has_one_context() {
    let intervals: Intervals = vec![(Some(place(3)), vector(1, 1)), (None, VersionVector::new())];
    let seen = contexts_of(&intervals, &"b".into(), &vector(9, 1));
    assert_eq!(seen, [(EntryRange::all(), vector(9, 1))]);
    let name = EntryKey::of_object(Part::Existence);
    assert!(seen[0].0.contains(name.as_bytes()));
}
