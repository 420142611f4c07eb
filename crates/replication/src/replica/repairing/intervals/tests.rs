//! Intervals against a plain map of each place to its context, and that a source
//! that has seen everything always comes to the end.

use coppice_crdt::{ActorId, EntryKey, Part};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const KEYS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
/// Places inside an object: its start, and two entries.
const PLACES: [&[u8]; 3] = [b"", b"\x05\"k\"", b"\x05\"p\""];

fn place(at: usize) -> Position {
    Position { key: KEYS[at / 3].into(), entry: PLACES[at % 3].into() }
}

fn vector(actor: u8, n: u64) -> VersionVector {
    [(ActorId::from_bytes([actor; 16]), n)].into_iter().collect()
}

/// The places as borders: the first and the one behind the last are the range's.
fn border(at: usize) -> Option<Position> {
    (1..PLACES_IN_ALL).contains(&at).then(|| place(at))
}

const PLACES_IN_ALL: usize = KEYS.len() * PLACES.len();

/// A source that is given up after so many places, from a place on, or that
/// stays; some places make a part.
#[derive(Clone, Debug)]
struct Source {
    vector: VersionVector,
    places_per_part: usize,
    from: usize,
    parts: usize,
}

fn sources() -> impl Strategy<Value = Vec<Source>> {
    let vector = vec((0..4_u8, 1..4_u64), 1..4).prop_map(|pairs| {
        let pairs = pairs.into_iter().map(|(actor, n)| (ActorId::from_bytes([actor; 16]), n));
        pairs.collect::<VersionVector>()
    });
    let source = (vector, 1..4_usize, 0..PLACES_IN_ALL, 1..4_usize);
    let source = source.prop_map(|(vector, places_per_part, from, parts)| Source {
        vector,
        places_per_part,
        from,
        parts,
    });
    vec(source, 0..24)
}

/// The intervals of a range beside the context of each of its places.
struct Range {
    intervals: Intervals,
    naive: Vec<VersionVector>,
    group: VersionVector,
    extended: usize,
    left: usize,
}

impl Range {
    fn new() -> Self {
        let naive = vec![VersionVector::new(); PLACES_IN_ALL];
        let (intervals, group) = (untouched(), vector(99, 1));
        Self { intervals, naive, group, extended: 0, left: 0 }
    }

    /// Takes parts as a session does, piece by piece.
    fn pull(&mut self, source: &Source, parts: usize) {
        let mut at = source.from;
        for _ in 0..parts {
            let behind = at + source.places_per_part;
            while at < behind.min(PLACES_IN_ALL) {
                let from = border(at);
                let (here, end) = seen_at(&self.intervals, from.as_ref(), &self.group);
                let is_end = |at: usize| border(at) == end;
                let own_end = (at + 1..=PLACES_IN_ALL).find(|at| is_end(*at)).unwrap();
                let to = own_end.min(behind).min(PLACES_IN_ALL);
                if !source.vector.is_covered_by(&here) {
                    self.credit(source, (at, to));
                }
                at = to;
            }
        }
        assert!(self.intervals.len() <= MAX_INTERVALS, "{:?}", self.intervals);
    }

    fn credit(&mut self, source: &Source, (at, to): (usize, usize)) {
        let (from, end) = (border(at), border(to));
        let bounds = (from.as_ref(), end.as_ref());
        let before = self.intervals.len();
        let joined = credit(&mut self.intervals, bounds, &source.vector, &self.group);
        let Some(joined) = joined else {
            assert_eq!(self.intervals.len(), before);
            self.left += 1;
            return;
        };
        for context in &mut self.naive[at..to] {
            let mut allowed = context.clone();
            allowed.join(&source.vector);
            allowed.join(&self.group);
            assert!(joined.is_covered_by(&allowed), "never more than the source has");
            context.join(&joined);
        }
        self.extended += usize::from(joined != source.vector);
    }

    fn check(&self) {
        let ends: Vec<&Position> =
            self.intervals.iter().filter_map(|(end, _)| end.as_ref()).collect();
        assert!(ends.is_sorted_by(|a, b| a < b));
        assert!(self.intervals.last().is_some_and(|(end, _)| end.is_none()));
        assert!(self.intervals.windows(2).all(|pair| pair[0].1 != pair[1].1), "not joined");
        for (at, context) in self.naive.iter().enumerate() {
            let mut expected = context.clone();
            expected.join(&self.group);
            let place = place(at);
            assert_eq!(seen_at(&self.intervals, border(at).as_ref(), &self.group).0, expected);
            let seen = contexts_of(&self.intervals, &place.key, &self.group);
            let found: Vec<_> =
                seen.iter().filter(|(range, _)| range.contains(&place.entry)).collect();
            assert_eq!(found.len(), 1, "ranges are disjoint and hold every entry");
            assert_eq!(found[0].1, expected);
        }
    }

    /// All that was merged anywhere in the range.
    fn merged(&self) -> VersionVector {
        let mut merged = self.group.clone();
        self.naive.iter().for_each(|context| merged.join(context));
        merged
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn each_place_has_what_was_credited_there_and_the_list_stays_short(sources in sources()) {
        let mut range = Range::new();
        for source in &sources {
            range.pull(source, source.parts);
            range.check();
        }
        let wanted = range.merged();
        let lacking = (0..PLACES_IN_ALL).find(|&at| !wanted.is_covered_by(&{
            seen_at(&range.intervals, border(at).as_ref(), &range.group).0
        }));
        let found = first_lacking(&range.intervals, (7, None), (&wanted, &range.group));
        prop_assert_eq!(found, lacking.map(|at| (7, border(at))));
    }

    #[test]
    fn a_source_that_has_all_that_was_merged_ends_in_two_rounds(
        sources in sources(),
        (places_per_part, more) in (1..4_usize, 0..2_u64),
    ) {
        let mut range = Range::new();
        for source in &sources {
            range.pull(source, source.parts);
        }
        let mut all = range.merged();
        all.join(&vector(50, more));
        let whole = Source { vector: all, places_per_part, from: 0, parts: 0 };
        for _ in 0..2 {
            range.pull(&whole, PLACES_IN_ALL);
        }
        range.check();
        prop_assert_eq!(range.intervals.len(), 1, "{:?}", range.intervals);
        prop_assert_eq!(seen_at(&range.intervals, None, &range.group).0, whole.vector);
    }
}

/// Sources of which none has what another one has, each given up two places
/// earlier than the one before.
fn abandoned() -> Vec<Source> {
    let source = |n: u8| Source {
        vector: vector(n, 1),
        places_per_part: 1,
        from: 0,
        parts: PLACES_IN_ALL - 2 * usize::from(n),
    };
    (1..10).map(source).collect()
}

#[test]
fn a_full_list_is_extended_or_left_and_ends_all_the_same() {
    let mut range = Range::new();
    for source in abandoned() {
        range.pull(&source, source.parts);
        range.check();
    }
    assert_eq!(range.intervals.len(), MAX_INTERVALS, "the limit has to be reached");
    assert!(range.left > 0, "the first part of a full list is nobody's neighbour");

    let mut more = range.merged();
    more.join(&vector(50, 1));
    let one = Source { vector: more, places_per_part: 1, from: 0, parts: 0 };
    range.pull(&one, PLACES_IN_ALL);
    range.check();
    assert!(range.extended > 0, "the first round makes room");
    range.pull(&one, PLACES_IN_ALL);
    range.check();
    assert_eq!(range.intervals.len(), 1);
}

#[test]
fn a_full_list_is_not_extended_by_a_source_that_lacks_what_is_there() {
    let mut range = Range::new();
    for source in abandoned() {
        range.pull(&source, source.parts);
    }
    let before = range.intervals.clone();
    let other = Source { vector: vector(98, 1), places_per_part: 1, from: 0, parts: 0 };
    range.pull(&other, PLACES_IN_ALL);
    range.check();
    assert_eq!(range.intervals.len(), MAX_INTERVALS);
    assert_eq!(range.extended, 0, "it covers the context of no interval");
    assert_eq!(range.intervals, before, "nothing that one commit could take fits");
}

#[test]
fn an_object_that_no_repair_has_reached_has_one_context() {
    let intervals: Intervals = vec![(Some(place(3)), vector(1, 1)), (None, VersionVector::new())];
    let seen = contexts_of(&intervals, &"b".into(), &vector(9, 1));
    assert_eq!(seen, [(EntryRange::all(), vector(9, 1))]);
    let name = EntryKey::of_object(Part::Existence);
    assert!(seen[0].0.contains(name.as_bytes()));
}
