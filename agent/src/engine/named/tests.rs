//! A name over stores that hold its group, another one, or none.

use coppice_crdt::Operation;
use coppice_replication::{FRAME_BYTES, Now, RemovalPace, ReplicaSettings, WriteLimits};

use super::*;
use crate::engine::{GroupDurability, GroupSettings};
use crate::replica_task::WriteRequest;
use crate::store::memory::MemoryStore;

const NOW: Now = Now { wall_ms: 1_000, steady_ms: 1_000 };
const ONE: Named = Named { id: [1; 16], crdt_type: CrdtType::GCounter };
const OTHER: Named = Named { id: [2; 16], crdt_type: CrdtType::GCounter };

type TestEngine = Engine<MemoryStore, ()>;

fn opened(store: MemoryStore) -> TestEngine {
    Engine::open(store, "a".into(), [3; 32]).unwrap()
}

fn serve(engine: &mut TestEngine, name: &str, named: Named) -> Result<Slot, OpenError> {
    let replica = ReplicaSettings {
        eager: true,
        interval_ms: 5_000,
        log_bytes: 1 << 20,
        log_age_ms: 3_600_000,
        startup_wait_ms: 0,
        expects_peers: false,
        frame_bytes: FRAME_BYTES,
        removals: RemovalPace::default(),
    };
    let limits = WriteLimits { objects: 100, elements: 100, value_bytes: 100 };
    let settings = GroupSettings { replica, limits, durability: GroupDurability::None };
    engine.add_group((name, named.id, named.crdt_type), settings, NOW)
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
        let OpenError::OtherGroup(other) = refused else { panic!("{refused}") };
        let (name, objects) = ("hits".to_owned(), 1);
        assert_eq!(*other, OtherGroup { name, stored: ONE, configured, objects });
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
