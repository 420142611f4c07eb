//! Batches: order, atomicity, what is found later.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Factory, commit, holding, keys, put, text};
use crate::store::{Batch, Durability, KeyRange, Read, Reader, Store, Table};

/// A later write of a batch acts on the earlier ones.
pub fn a_batch_applies_in_its_order<F: Factory>(factory: &F) {
    let mut store = holding(factory, "m");
    let mut batch = Batch::new();
    batch.put(Table::Entries, b"a", b"1");
    batch.put(Table::Entries, b"b", b"1");
    batch.delete_range(Table::Entries, b"a", b"z");
    batch.put(Table::Entries, b"b", b"2");
    batch.put(Table::Entries, b"c", b"1");
    batch.delete(Table::Entries, b"c");
    batch.put(Table::Entries, b"d", b"1");
    batch.put(Table::Entries, b"d", b"2");
    commit(&mut store, &batch);
    assert_eq!(keys(&store, Table::Entries, KeyRange::ALL), "bd");
    assert_eq!(text(&store, Table::Entries, b"b").as_deref(), Some("2"));
    assert_eq!(text(&store, Table::Entries, b"d").as_deref(), Some("2"));
}

/// From inclusive, to exclusive, over a restart; later puts are not touched.
pub fn a_range_deletion_spares_its_end<F: Factory>(factory: &F) {
    let mut store = holding(factory, "abcdef");
    let mut batch = Batch::new();
    batch.delete_range(Table::Entries, b"b", b"e");
    commit(&mut store, &batch);
    put(&mut store, Table::Entries, b"c", b"again");
    assert_eq!(keys(&store, Table::Entries, KeyRange::ALL), "acef");
    let store = factory.restart(store);
    assert_eq!(keys(&store, Table::Entries, KeyRange::ALL), "acef");
    assert_eq!(text(&store, Table::Entries, b"b"), None);
    assert_eq!(text(&store, Table::Entries, b"c").as_deref(), Some("again"));
}

/// No write, no fsync.
pub fn an_empty_batch_does_nothing<F: Factory>(factory: &F) {
    let mut store = holding(factory, "a");
    let before = store.reader().fsyncs();
    store.commit(&Batch::new(), Durability::Sync).unwrap();
    assert_eq!(store.reader().fsyncs(), before);
    assert_eq!(keys(&store, Table::Entries, KeyRange::ALL), "a");
}

/// A reader on another thread sees all of a commit or nothing of it.
pub fn a_commit_is_whole_over_all_tables<F: Factory>(factory: &F) {
    let mut store = factory.create();
    let reader = store.reader();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let snapshot = reader.snapshot().unwrap();
                let asked = Table::ALL.map(|table| (table, &b"number"[..]));
                let found = snapshot.get_many(&asked).unwrap();
                assert!(found.iter().all(|value| *value == found[0]), "seen in part: {found:?}");
            }
        });
        let mut batch = Batch::new();
        for number in 0..2000_u32 {
            batch.clear();
            for table in Table::ALL {
                batch.put(table, b"number", &number.to_be_bytes());
            }
            commit(&mut store, &batch);
        }
        done.store(true, Ordering::Relaxed);
    });
    let store = factory.restart(store);
    for table in Table::ALL {
        assert_eq!(
            store.get(table, b"number").unwrap().as_deref(),
            Some(&1999_u32.to_be_bytes()[..])
        );
    }
}

/// One for each synced commit, one for a `sync` that has something to do.
pub fn fsyncs_are_counted<F: Factory>(factory: &F) {
    let mut store = factory.create();
    let reader = store.reader();
    let before = reader.fsyncs();
    let mut batch = Batch::new();
    batch.put(Table::Log, b"k", b"v");
    store.commit(&batch, Durability::NoSync).unwrap();
    assert_eq!(reader.fsyncs() - before, 0);
    store.sync().unwrap();
    store.sync().unwrap();
    assert_eq!(reader.fsyncs() - before, 1);
    store.commit(&batch, Durability::Sync).unwrap();
    store.sync().unwrap();
    assert_eq!(reader.fsyncs() - before, 2, "a synced commit leaves nothing to sync");
}

/// The process goes, the disk stays: synced or not, everything is found.
pub fn a_restart_finds_every_commit<F: Factory>(factory: &F) {
    let mut store = holding(factory, "abc");
    store.sync().unwrap();
    put(&mut store, Table::Entries, b"d", b"v");
    let store = factory.restart(store);
    assert_eq!(keys(&store, Table::Entries, KeyRange::ALL), "abcd");
    let store = factory.restart(factory.restart(store));
    assert_eq!(keys(&store, Table::Entries, KeyRange::ALL), "abcd");
}

/// Closing and opening in place, as after a failure.
pub fn reopening_keeps_every_commit<F: Factory>(factory: &F) {
    let mut store = holding(factory, "abc");
    for letter in ["d", "e"] {
        store.reopen().unwrap();
        put(&mut store, Table::Entries, letter.as_bytes(), b"v");
    }
    assert_eq!(keys(&store, Table::Entries, KeyRange::ALL), "abcde");
}
