//! Large removals: what they take and leave, seen from outside at any time.

use std::collections::BTreeMap;

use coppice_crdt::testing::Object;
use coppice_crdt::{
    CrdtType, Element, Entries, Entry, EntryKey, Operation, Outcome, Part, RemovalLimits,
    VersionVector, query,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::node::{NO_LIMITS, Node, at};
use super::stored::entries;
use super::wires::{connect, exchange};
use super::{LINK, state};
use crate::record::{LogItem, LogRecord, RecordKey};
use crate::replica::SubmitRefusal;
use crate::working_set::RemovalPace;

const KEY: &str = "map";

fn numbers(from: usize, to: usize) -> Vec<Element> {
    (from..to).map(|n| Element::parse(n.to_string().as_bytes()).expect("JSON")).collect()
}

fn update(field: &str, crdt_type: CrdtType, operation: Operation) -> Operation {
    Operation::Update { field: field.into(), crdt_type, operation: Box::new(operation) }
}

fn add(field: &str, from: usize, to: usize) -> Operation {
    update(field, CrdtType::ORSet, Operation::Add { elements: numbers(from, to) })
}

fn increment(field: &str, by: u64) -> Operation {
    update(field, CrdtType::PNCounter, Operation::Increment { by })
}

fn remove(field: &str) -> Operation {
    Operation::RemoveField { field: field.into() }
}

/// Two linked nodes of a map group; what is few, and a step, are small.
fn pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::new(1, CrdtType::ORMap), Node::new(2, CrdtType::ORMap));
    for node in [&mut a, &mut b] {
        node.replica.set.pace =
            RemovalPace { few_entries: 16, entries_per_step: 24, ..RemovalPace::default() };
        node.sweeps_late = true;
    }
    connect(&mut a, &mut b, LINK, at(0));
    exchange(&mut a, &mut b, at(0));
    (a, b)
}

/// The field's value as JSON, read as queries read; `None` if there is none.
fn value(node: &mut Node, field: &str) -> Option<String> {
    let mut text = String::new();
    let found = node.read(KEY, |object| query::field(object, field))?;
    found.value.write_json(&mut text);
    Some(text)
}

/// The live part of a node's state, without dead cells.
fn live(entries: impl IntoIterator<Item = (EntryKey, Entry)>) -> BTreeMap<EntryKey, Entry> {
    let live = entries.into_iter().filter_map(|(name, entry)| match entry {
        Entry::Cells(mut cells) => {
            cells.retain(coppice_crdt::Cell::is_live);
            (!cells.is_empty()).then_some((name, Entry::Cells(cells)))
        }
        other => Some((name, other)),
    });
    live.collect()
}

/// The whole object, made of the units in a node's log by the naive join.
fn naive(node: &Node) -> Object {
    let mut object = Object::new(CrdtType::ORMap);
    let mut seen = VersionVector::new();
    for (key, bytes) in &node.records {
        let RecordKey::Log(_) = key else { continue };
        for item in LogRecord::decode(bytes).unwrap().items {
            let LogItem::Unit(unit) = item else { panic!("nothing was repaired") };
            unit.raise(&mut seen);
            for delta in unit.objects.values() {
                object.apply(delta, &seen);
            }
        }
    }
    object
}

/// What is stored is what the naive join makes, and every figure is that of it.
fn check(node: &Node) {
    state::check(node);
    let stored = entries(&node.records).into_iter().map(|(_, name, entry)| (name, entry));
    let expected = naive(node);
    assert_eq!(live(stored), live(expected.entries().clone()));
}

#[derive(Clone, Debug)]
enum Step {
    Write(bool, Operation),
    InSteps(bool, Operation, Vec<Operation>),
    Exchange,
    Commit(bool),
    Reopen(bool),
}

fn removals() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => Just(Operation::Clear),
        2 => Just(Operation::Delete),
        2 => field().prop_map(remove),
        1 => field().prop_map(|field| update(field, CrdtType::ORSet, Operation::Clear)),
    ]
}

fn field() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["a", "b", "c", "d"][..])
}

fn writes() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => field().prop_map(|field| add(field, 0, 70)),
        3 => (field(), 0..80_usize).prop_map(|(field, n)| add(field, n, n + 2)),
        2 => (field(), 1..9_u64).prop_map(|(field, by)| increment(field, by)),
        1 => field().prop_map(|field| update(field, CrdtType::EWFlag, Operation::Enable)),
        1 => (field(), 0..80_usize).prop_map(|(field, n)| {
            update(field, CrdtType::ORSet, Operation::Remove { elements: numbers(n, n + 2) })
        }),
        3 => removals(),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (any::<bool>(), writes()).prop_map(|(first, write)| Step::Write(first, write)),
        2 => (any::<bool>(), removals(), vec(writes(), 0..4))
            .prop_map(|(first, removal, meanwhile)| Step::InSteps(first, removal, meanwhile)),
        2 => Just(Step::Exchange),
        3 => any::<bool>().prop_map(Step::Commit),
        1 => any::<bool>().prop_map(Step::Reopen),
    ];
    vec(step, 1..40)
}

fn run(steps: Vec<Step>) {
    let (mut a, mut b) = pair();
    for (number, step) in (1..).zip(steps) {
        let now = at(number);
        match step {
            Step::Write(first, write) => {
                let node = if first { &mut a } else { &mut b };
                // Some are refused: of an absent object, or of another type.
                let _ = node.submit(&[(KEY.into(), write)], NO_LIMITS, now);
                node.commit(now);
            }
            Step::InSteps(first, removal, meanwhile) => {
                let node = if first { &mut a } else { &mut b };
                node.commit(now);
                node.remove_in_steps(KEY, &removal, |node, step| {
                    if let Some(write) = meanwhile.get(step) {
                        let _ = node.submit(&[(KEY.into(), write.clone())], NO_LIMITS, now);
                    }
                });
            }
            Step::Exchange => exchange(&mut a, &mut b, now),
            Step::Commit(first) => {
                let node = if first { &mut a } else { &mut b };
                node.commit(now);
                node.after_commit();
            }
            Step::Reopen(first) => {
                // Half-way through a sweep, perhaps: it goes on where it was.
                let node = if first { &mut a } else { &mut b };
                node.commit(now);
                node.forget_and_resume();
            }
        }
        check(&a);
        check(&b);
    }
    let end = at(10_000);
    exchange(&mut a, &mut b, end);
    assert_eq!(a.replica.digest(), b.replica.digest(), "both have the same units");
    for node in [&mut a, &mut b] {
        check(node);
        node.sweeps_late = false;
        node.work(end);
        check(node);
        let hidden = node.replica.has_sweeps();
        assert!(!hidden, "sweeps come to their end");
    }
    assert_eq!(a.replica.digest(), b.replica.digest());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn figures_are_those_of_what_large_removals_leave(steps in steps()) {
        run(steps);
    }
}

#[test]
fn what_is_hidden_is_in_no_answer() {
    let (mut a, mut b) = pair();
    a.write(KEY, add("big", 0, 200), at(1));
    for field in 0..40 {
        let name = format!("f{field}");
        a.write(KEY, update(&name, CrdtType::EWFlag, Operation::Enable), at(1));
    }
    a.write(KEY, increment("likes", 5), at(1));
    exchange(&mut a, &mut b, at(1));
    b.write(KEY, add("big", 199, 202), at(2));
    b.write(KEY, increment("likes", 2), at(2));
    a.write(KEY, Operation::Clear, at(2));
    let stored =
        |node: &Node| node.records.keys().filter(|key| matches!(key, RecordKey::Entry(..))).count();
    assert!(stored(&a) > 200, "nothing is deleted yet");
    assert_eq!(value(&mut a, "big"), None);
    assert_eq!(value(&mut a, "f7"), None);
    assert_eq!(value(&mut a, "likes"), None);
    assert_eq!(a.read(KEY, |object| query::size(object)), Some(0));
    let page = a.read(KEY, |object| query::fields(object, None, 10)).expect("it exists");
    assert!(page.items.is_empty() && !page.more);
    check(&a);

    exchange(&mut a, &mut b, at(3));
    assert!(stored(&b) > 100 && b.replica.has_sweeps(), "not all is deleted yet");
    for node in [&mut a, &mut b] {
        assert_eq!(value(node, "big").as_deref(), Some("[199,200,201]"));
        assert_eq!(value(node, "likes").as_deref(), Some("2"));
        assert_eq!(value(node, "f7"), None);
        assert_eq!(node.read(KEY, |object| query::size(object)), Some(2));
        let first = numbers(0, 1).remove(0);
        let name = EntryKey::of_field("big", CrdtType::ORSet, Part::Element(first.as_bytes()));
        assert_eq!(node.read(KEY, |object| object.entry(&name)), None);
        check(node);
    }
    let before = (a.replica.digest(), b.replica.digest());
    assert_eq!(before.0, before.1, "etags do not wait for the sweep");
    for node in [&mut a, &mut b] {
        node.sweeps_late = false;
        node.work(at(4));
        assert!(stored(node) < 12, "the rest is deleted: {}", stored(node));
        check(node);
    }
    assert_eq!((a.replica.digest(), b.replica.digest()), before);
}

#[test]
fn one_field_goes_and_the_others_stay() {
    let (mut a, mut b) = pair();
    a.write(KEY, add("big", 0, 200), at(1));
    a.write(KEY, add("other", 0, 100), at(1));
    exchange(&mut a, &mut b, at(1));
    a.write(KEY, update("other", CrdtType::ORSet, Operation::Clear), at(2));
    b.write(KEY, remove("big"), at(2));
    exchange(&mut a, &mut b, at(3));
    for node in [&mut a, &mut b] {
        assert_eq!(value(node, "big"), None);
        assert_eq!(value(node, "other").as_deref(), Some("[]"), "a cleared set goes on existing");
        assert_eq!(node.read(KEY, |object| query::size(object)), Some(1));
        check(node);
    }
    assert_eq!(a.replica.digest(), b.replica.digest());
}

/// A map of so many counters, each of which both replicas have counted.
fn many_counters(count: usize) -> (Node, Node) {
    let (mut a, mut b) = pair();
    for node in [&mut a, &mut b] {
        node.replica.set.pace = RemovalPace::default();
        (node.sweeps_late, node.keeps_loaded) = (false, true);
    }
    for from in (0..count).step_by(50) {
        let increments = (from..from + 50)
            .map(|field| (KEY.into(), increment(&format!("{field:05}"), 3)))
            .collect::<Vec<_>>();
        for node in [&mut a, &mut b] {
            node.submit(&increments, NO_LIMITS, at(1)).unwrap();
            node.commit(at(1));
        }
        exchange(&mut a, &mut b, at(1));
    }
    for node in [&mut a, &mut b] {
        node.keeps_loaded = false;
        node.commit(at(1));
    }
    (a, b)
}

#[test]
fn more_cells_than_one_unit_may_take_go_in_steps() {
    let (mut a, mut b) = many_counters(6_000);
    let units =
        |node: &Node| node.records.keys().filter(|key| matches!(key, RecordKey::Log(_))).count();
    let before = units(&a);
    let clear = [(KEY.into(), Operation::Clear)];
    let refused = a.submit(&clear, NO_LIMITS, at(2));
    assert!(matches!(refused, Err(SubmitRefusal::Operation { .. })), "{refused:?}");

    // The other replica has not heard of the removal.
    b.write(KEY, increment("00010", 4), at(2));
    b.write(KEY, increment("05990", 4), at(2));
    let outcome = a.remove_in_steps(KEY, &Operation::Clear, |node, step| {
        // Here too something is written before the removal is done.
        if step == 9 {
            node.write(KEY, increment("00001", 7), at(2));
            node.write(KEY, increment("05991", 7), at(2));
            node.write(KEY, increment("new", 1), at(2));
        }
    });
    assert_eq!(outcome, Outcome::Map { changed: true, size: 3, field: None });
    exchange(&mut a, &mut b, at(3));
    assert!(units(&a) > before + 8, "it went out as several units");
    for node in [&mut a, &mut b] {
        node.work(at(4));
        let left = [("00001", "7"), ("05991", "7"), ("new", "1"), ("00010", "4"), ("05990", "4")];
        for (field, sum) in left {
            assert_eq!(value(node, field).as_deref(), Some(sum), "only what it had not seen");
        }
        assert_eq!(node.read(KEY, |object| query::size(object)), Some(5));
        state::check(node);
    }
    assert_eq!(a.replica.digest(), b.replica.digest());
}

#[test]
fn a_removal_cut_short_has_removed_a_prefix() {
    let (mut a, mut b) = many_counters(6_000);
    let mut cut = None;
    a.remove_in_steps(KEY, &Operation::Delete, |node, step| {
        if step == 8 {
            cut = Some(node.records.clone());
        }
    });
    let mut a = Node::open(3, CrdtType::ORMap, cut.expect("it takes more steps"));
    let left = a.read(KEY, |object| query::size(object)).expect("it is half there");
    assert!((1..6_000).contains(&left), "{left}");
    assert_eq!(value(&mut a, "00000"), None);
    assert_eq!(value(&mut a, "05999").as_deref(), Some("6"));
    connect(&mut a, &mut b, super::OTHER_LINK, at(3));
    exchange(&mut a, &mut b, at(3));
    assert_eq!(b.read(KEY, |object| query::size(object)), Some(left));
    assert_eq!(a.replica.digest(), b.replica.digest());
    // Once more, and it is done.
    a.remove_in_steps(KEY, &Operation::Delete, |_, _| {});
    exchange(&mut a, &mut b, at(4));
    for node in [&mut a, &mut b] {
        node.work(at(5));
        assert_eq!(node.read(KEY, |object| query::size(object)), None);
        state::check(node);
    }
    assert_eq!(a.replica.digest(), b.replica.digest());
}

#[test]
fn a_field_goes_whole_however_its_cells_fall_into_units() {
    // A field is three entries: its existence and two cells.
    for per_part in 3..9 {
        let (mut a, _) = many_counters(50);
        let limits = RemovalLimits { cells: 1, ..RemovalLimits::default() };
        let pace = RemovalPace { limits, entries_per_part: per_part, ..RemovalPace::default() };
        a.replica.set.pace = pace;
        let mut left = Vec::new();
        a.remove_in_steps(KEY, &Operation::Clear, |a, step| {
            left.push(a.read(KEY, |object| query::size(object)).unwrap_or(0));
            for field in 0..50 {
                let value = value(a, &format!("{field:05}"));
                let is_whole = value.as_deref().is_none_or(|value| value == "6");
                assert!(is_whole, "{per_part} cells a unit, step {step}: {field} is {value:?}");
            }
        });
        left.dedup();
        assert!(left.len() > 100 / per_part / 2, "{per_part} cells a unit: {left:?} are left");
    }
}

#[test]
fn a_field_of_more_cells_than_a_unit_takes_goes_too() {
    let (mut a, mut b) = many_counters(50);
    let limits = RemovalLimits { cells: 1, ..RemovalLimits::default() };
    a.replica.set.pace = RemovalPace { limits, entries_per_part: 1, ..RemovalPace::default() };
    a.remove_in_steps(KEY, &Operation::Clear, |_, _| {});
    exchange(&mut a, &mut b, at(2));
    for node in [&mut a, &mut b] {
        assert_eq!(node.read(KEY, |object| query::size(object)), Some(0));
        state::check(node);
    }
}

#[test]
fn the_next_removal_waits_while_too_much_is_hidden() {
    let (mut a, mut b) = pair();
    for field in 0..80 {
        a.write(KEY, add(&format!("f{field}"), 0, 70), at(1));
    }
    exchange(&mut a, &mut b, at(1));
    let mut waited = 0;
    for field in 0..80 {
        let removal = [(KEY.into(), remove(&format!("f{field}")))];
        if a.submit(&removal, NO_LIMITS, at(2)).is_err() {
            waited += 1;
            a.remove_in_steps(KEY, &removal[0].1, |_, _| {});
        }
        a.commit(at(2));
    }
    assert!(waited > 0, "at most 64 removals are hidden in an object");
    exchange(&mut a, &mut b, at(3));
    for node in [&mut a, &mut b] {
        assert_eq!(node.read(KEY, |object| query::size(object)), Some(0));
        check(node);
    }
    assert_eq!(a.replica.digest(), b.replica.digest());
}

#[test]
fn what_is_swept_stays_hidden_until_its_deletion_is_committed() {
    let many = |field| add(field, 0, 70);
    run(vec![
        Step::Write(false, many("b")),
        Step::Write(false, many("b")),
        Step::Write(false, add("b", 70, 72)),
        Step::Exchange,
        Step::Write(false, increment("a", 1)),
        Step::InSteps(false, Operation::Delete, vec![many("a"), Operation::Clear]),
        Step::Exchange,
        Step::InSteps(false, Operation::Clear, vec![]),
        Step::Commit(false),
        Step::Write(false, many("a")),
    ]);
}
