//! What is found after a crash, a copy and a failure.

use super::*;

fn put(store: &mut MemoryStore, key: &str, durability: Durability) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    batch.put(Table::Log, key.as_bytes(), b"v");
    batch.put(Table::Objects, key.as_bytes(), b"v");
    store.commit(&batch, durability)
}

/// One synced commit, `a`, then three that are not: `b`, `c`, `d`.
fn store_with_unsynced_tail() -> MemoryStore {
    let mut store = MemoryStore::new();
    put(&mut store, "a", Durability::Sync).unwrap();
    for key in ["b", "c", "d"] {
        put(&mut store, key, Durability::NoSync).unwrap();
    }
    store
}

/// The keys that both tables hold.
fn keys(store: &MemoryStore) -> String {
    let of = |table| -> Vec<Bytes> {
        let page = store.scan(table, KeyRange::ALL, Limit::NONE).unwrap();
        page.items.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(of(Table::Log), of(Table::Objects), "a commit is whole or absent");
    String::from_utf8(of(Table::Log).concat()).unwrap()
}

#[test]
fn a_process_kill_keeps_every_commit() {
    let found = store_with_unsynced_tail().crash(Crash::ProcessKill);
    assert_eq!(keys(&found), "abcd");
    assert_eq!(found.unsynced(), 3, "the machine may still lose power");
}

#[test]
fn a_power_loss_keeps_a_prefix_of_the_unsynced_commits() {
    for (unsynced_kept, expected) in [(0, "a"), (2, "abc"), (9, "abcd")] {
        let found = store_with_unsynced_tail().crash(Crash::PowerLoss { unsynced_kept });
        assert_eq!(keys(&found), expected);
        assert_eq!(found.unsynced(), 0, "what was found on the disk is on the disk");
    }
}

#[test]
fn a_synced_commit_syncs_those_before_it() {
    let mut store = store_with_unsynced_tail();
    put(&mut store, "e", Durability::Sync).unwrap();
    assert_eq!(keys(&store.crash(Crash::PowerLoss { unsynced_kept: 0 })), "abcde");
}

#[test]
fn sync_saves_all_commits_and_costs_nothing_when_there_are_none() {
    let mut store = store_with_unsynced_tail();
    let reader = store.reader();
    store.sync().unwrap();
    store.sync().unwrap();
    assert_eq!(reader.fsyncs(), 2, "one for the synced commit, one for the tail");
    assert_eq!(keys(&store.crash(Crash::PowerLoss { unsynced_kept: 0 })), "abcd");
}

#[test]
fn a_copied_disk_and_its_origin_go_on_apart() {
    let mut store = store_with_unsynced_tail();
    let mut copy = store.clone_disk();
    put(&mut store, "x", Durability::Sync).unwrap();
    put(&mut copy, "y", Durability::NoSync).unwrap();
    assert_eq!(keys(&store), "abcdx");
    assert_eq!(keys(&copy), "abcdy");
    assert_eq!(keys(&copy.crash(Crash::PowerLoss { unsynced_kept: 0 })), "a");
}

#[test]
fn readers_of_a_crashed_store_are_told() {
    let store = store_with_unsynced_tail();
    let reader = store.reader();
    let snapshot = reader.snapshot().unwrap();
    let _found = store.crash(Crash::ProcessKill);
    assert!(matches!(reader.snapshot(), Err(StoreError::Closed)));
    assert!(matches!(snapshot.get(Table::Log, b"a"), Err(StoreError::Closed)));
}

#[test]
fn a_failed_commit_stops_the_store_and_shows_at_the_next_opening() {
    for (outcome, expected) in [(FailureOutcome::Lost, "abcd"), (FailureOutcome::Written, "abcdX")]
    {
        let mut store = store_with_unsynced_tail();
        store.fail_next_commit(InjectedFailure { cause: FailureCause::DiskFull, outcome });

        assert!(put(&mut store, "X", Durability::Sync).unwrap_err().is_disk_full());

        assert!(matches!(put(&mut store, "Y", Durability::Sync), Err(StoreError::Stopped)));
        assert!(matches!(store.sync(), Err(StoreError::Stopped)));
        assert_eq!(keys(&store), "abcd", "reads go on, and do not show what is in doubt");
        let restarted = store.clone_disk().crash(Crash::ProcessKill);
        assert_eq!(sorted(&keys(&restarted)), sorted(expected));
        store.reopen().unwrap();
        assert_eq!(sorted(&keys(&store)), sorted(expected));
        put(&mut store, "Z", Durability::Sync).unwrap();
    }
}

#[test]
fn a_failed_sync_may_lose_the_unsynced_tail() {
    for (outcome, expected) in [(FailureOutcome::Lost, "a"), (FailureOutcome::Written, "abcd")] {
        let mut store = store_with_unsynced_tail();
        store.fail_next_commit(InjectedFailure { cause: FailureCause::Io, outcome });
        assert!(matches!(store.sync(), Err(StoreError::Io { .. })));
        store.reopen().unwrap();
        assert_eq!(keys(&store), expected);
    }
}

fn sorted(keys: &str) -> Vec<char> {
    let mut keys: Vec<char> = keys.chars().collect();
    keys.sort_unstable();
    keys
}

mod conformance {
    use crate::store::{
        conformance::Factory,
        memory::{Crash, MemoryStore},
    };

    struct InMemory;

    impl Factory for InMemory {
        type Store = MemoryStore;

        fn create(&self) -> MemoryStore {
            MemoryStore::new()
        }

        fn restart(&self, store: MemoryStore) -> MemoryStore {
            store.crash(Crash::ProcessKill)
        }
    }

    crate::store_conformance!(InMemory);
}
