//! A name over stores that hold its group, another one, or none.

use coppice_crdt::Operation;
use coppice_replication::Now;

use super::*;
use crate::engine::{AddError, Effect, GroupSettings};
use crate::replica_task::WriteRequest;
use crate::store::Durability;
use crate::store::memory::MemoryStore;

const NOW: Now = Now { wall_ms: 1_000, steady_ms: 1_000 };
const ONE: Named = Named { id: [1; 16], crdt_type: CrdtType::GCounter };
const OTHER: Named = Named { id: [2; 16], crdt_type: CrdtType::GCounter };

type TestEngine = Engine<MemoryStore, ()>;

fn opened(store: MemoryStore) -> TestEngine {
    Engine::open(store, "a".into(), [3; 32]).unwrap()
}

fn serve_all(
    engine: &mut TestEngine,
    groups: &[(&str, Named)],
) -> Result<Vec<Slot>, Vec<OtherGroup>> {
    let groups: Vec<_> =
        groups.iter().map(|&(name, named)| (name, named, GroupSettings::small())).collect();
    engine.add_groups(&groups, NOW).map_err(|error| {
        let AddError::Groups(refused) = error else { panic!("{error}") };
        let others = refused.into_iter().map(|(_, error)| match error {
            OpenError::OtherGroup(other) => *other,
            error => panic!("{error}"),
        });
        others.collect()
    })
}

fn serve(engine: &mut TestEngine, name: &str, named: Named) -> Result<Slot, Vec<OtherGroup>> {
    serve_all(engine, &[(name, named)]).map(|slots| slots[0])
}

fn increment(engine: &mut TestEngine, slot: Slot) {
    let operations = vec![("k".into(), Operation::Increment { by: 1 })];
    let request = WriteRequest { operations, precondition: None, allow_incomplete: true };
    engine.submit(slot, &request, (), NOW).unwrap();
    engine.commit(NOW).unwrap();
}

/// A store whose group `hits` is `ONE` and holds an object.
fn store_with_hits() -> MemoryStore {
    let mut engine = opened(MemoryStore::new());
    let slot = serve(&mut engine, "hits", ONE).unwrap();
    increment(&mut engine, slot);
    engine.into_store()
}

fn objects(engine: &TestEngine, slot: Slot) -> u64 {
    engine.figures(slot, NOW).unwrap().totals.objects
}

#[test]
fn a_name_that_stands_for_another_group_is_refused_and_nothing_is_changed() {
    let mut engine = opened(store_with_hits());
    for configured in [
        OTHER,
        Named { crdt_type: CrdtType::PNCounter, ..ONE },
        Named { crdt_type: CrdtType::ORSet, ..OTHER },
    ] {
        let before = engine.meta(b"").unwrap();
        let refused = serve(&mut engine, "hits", configured).unwrap_err();
        let (name, objects) = ("hits".to_owned(), 1);
        assert_eq!(refused, [OtherGroup { name, stored: ONE, configured, objects }]);
        assert_eq!(engine.meta(b"").unwrap(), before, "a refusal leaves no trace");
    }
    let slot = serve(&mut engine, "hits", ONE).unwrap();
    assert_eq!(objects(&engine, slot), 1);
}

#[test]
fn a_name_whose_group_never_held_anything_is_free() {
    let mut engine = opened(MemoryStore::new());
    let unused = serve(&mut engine, "hits", OTHER).unwrap();
    let mut engine = opened(engine.into_store());
    let slot = serve(&mut engine, "hits", ONE).unwrap();
    assert_ne!(slot, unused);
    increment(&mut engine, slot);
    let mut engine = opened(engine.into_store());
    assert!(serve(&mut engine, "hits", OTHER).is_err(), "the later one holds something");
}

#[test]
fn a_store_without_such_records_gets_them() {
    let mut store = store_with_hits();
    let mut batch = Batch::new();
    batch.delete(Table::Meta, &keys::name("hits"));
    store.commit(&batch, Durability::Sync).unwrap();

    let mut engine = opened(store);
    let slot = serve(&mut engine, "hits", ONE).unwrap();
    assert_eq!(objects(&engine, slot), 1);
    let mut engine = opened(engine.into_store());
    assert!(serve(&mut engine, "hits", OTHER).is_err());
}

#[test]
fn a_group_that_was_renamed_leaves_its_old_name_free() {
    let mut engine = opened(store_with_hits());
    let renamed = serve(&mut engine, "old-hits", ONE).unwrap();
    assert_eq!(objects(&engine, renamed), 1, "its id says which group it is");
    let slot = serve(&mut engine, "hits", OTHER).unwrap();
    assert_eq!(objects(&engine, slot), 0);
}

/// A store with one object in each of two groups, `hits` and `likes`.
fn store_with_two() -> MemoryStore {
    let mut engine = opened(store_with_hits());
    let slot = serve(&mut engine, "likes", OTHER).unwrap();
    increment(&mut engine, slot);
    engine.into_store()
}

#[test]
fn names_change_together_or_not_at_all() {
    let third = Named { id: [3; 16], ..ONE };
    let other_type = Named { crdt_type: CrdtType::ORSet, ..OTHER };
    for refused in [
        // In each, the first alone could be served, and would take a name.
        [("likes-too", OTHER), ("hits", third)],
        [("new", third), ("hits", OTHER)],
        [("old-hits", ONE), ("likes", other_type)],
        [("likes", ONE), ("old-likes", other_type)],
    ] {
        let mut engine = opened(store_with_two());
        let before = engine.meta(b"").unwrap();
        serve_all(&mut engine, &refused).unwrap_err();
        assert_eq!(engine.meta(b"").unwrap(), before, "{refused:?} left a trace");
        assert_eq!(engine.slots().count(), 0, "{refused:?}");
    }
}

#[test]
fn names_may_be_passed_on_and_exchanged_in_any_order() {
    for groups in [
        [("likes", ONE), ("old-likes", OTHER)],
        [("old-likes", OTHER), ("likes", ONE)],
        [("likes", ONE), ("hits", OTHER)],
        [("hits", OTHER), ("likes", ONE)],
    ] {
        let mut engine = opened(store_with_two());
        let slots = serve_all(&mut engine, &groups).unwrap();
        assert_eq!(slots.into_iter().map(|slot| objects(&engine, slot)).sum::<u64>(), 2);
        // Each has the one name.
        let mut engine = opened(engine.into_store());
        assert!(
            serve(&mut engine, "new", OTHER).is_ok() && serve(&mut engine, "hits", ONE).is_ok()
        );
        let names = engine.names().unwrap();
        assert_eq!(names.len(), 2, "{names:?}");
    }
}

#[test]
fn a_group_that_is_served_under_another_name_goes_on() {
    let mut engine = opened(store_with_hits());
    let slot = serve(&mut engine, "hits", ONE).unwrap();
    let request = WriteRequest {
        operations: vec![("k".into(), Operation::Increment { by: 1 })],
        precondition: None,
        allow_incomplete: true,
    };
    engine.submit(slot, &request, (), NOW).unwrap();
    assert_eq!(serve(&mut engine, "old-hits", ONE), Ok(slot));
    assert_eq!(engine.names().unwrap().len(), 1);
    engine.commit(NOW).unwrap();
    let answer = engine.next_effect(&|_| true, NOW).unwrap();
    assert!(matches!(answer, Some(Effect::Answer((), Ok(_)))), "its open requests too: {answer:?}");
}

#[test]
fn what_has_no_name_yet_is_known_by_the_ids_that_a_name_may_have() {
    let by_default = |crdt_type| Named::by_default("hits", crdt_type);
    let counts = by_default(CrdtType::PNCounter);
    let mut engine = opened(MemoryStore::new());
    let slot = serve(&mut engine, "hits", counts).unwrap();
    increment(&mut engine, slot);
    let mut store = engine.into_store();
    let mut batch = Batch::new();
    batch.delete(Table::Meta, &keys::name("hits"));
    store.commit(&batch, Durability::Sync).unwrap();

    let mut engine = opened(store);
    let refused = serve(&mut engine, "hits", by_default(CrdtType::GSet)).unwrap_err();
    assert_eq!(refused[0].stored, counts);
    // Under another name it is somebody else's.
    serve(&mut engine, "renamed", counts).unwrap();
    serve_all(&mut engine, &[("hits", by_default(CrdtType::GSet)), ("renamed", counts)]).unwrap();
}

#[test]
fn what_a_name_stands_for_is_read_back() {
    assert_eq!(Named::decode(&ONE.encode()), Ok(ONE));
    let mut damaged = ONE.encode();
    damaged[3] ^= 1;
    assert!(Named::decode(&damaged).is_err());
}

#[test]
fn the_mend_names_each_field_that_differs() {
    let default_of = |crdt_type| {
        let id = *Group::new("hits", crdt_type).effective_id().as_bytes();
        Named { id, crdt_type }
    };
    let says = |stored, configured, words: &str| {
        let text = OtherGroup { name: "hits".into(), stored, configured, objects: 2 }.to_string();
        assert!(text.contains(words), "{words:?} is not in {text:?}");
    };
    let (grows, counts) = (default_of(CrdtType::GCounter), default_of(CrdtType::PNCounter));
    says(
        counts,
        grows,
        "`crdt.type` is GCounter, but the data folder holds it as a PNCounter with 2",
    );
    says(counts, grows, "change: set its `crdt.type` to PNCounter, or give");
    let id = Uuid::from_bytes(ONE.id);
    says(ONE, counts, &format!("set its `crdt.type` to GCounter and set its `id` to {id}, or"));
    says(grows, ONE, &format!("its `id` is {id}, but"));
    says(grows, ONE, "change: leave its `id` out, or give");
}

#[test]
fn what_the_store_holds_and_is_not_served_is_found_by_name() {
    let mut engine = opened(store_with_hits());
    let hits = Unserved { name: Some("hits".to_owned()), id: ONE.id, objects: 1 };
    assert_eq!(engine.unserved().unwrap(), std::slice::from_ref(&hits));
    // A group without objects is nothing to miss.
    let empty = serve(&mut engine, "other", OTHER).unwrap();
    engine.remove_group(empty);
    assert_eq!(engine.unserved().unwrap(), [hits]);
    serve(&mut engine, "renamed", ONE).unwrap();
    assert_eq!(engine.unserved().unwrap(), []);
}
