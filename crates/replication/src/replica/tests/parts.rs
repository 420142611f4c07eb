//! Parts of a repair: which are taken, what they are joined to, and what is left
//! of them when the store is opened again.

use coppice_crdt::{ActorId, CrdtType, Entry, EntryKey, Part};

use super::*;
use crate::message::RepairPart;
use crate::record::Position;
use crate::working_set::{Missing, Read};

const ELEMENTS: usize = 100;

/// A source, a replica that lost its store, and what a part for it has.
fn about_to_get_a_part(is_it: impl Fn(&RepairPart) -> bool) -> (Node, Node, RepairPart) {
    let mut source = trimmed_source(1, ELEMENTS);
    let mut puller = Node::new(2, CrdtType::ORSet);
    connect(&mut source, &mut puller, LINK, at(0));
    for _ in 0..200 {
        for (link, frame) in std::mem::take(&mut puller.sent) {
            source.replica.receive(link, &frame, at(0));
        }
        source.work(at(0));
        for (link, frame) in std::mem::take(&mut source.sent) {
            match Message::decode(&frame) {
                Ok(Message::RepairPart(part)) if is_it(&part) => return (source, puller, part),
                _ => puller.replica.receive(link, &frame, at(0)),
            }
        }
        puller.work(at(0));
    }
    panic!("no such part is sent");
}

fn get(node: &mut Node, link: LinkId, part: &RepairPart) {
    node.replica.receive(link, &Message::RepairPart(part.clone()).encode(), at(0));
}

fn has_elements(part: &RepairPart) -> bool {
    part.objects.iter().any(|(_, entries)| entries.len() > 1)
}

fn goes_on(part: &RepairPart) -> bool {
    part.from.is_some() && !part.objects.is_empty()
}

#[test]
fn a_part_is_taken_from_whom_it_was_asked_and_for_where() {
    let (_source, mut puller, part) = about_to_get_a_part(has_elements);
    let mut other = trimmed_source(3, ELEMENTS);
    connect(&mut other, &mut puller, OTHER_LINK, at(0));
    for (link, frame) in std::mem::take(&mut other.sent) {
        puller.replica.receive(link, &frame, at(0));
    }
    puller.work(at(0));
    let elsewhere = Position { key: "a".into(), entry: Box::default() };
    let not_asked = [
        ("of another source", OTHER_LINK, part.clone()),
        ("of another range", LINK, RepairPart { range: 63, objects: Vec::new(), ..part.clone() }),
        ("of another place", LINK, RepairPart { from: Some(elsewhere), to: None, ..part.clone() }),
    ];
    assert!(part.range != 63 && part.from.is_none(), "else these are what was asked");
    for (which, link, part) in not_asked {
        get(&mut puller, link, &part);
        assert!(!puller.replica.has_part_to_merge(), "a part {which} says nothing of this place");
    }
    assert_eq!(puller.closed, [], "what is late is not wrong");
    get(&mut puller, LINK, &part);
    assert!(puller.replica.has_part_to_merge());
}

#[test]
fn a_second_part_does_not_take_the_place_of_the_one_at_hand() {
    let (_source, mut puller, part) = about_to_get_a_part(has_elements);
    get(&mut puller, LINK, &part);
    get(&mut puller, LINK, &RepairPart { objects: Vec::new(), ..part.clone() });
    puller.work(at(0));
    let brought: usize = part.objects.iter().map(|(_, entries)| entries.len()).sum();
    let here = entries(&puller.records).into_iter();
    let here = here.filter(|(key, ..)| part.objects.iter().any(|(known, _)| known == key));
    assert_eq!(here.count(), brought, "its absence would be taken for removal");
}

/// What is wrong with a part that nobody sends by mistake.
fn damaged(puller: &Node, part: &RepairPart) -> Vec<(&'static str, RepairPart)> {
    let (key, entries) = part.objects[0].clone();
    let with = |objects| RepairPart { objects, ..part.clone() };
    let set = puller.replica.set.range_of(&key);
    let mut keys = (0..).map(|n| crate::ObjectKey::from(format!("other {n}")));
    let other = keys.find(|key| puller.replica.set.range_of(key) != set).expect("endless");
    let cell = EntryKey::of_object(Part::Cell(ActorId::from_bytes([1; 16])));
    let mut unsorted = entries.clone();
    unsorted.reverse();
    let mut vector = part.vector.clone();
    vector.raise(puller.replica.identity.opening, 7);
    vec![
        ("an object of another range", with(vec![(other, entries)])),
        ("entries out of order", with(vec![(key.clone(), unsorted)])),
        ("a counter's cell in a set", with(vec![(key, vec![(cell, Entry::Cells(Vec::new()))])])),
        ("writes of this opening that it did not make", RepairPart { vector, ..part.clone() }),
        ("an end before its start", RepairPart { to: part.from.clone(), ..part.clone() }),
    ]
}

#[test]
fn a_damaged_part_closes_its_link_and_is_not_taken() {
    let asked = |part: &RepairPart| goes_on(part) && has_elements(part);
    let (_source, puller, part) = about_to_get_a_part(asked);
    for (at, (what, _)) in damaged(&puller, &part).into_iter().enumerate() {
        let (_source, mut puller, part) = about_to_get_a_part(asked);
        let (_, wrong) = damaged(&puller, &part).swap_remove(at);
        let before = puller.records.clone();
        get(&mut puller, LINK, &wrong);
        puller.work(self::at(0));
        assert_eq!(puller.closed, [(LINK, CloseReason::DamagedUnit)], "{what}");
        assert!(!puller.replica.has_part_to_merge(), "{what}");
        assert_eq!(entries(&puller.records), entries(&before), "{what}");
    }
}

/// Steps until something has to be loaded, or nothing is left to do.
fn step_until_missing(node: &mut Node) -> Option<Missing> {
    loop {
        match node.replica.step(at(0)) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(missing) => return Some(missing),
        }
    }
}

fn is_listing(missing: Option<&Missing>) -> bool {
    matches!(missing, Some(Missing(Read::Listing { .. })))
}

#[test]
fn a_part_is_joined_to_what_is_committed_listed_anew_after_each_change() {
    let (_source, mut puller, part) = about_to_get_a_part(has_elements);
    let key = part.objects[0].0.clone();
    get(&mut puller, LINK, &part);
    puller.submit(&[(key.clone(), add("\"mine\""))], NO_LIMITS, at(0)).unwrap();
    let missing = step_until_missing(&mut puller);
    assert!(missing.is_none(), "a listing of the store lacks what is not committed: {missing:?}");
    assert!(puller.replica.has_part_to_merge(), "it waits");
    puller.commit(at(0));

    let missing = step_until_missing(&mut puller);
    assert!(is_listing(missing.as_ref()), "{missing:?}");
    puller.supply(missing.expect("as above"));
    puller.submit(&[(key, add("\"mine too\""))], NO_LIMITS, at(0)).unwrap();
    assert!(step_until_missing(&mut puller).is_none());
    puller.commit(at(0));
    let missing = step_until_missing(&mut puller);
    assert!(is_listing(missing.as_ref()), "the listing is of before the last write: {missing:?}");
}

#[test]
fn a_finished_repair_leaves_its_vector_and_no_record() {
    let mut source = trimmed_source(1, ELEMENTS);
    let mut puller = Node::new(2, CrdtType::ORSet);
    connect(&mut source, &mut puller, LINK, at(0));
    exchange(&mut source, &mut puller, at(0));
    assert_eq!(puller.replica.counters.repairs_completed, 1);
    assert!(!puller.records.contains_key(&RecordKey::Repair), "nothing differs by place now");
    let vector = puller.replica.visible().clone();
    let again = Node::open(4, CrdtType::ORSet, puller.records);
    assert!(!again.replica.is_under_repair());
    assert_eq!(*again.replica.visible(), vector, "what a repair brought is in no log");
}

#[test]
fn a_repair_cut_short_by_a_crash_brings_back_nothing_that_was_removed_meanwhile() {
    let (mut source, mut puller, part) = about_to_get_a_part(|part| part.range > 32);
    let here = entries(&puller.records);
    let (key, name, _) = here.iter().find(|(_, name, _)| name.part() != Part::Existence).unwrap();
    let element = std::str::from_utf8(&name.as_bytes()[1..]).unwrap();
    puller.write(key, remove(element), at(1));
    let ranges = puller.replica.repair.ranges.clone();
    assert!(!ranges.is_empty() && part.range > 32, "it has to be half-way");

    let mut again = Node::open(4, CrdtType::ORSet, puller.records);
    assert!(again.replica.is_under_repair(), "what is here is less than the log says");
    assert_eq!(again.replica.repair.ranges, ranges);
    source.replica.link_down(LINK);
    source.work(at(2));
    source.sent.clear();
    connect(&mut source, &mut again, OTHER_LINK, at(2));
    exchange(&mut source, &mut again, at(2));
    assert!(!again.replica.is_under_repair());
    let left = entries(&again.records);
    assert!(!left.iter().any(|(of, is, _)| of == key && is == name), "the removal is forgotten");
    assert_eq!(left.len(), entries(&source.records).len());
    assert_eq!(left, entries(&source.records), "both end equal");
}
