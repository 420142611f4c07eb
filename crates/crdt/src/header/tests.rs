//! Headers follow their entries, and etags tell states apart.

use super::*;
use crate::{ActorId, Amounts, Dot};

const ETAG: EtagKey = EtagKey::new([3; 16]);
const A: ActorId = ActorId::from_bytes([1; 16]);

fn dots(n: u64) -> Entry {
    Entry::Dots(vec![Dot::new(A, n)])
}

fn cells(up: u64, floor: u64) -> Entry {
    let amounts = |up| Amounts { up, down: 0 };
    Entry::Cells(vec![Cell { birth: 1, last: 1, amounts: amounts(up), floor: amounts(floor) }])
}

#[test]
fn an_etag_tells_groups_keys_names_and_dots_apart() {
    let (x, y) =
        (EntryKey::of_object(Part::Element(b"1")), EntryKey::of_object(Part::Element(b"2")));
    let sums = [
        ETAG.contribution("k", &x, &dots(1)),
        ETAG.contribution("k", &x, &dots(2)),
        ETAG.contribution("k", &y, &dots(1)),
        ETAG.contribution("j", &x, &dots(1)),
        EtagKey::new([4; 16]).contribution("k", &x, &dots(1)),
        ETAG.contribution("k", &x, &cells(5, 0)),
        ETAG.contribution("k", &x, &cells(5, 1)),
        0,
    ];
    for (at, sum) in sums.iter().enumerate() {
        assert!(!sums[at + 1..].contains(sum), "{at}");
    }
    assert_eq!(ETAG.contribution("k", &x, &cells(5, 5)), 0, "what is dead is not hashed");
    assert_ne!(ETAG.hash_key("k"), ETAG.hash_key("j"));
}

#[test]
fn a_header_follows_a_counter_from_birth_to_death() {
    let name = EntryKey::of_object(Part::Cell(A));
    let mut header = Header::new(CrdtType::GCounter);
    assert!(header.is_gone());
    header.update(ETAG, ("k", &name), None, (None, Some(&cells(5, 0))));
    assert_eq!((header.summary.entries, header.summary.sum, header.dead), (1, 5, 0));
    assert!(header.exists());
    header.update(ETAG, ("k", &name), None, (Some(&cells(5, 0)), Some(&cells(5, 5))));
    assert_eq!((header.summary, header.dead, header.etag), (Summary::default(), 1, 0));
    assert!(!header.exists() && !header.is_gone(), "its floor is kept");
    header.update(ETAG, ("k", &name), None, (Some(&cells(5, 5)), None));
    assert_eq!(header, Header::new(CrdtType::GCounter));
}

#[test]
fn an_existence_is_no_entry() {
    let name = EntryKey::of_object(Part::Existence);
    let mut header = Header::new(CrdtType::ORSet);
    header.update(ETAG, ("k", &name), None, (None, Some(&dots(1))));
    assert_eq!(header.summary, Summary { existence: true, entries: 0, sum: 0 });
    header.update(ETAG, ("k", &name), None, (Some(&dots(1)), None));
    assert_eq!(header, Header::new(CrdtType::ORSet));
}

#[test]
fn a_map_counts_names_entries_and_cells() {
    let mut header = Header::new(CrdtType::ORMap);
    let mut field = FieldHeader::default();
    let name = |crdt_type, part| EntryKey::of_field("f", crdt_type, part);
    let cell = name(CrdtType::PNCounter, Part::Cell(A));
    let existence = name(CrdtType::PNCounter, Part::Existence);
    let flag = name(CrdtType::EWFlag, Part::Enabled);
    header.update(ETAG, ("k", &existence), Some(&mut field), (None, Some(&dots(1))));
    header.update(ETAG, ("k", &cell), Some(&mut field), (None, Some(&cells(5, 0))));
    header.update(ETAG, ("k", &flag), Some(&mut field), (None, Some(&dots(2))));
    assert_eq!(header.summary, Summary { existence: false, entries: 3, sum: 1 });
    assert_eq!(header.fields, 1, "two types of one name are one field");
    let counter = Summary { existence: true, entries: 1, sum: 5 };
    assert_eq!(field.summary(CrdtType::PNCounter), counter);
    assert_eq!(field.visible().map(|(of, _)| of), Some(CrdtType::EWFlag), "E before P");

    header.update(ETAG, ("k", &flag), Some(&mut field), (Some(&dots(2)), None));
    assert_eq!(field.visible(), Some((CrdtType::PNCounter, counter)));
    header.update(ETAG, ("k", &existence), Some(&mut field), (Some(&dots(1)), None));
    header.update(ETAG, ("k", &cell), Some(&mut field), (Some(&cells(5, 0)), Some(&cells(5, 5))));
    assert_eq!((header.summary, header.fields, header.etag), (Summary::default(), 0, 0));
    assert_eq!((header.dead, field), (1, FieldHeader::default()));
}

#[test]
fn tables_are_hashed_with_the_key_of_the_group() {
    let other = EtagKey::new([4; 16]);
    assert_eq!(ETAG.hash_one("k"), ETAG.hash_one("k"));
    assert_ne!(ETAG.hash_one("k"), other.hash_one("k"), "an app could make its keys collide");
}

#[test]
fn a_field_adds_all_of_its_types_to_its_map() {
    let of = |crdt_type, existence, entries, etag| TypeSummary {
        crdt_type,
        summary: Summary { existence, entries, sum: 0 },
        etag,
    };
    let types = [
        of(CrdtType::PNCounter, true, 3, 5),
        of(CrdtType::ORSet, false, 7, u128::MAX),
        of(CrdtType::GCounter, true, 2, 1),
    ];
    let field = FieldHeader { types: types.to_vec() };
    let expected = FieldTotals { entries: 3 + 1 + 7 + 2 + 1, cells: 3 + 2, etag: 5 };
    assert_eq!(field.totals(), expected);
}
