//! How removals of much are put: by name, by range, or in steps.

use coppice_crdt::testing::Object;
use coppice_crdt::{
    ActorId, Amounts, Applied, CrdtType, Dot, EntryDelta, EntryKey, EntryRange, HybridTimestamp,
    ObjectDelta, Operation, OperationContext, Part, Raise, Refusal, RemovalLimits, VersionVector,
    apply, removal_extent, with_existence,
};

const ACTOR: ActorId = ActorId::from_bytes([1; 16]);

fn actor(number: usize) -> ActorId {
    let mut bytes = [9; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    ActorId::from_bytes(bytes)
}

fn cell(owner: ActorId, field: Option<&str>) -> (EntryKey, EntryDelta) {
    let part = Part::Cell(owner);
    let key = match field {
        Some(name) => EntryKey::of_field(name, CrdtType::PNCounter, part),
        None => EntryKey::of_object(part),
    };
    let raise = Raise { birth: 1, last: 1, amounts: Amounts { up: 2, down: 0 } };
    (key, EntryDelta::Cells { raised: vec![raise], floors: Vec::new() })
}

/// A counter that so many replicas have counted.
fn counter(cells: usize) -> Object {
    let entries = (0..cells).map(|number| cell(actor(number), None));
    let covers = (0..cells).map(|number| (actor(number), 1));
    filled(CrdtType::PNCounter, entries.collect(), &covers.collect())
}

/// So many elements, in a set or in a map's field.
fn elements(count: u64, in_field: bool) -> impl Iterator<Item = (EntryKey, EntryDelta)> {
    (1..=count).map(move |n| {
        let json = n.to_string();
        let part = Part::Element(json.as_bytes());
        let key = if in_field {
            EntryKey::of_field("set", CrdtType::ORSet, part)
        } else {
            EntryKey::of_object(part)
        };
        (key, EntryDelta::Dots { added: vec![Dot::new(ACTOR, n)], removed: Vec::new() })
    })
}

fn filled(
    crdt_type: CrdtType,
    entries: Vec<(EntryKey, EntryDelta)>,
    covers: &VersionVector,
) -> Object {
    let mut object = Object::new(crdt_type);
    let delta = ObjectDelta { entries: entries.into_iter().collect(), removals: Vec::new() };
    object.apply(&delta, covers);
    object
}

fn remove(
    object: &Object,
    crdt_type: CrdtType,
    operation: &Operation,
    is_littered: bool,
) -> Result<Applied, Refusal> {
    let seen = [(EntryRange::all(), object.context().clone())];
    let context = OperationContext {
        dot: Dot::new(ACTOR, object.context().get(&ACTOR) + 1),
        stamp: HybridTimestamp::new(1, 0),
        now_ms: 1,
        seen: &seen,
        value_bytes_limit: 100,
        is_littered,
        removals: RemovalLimits::default(),
    };
    let Ok(applied) = apply(operation, crdt_type, object, &context);
    applied
}

const NEEDS_STEPS: Refusal = Refusal::NeedsSteps { cells: 10_000 };

#[test]
fn a_unit_takes_so_many_cells_and_no_more() {
    let remove = |cells| remove(&counter(cells), CrdtType::PNCounter, &Operation::Delete, false);
    let taken = remove(10_000).expect("that many fit");
    assert_eq!(taken.delta.entries.len(), 10_000);
    assert_eq!(remove(10_001), Err(NEEDS_STEPS));
}

#[test]
fn a_large_set_is_removed_by_its_range_without_a_look_at_it() {
    let covers = VersionVector::from_iter([(ACTOR, 17_000)]);
    let set = filled(CrdtType::ORSet, elements(17_000, false).collect(), &covers);
    let taken = remove(&set, CrdtType::ORSet, &Operation::Delete, false).expect("a range is small");
    assert_eq!(taken.delta.removals.len(), 1);
    assert_eq!(taken.delta.removals[0].context, covers);
    assert!(taken.delta.entries.is_empty());
}

#[test]
fn cells_among_more_than_may_be_looked_at_are_removed_in_steps() {
    let mut entries: Vec<_> = elements(17_000, true).collect();
    entries.push(cell(actor(1), Some("count")));
    let covers = VersionVector::from_iter([(ACTOR, 17_000), (actor(1), 1)]);
    let map = filled(CrdtType::ORMap, entries, &covers);
    assert_eq!(remove(&map, CrdtType::ORMap, &Operation::Delete, false), Err(NEEDS_STEPS));
}

#[test]
fn nothing_is_named_among_what_is_still_to_be_swept() {
    let covers = VersionVector::from_iter([(ACTOR, 3)]);
    let set = filled(CrdtType::ORSet, elements(3, false).collect(), &covers);
    let named = remove(&set, CrdtType::ORSet, &Operation::Delete, false).unwrap();
    assert_eq!((named.delta.entries.len(), named.delta.removals.len()), (3, 0));
    let littered = remove(&set, CrdtType::ORSet, &Operation::Delete, true).unwrap();
    assert_eq!((littered.delta.entries.len(), littered.delta.removals.len()), (0, 1));
    let littered = remove(&counter(3), CrdtType::PNCounter, &Operation::Delete, true);
    assert_eq!(littered, Err(NEEDS_STEPS));
}

/// A map with a set of three elements and a counter of two cells.
fn map() -> Object {
    let mut entries: Vec<_> = elements(3, true).collect();
    entries.extend([1, 2].map(|number| cell(actor(number), Some("count"))));
    let covers = VersionVector::from_iter([(ACTOR, 3), (actor(1), 1), (actor(2), 1)]);
    filled(CrdtType::ORMap, entries, &covers)
}

fn clear_of_field() -> Operation {
    let operation = Box::new(Operation::Clear);
    Operation::Update { field: "set".into(), crdt_type: CrdtType::ORSet, operation }
}

#[test]
fn a_removal_in_steps_knows_how_far_it_reaches() {
    let extent = |operation: &Operation, crdt_type, object: &Object| {
        let Ok(extent) = removal_extent(operation, crdt_type, object);
        extent.map(|extent| (extent.range, extent.cells))
    };
    let of_map = |operation: &Operation| extent(operation, CrdtType::ORMap, &map());
    assert_eq!(of_map(&Operation::Delete), Some((EntryRange::all(), 2)));
    assert_eq!(of_map(&Operation::Clear), Some((EntryRange::fields(), 2)));
    let field = |name: &str| EntryRange::with_prefix(&EntryKey::field_name_prefix(name));
    let remove = |name: &str| of_map(&Operation::RemoveField { field: name.into() });
    assert_eq!(remove("count"), Some((field("count"), 2)));
    assert_eq!(remove("set"), Some((field("set"), 0)));
    let elements = EntryKey::field_elements_prefix("set", CrdtType::ORSet);
    assert_eq!(of_map(&clear_of_field()), Some((EntryRange::with_prefix(&elements), 0)));
    let add = Operation::Add { elements: Vec::new() };
    let add_to_field = Operation::Update {
        field: "set".into(),
        crdt_type: CrdtType::ORSet,
        operation: Box::new(add.clone()),
    };
    assert_eq!(of_map(&add_to_field), None);
    assert_eq!(extent(&add, CrdtType::ORSet, &Object::new(CrdtType::ORSet)), None);
    let cleared = extent(&Operation::Clear, CrdtType::ORSet, &Object::new(CrdtType::ORSet));
    assert_eq!(cleared, Some((EntryRange::elements(), 0)));
}

#[test]
fn what_a_removal_in_steps_leaves_goes_on_existing() {
    let dot = Dot::new(ACTOR, 4);
    let last = |operation: &Operation, object: &Object| {
        let Ok(delta) = with_existence(ObjectDelta::default(), operation, object, dot);
        delta.entries.into_keys().collect::<Vec<_>>()
    };
    let of_object = EntryKey::of_object(Part::Existence);
    let of_field = EntryKey::of_field("set", CrdtType::ORSet, Part::Existence);
    assert_eq!(last(&Operation::Delete, &map()), []);
    assert_eq!(last(&Operation::Clear, &map()), std::slice::from_ref(&of_object));
    assert_eq!(last(&clear_of_field(), &map()), [of_object.clone(), of_field.clone()]);
    let exists = |key: EntryKey| {
        let mut object = map();
        let added = EntryDelta::Dots { added: vec![dot], removed: Vec::new() };
        let delta = ObjectDelta { entries: [(key, added)].into(), removals: Vec::new() };
        object.apply(&delta, &VersionVector::from_iter([(ACTOR, 4)]));
        object
    };
    assert_eq!(last(&Operation::Clear, &exists(of_object.clone())), []);
    assert_eq!(
        last(&clear_of_field(), &exists(of_field.clone())),
        std::slice::from_ref(&of_object)
    );
    assert_eq!(last(&clear_of_field(), &exists(of_object)), [of_field]);
}
