//! Snapshots: what they show, where, and until when.

use super::{Factory, commit, holding, items, keys, put};
use crate::store::{Batch, Cursor, KeyRange, Limit, Read, Reader, Store, StoreError, Table};

/// Later commits are not in it, by any way of reading.
pub fn a_snapshot_does_not_change<F: Factory>(factory: &F) {
    let mut store = holding(factory, "abc");
    let snapshot = store.reader().snapshot().unwrap();
    let mut cursor = snapshot.cursor(Table::Entries, KeyRange::ALL).unwrap();

    let mut batch = Batch::new();
    batch.put(Table::Entries, b"a", b"changed");
    batch.delete(Table::Entries, b"b");
    batch.put(Table::Entries, b"bb", b"new");
    batch.put(Table::Meta, b"m", b"new");
    commit(&mut store, &batch);

    assert_eq!(snapshot.get(Table::Entries, b"a").unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!(snapshot.get_many(&[(Table::Meta, b"m")]).unwrap(), [None]);
    assert_eq!(keys(&snapshot, Table::Entries, KeyRange::ALL), "abc");
    let last = snapshot.last_in(Table::Entries, KeyRange::new(b"a", b"c")).unwrap();
    assert_eq!(last.unwrap().0, "b");
    let mut walked = Vec::new();
    while let Some((key, _)) = cursor.next().unwrap() {
        walked.extend_from_slice(key);
    }
    assert_eq!(walked, b"abc");
    assert_eq!(keys(&store, Table::Entries, KeyRange::ALL), "abbc", "the store has moved on");
}

/// Deleted keys are still in it, page after page.
pub fn a_snapshot_outlives_what_it_shows<F: Factory>(factory: &F) {
    let mut store = factory.create();
    for number in 0..5000_u16 {
        put(&mut store, Table::Log, &number.to_be_bytes(), &[1; 100]);
    }
    let snapshot = store.reader().snapshot().unwrap();
    let mut batch = Batch::new();
    batch.delete_range(Table::Log, b"", b"\xff\xff\xff");
    commit(&mut store, &batch);

    let (mut from, mut seen) = (Vec::new(), 0);
    loop {
        let range = KeyRange::starting_at(&from);
        let page = snapshot.scan(Table::Log, range, Limit::items(300)).unwrap();
        seen += page.items.len();
        match page.next {
            Some(next) => from = next.to_vec(),
            None => break,
        }
    }
    assert_eq!(seen, 5000);
    assert!(items(&store, Table::Log).is_empty());
}

/// Readers, snapshots and cursors are for other threads than the writer's.
pub fn snapshots_are_read_on_any_thread<F: Factory>(factory: &F) {
    let mut store = holding(factory, "abc");
    let snapshot = store.reader().snapshot().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let reader = store.reader();
            let snapshot = &snapshot;
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(keys(snapshot, Table::Entries, KeyRange::ALL), "abc");
                    let newest = reader.snapshot().unwrap();
                    assert!(keys(&newest, Table::Entries, KeyRange::ALL).starts_with("abc"));
                }
            });
        }
        for number in 0..200_u8 {
            put(&mut store, Table::Entries, &[b'd', number % 64], b"v");
        }
    });
}

/// Each shows its own moment, in whatever order they are dropped.
pub fn many_snapshots_live_at_once<F: Factory>(factory: &F) {
    let mut store = factory.create();
    let mut taken = Vec::new();
    for number in 0..300_u16 {
        put(&mut store, Table::Meta, b"number", &number.to_be_bytes());
        taken.push((number, store.reader().snapshot().unwrap()));
        if number % 3 == 0 {
            taken.swap_remove(taken.len() / 2);
        }
    }
    for (number, snapshot) in taken {
        let found = snapshot.get(Table::Meta, b"number").unwrap();
        assert_eq!(found.as_deref(), Some(&number.to_be_bytes()[..]));
    }
}

/// A snapshot ends with the opening it was taken in; its reader goes on.
pub fn reopening_ends_snapshots_and_not_readers<F: Factory>(factory: &F) {
    let mut store = holding(factory, "abc");
    let reader = store.reader();
    let old = reader.snapshot().unwrap();

    store.reopen().unwrap();

    assert!(matches!(old.get(Table::Entries, b"a"), Err(StoreError::Expired)));
    assert!(matches!(old.cursor(Table::Entries, KeyRange::ALL), Err(StoreError::Expired)));
    let new = reader.snapshot().unwrap();
    assert_eq!(keys(&new, Table::Entries, KeyRange::ALL), "abc");
    drop(old);
    assert_eq!(keys(&new, Table::Entries, KeyRange::ALL), "abc");
}

/// After `close`, and after a drop.
pub fn closing_ends_readers<F: Factory>(factory: &F) {
    for drop_only in [false, true] {
        let store = holding(factory, "abc");
        let reader = store.reader();
        let snapshot = reader.snapshot().unwrap();
        if drop_only {
            drop(store);
        } else {
            store.close().unwrap();
        }
        assert!(matches!(reader.snapshot(), Err(StoreError::Closed)));
        assert!(matches!(snapshot.get(Table::Entries, b"a"), Err(StoreError::Closed)));
    }
}
