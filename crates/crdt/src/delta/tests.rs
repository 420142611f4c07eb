//! What deltas do to states and to each other.

use super::*;

const A: ActorId = ActorId::from_bytes([1; 16]);
const B: ActorId = ActorId::from_bytes([2; 16]);

fn vector(pairs: &[(ActorId, u64)]) -> VersionVector {
    pairs.iter().copied().collect()
}

fn element(name: &str) -> EntryKey {
    EntryKey::of_object(crate::Part::Element(name.as_bytes()))
}

fn dots(added: &[u64], removed: &[u64]) -> EntryDelta {
    let dots = |numbers: &[u64]| numbers.iter().map(|&n| Dot::new(A, n)).collect();
    EntryDelta::Dots { added: dots(added), removed: dots(removed) }
}

fn versions(written: &[u64], removed: &[u64]) -> EntryDelta {
    let version = |n| Version {
        dot: Dot::new(A, n),
        stamp: crate::HybridTimestamp::new(n, 0),
        deadline_ms: None,
        content_type: "application/json".into(),
        bytes: b"1".as_slice().into(),
    };
    let removed = removed.iter().map(|&n| Dot::new(A, n)).collect();
    EntryDelta::Versions { written: written.iter().copied().map(version).collect(), removed }
}

fn of(entries: &[(&str, EntryDelta)]) -> ObjectDelta {
    let entries = entries.iter().map(|(name, delta)| (element(name), delta.clone())).collect();
    ObjectDelta { entries, removals: Vec::new() }
}

fn removing(range: EntryRange, context: &[(ActorId, u64)]) -> ObjectDelta {
    let removal = RangeRemoval { range, context: vector(context) };
    ObjectDelta { entries: BTreeMap::new(), removals: vec![removal] }
}

fn joined(first: &ObjectDelta, second: &ObjectDelta) -> ObjectDelta {
    let mut group = first.clone();
    group.join(second.clone());
    group
}

const fn up(up: u64) -> Amounts {
    Amounts { up, down: 0 }
}

#[test]
fn a_dot_that_was_superseded_in_the_group_is_named_as_removed() {
    let group = joined(&of(&[("x", dots(&[1], &[]))]), &of(&[("x", dots(&[2], &[1]))]));
    assert_eq!(group, of(&[("x", dots(&[2], &[1]))]), "who has dot 1 already must drop it");
}

#[test]
fn a_range_removal_takes_from_deltas_joined_before_and_after_it() {
    let add = of(&[("x", dots(&[1, 3], &[])), ("y", dots(&[2], &[]))]);
    let removal = removing(EntryRange::elements(), &[(A, 2)]);
    let mut expected = of(&[("x", dots(&[3], &[]))]);
    expected.removals.clone_from(&removal.removals);
    assert_eq!(joined(&add, &removal), expected);
    assert_eq!(joined(&removal, &add), expected);
}

#[test]
fn a_range_removal_takes_written_values_like_dots() {
    let write = of(&[("x", versions(&[1, 3], &[2, 4]))]);
    let removal = removing(EntryRange::elements(), &[(A, 2)]);
    let mut expected = of(&[("x", versions(&[3], &[4]))]);
    expected.removals.clone_from(&removal.removals);
    assert_eq!(joined(&write, &removal), expected);
    assert_eq!(joined(&removal, &write), expected);
}

#[test]
fn a_change_is_empty_only_if_neither_side_of_it_says_anything() {
    let cells = |raised: &[u64], floors: &[u64]| EntryDelta::Cells {
        raised: raised.iter().map(|&n| Raise { birth: n, last: n, amounts: up(1) }).collect(),
        floors: floors.iter().map(|&n| Floor { birth: n, amounts: up(1) }).collect(),
    };
    for (nothing, said) in [
        (dots(&[], &[]), [dots(&[1], &[]), dots(&[], &[1])]),
        (versions(&[], &[]), [versions(&[1], &[]), versions(&[], &[1])]),
        (cells(&[], &[]), [cells(&[1], &[]), cells(&[], &[1])]),
    ] {
        assert!(nothing.is_empty());
        assert!(said.iter().all(|change| !change.is_empty()), "{said:?}");
    }
}

#[test]
fn a_range_removal_leaves_other_entries_alone() {
    let add = of(&[("x", dots(&[1], &[])), ("y", dots(&[1], &[]))]);
    let removal = removing(EntryRange::with_prefix(element("y").as_bytes()), &[(A, 9)]);
    let group = joined(&add, &removal);
    assert_eq!(group.entries, of(&[("x", dots(&[1], &[]))]).entries);
}

#[test]
fn removals_of_one_range_become_one_with_both_contexts() {
    let group = joined(
        &removing(EntryRange::all(), &[(A, 2)]),
        &removing(EntryRange::all(), &[(A, 1), (B, 4)]),
    );
    assert_eq!(group, removing(EntryRange::all(), &[(A, 2), (B, 4)]));
    assert!(!group.is_empty() && ObjectDelta::default().is_empty());
}

#[test]
fn a_dot_seen_before_is_not_put_back() {
    let delta = dots(&[1, 2], &[]);
    let left = delta.apply(None, None, &vector(&[(A, 1)]));
    assert_eq!(left, Some(Entry::Dots(vec![Dot::new(A, 2)])), "dot 1 was here and is removed");
    assert_eq!(delta.apply(None, left.clone(), &vector(&[(A, 2)])), left);
}

#[test]
fn a_removal_by_dot_takes_it_wherever_it_stands() {
    let here = Some(Entry::Dots(vec![Dot::new(A, 1), Dot::new(B, 1)]));
    let left = dots(&[], &[1]).apply(None, here, &vector(&[(A, 1), (B, 1)]));
    assert_eq!(left, Some(Entry::Dots(vec![Dot::new(B, 1)])));
    assert_eq!(dots(&[], &[1]).apply(None, None, &VersionVector::new()), None);
}

#[test]
fn a_floor_outlives_later_raises_and_counts_only_once() {
    let raise = |last, amount| EntryDelta::Cells {
        raised: vec![Raise { birth: 1, last, amounts: up(amount) }],
        floors: Vec::new(),
    };
    let floor = |amount| EntryDelta::Cells {
        raised: Vec::new(),
        floors: vec![Floor { birth: 1, amounts: up(amount) }],
    };
    let none = VersionVector::new();
    let mut by_group = raise(1, 5);
    let mut one_by_one = raise(1, 5).apply(Some(A), None, &none);
    for delta in [floor(5), raise(2, 8), floor(5)] {
        one_by_one = delta.apply(Some(A), one_by_one, &none);
        by_group.join(delta);
    }
    let cell = Cell { birth: 1, last: 2, amounts: up(8), floor: up(5) };
    assert_eq!(one_by_one, Some(Entry::Cells(vec![cell])));
    assert_eq!(by_group.apply(Some(A), None, &none), one_by_one);
    assert_eq!(cell.value(), 3);
}

#[test]
fn a_cell_that_was_dropped_does_not_come_back() {
    let delta = EntryDelta::Cells {
        raised: vec![Raise { birth: 1, last: 4, amounts: up(5) }],
        floors: vec![Floor { birth: 1, amounts: up(5) }],
    };
    assert_eq!(delta.apply(Some(A), None, &vector(&[(A, 4)])), None);
    assert!(delta.apply(Some(A), None, &vector(&[(A, 3)])).is_some());
}

#[test]
fn another_shape_under_the_name_changes_nothing() {
    let cells = EntryDelta::Cells { raised: Vec::new(), floors: Vec::new() };
    let here = Some(Entry::Dots(vec![Dot::new(A, 1)]));
    assert_eq!(cells.apply(Some(A), here.clone(), &VersionVector::new()), here);
    let mut kept = dots(&[1], &[]);
    kept.join(cells);
    assert_eq!(kept, dots(&[1], &[]));
}

#[test]
fn survivors_keep_cells_and_what_the_context_does_not_cover() {
    let removal = RangeRemoval { range: EntryRange::all(), context: vector(&[(A, 1)]) };
    let both = Entry::Dots(vec![Dot::new(A, 1), Dot::new(A, 2)]);
    let left = removal.survivors(&element("x"), both);
    assert_eq!(left, Some(Entry::Dots(vec![Dot::new(A, 2)])));
    assert_eq!(removal.survivors(&element("x"), Entry::Dots(vec![Dot::new(A, 1)])), None);
    assert!(removal.takes(&element("x"), &Dot::new(A, 1)));
    assert!(!removal.takes(&element("x"), &Dot::new(B, 1)));
    let cell = Cell { birth: 1, last: 1, amounts: up(1), floor: up(0) };
    let cells = Entry::Cells(vec![cell]);
    assert_eq!(removal.survivors(&element("x"), cells.clone()), Some(cells));
}

#[test]
fn ranges_meet_where_both_hold() {
    let range =
        |from: &[u8], to: Option<&[u8]>| EntryRange { from: from.into(), to: to.map(Into::into) };
    assert_eq!(EntryRange::with_prefix(b"a\xff"), range(b"a\xff", Some(b"b")));
    assert_eq!(EntryRange::with_prefix(b"\xff\xff"), range(b"\xff\xff", None));
    assert_eq!(EntryRange::with_prefix(b""), EntryRange::all());
    let (low, high) = (range(b"a", Some(b"m")), range(b"g", None));
    assert_eq!(low.intersection(&high), Some(range(b"g", Some(b"m"))));
    assert_eq!(high.intersection(&low), Some(range(b"g", Some(b"m"))));
    assert_eq!(EntryRange::all().intersection(&high), Some(high.clone()));
    assert_eq!(low.intersection(&range(b"m", None)), None);
    assert!(low.contains(b"a") && low.contains(b"lz") && !low.contains(b"m"));
}
