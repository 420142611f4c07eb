//! Taken while writes run, found whole, told apart when damaged, restored in part.

use std::{
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use coppice_crdt::{CrdtType, Header};
use coppice_replication::ObjectRecord;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::store::{
    Batch, Durability, Limit, Store,
    keys::{self, Slot},
    rocksdb::{RocksSettings, RocksStore},
};

const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

/// Something that happens to the snapshot in a directory.
type Damage = fn(&Path);

fn open(path: &Path) -> RocksStore {
    RocksStore::open(path, &RocksSettings::default()).unwrap()
}

fn put(store: &mut RocksStore, table: Table, key: &str, value: &str) {
    let mut batch = Batch::new();
    batch.put(table, key.as_bytes(), value.as_bytes());
    store.commit(&batch, Durability::NoSync).unwrap();
}

fn get<R: Read>(view: &R, table: Table, key: &str) -> Option<String> {
    let value = view.get(table, key.as_bytes()).unwrap()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

/// A data directory with an open store that holds `a/x` and `b/x`.
fn data_directory() -> (TempDir, RocksStore, Snapshots) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    put(&mut store, Table::Objects, "a/x", "1");
    put(&mut store, Table::Objects, "b/x", "1");
    put(&mut store, Table::Meta, "a", "meta");
    let snapshots = Snapshots::of(directory.path());
    (directory, store, snapshots)
}

#[test]
fn a_snapshot_keeps_what_the_store_loses() {
    let (_directory, mut store, snapshots) = data_directory();
    let taken = snapshots.take(&store.reader(), EPOCH).unwrap();
    put(&mut store, Table::Objects, "a/x", "2");
    put(&mut store, Table::Objects, "c/x", "2");

    let found = open_checkpoint(&taken.path.join("db")).unwrap();

    assert_eq!(get(&found, Table::Objects, "a/x").as_deref(), Some("1"));
    assert_eq!(get(&found, Table::Objects, "c/x"), None);
    assert_eq!(verify(&taken.path).unwrap().records, 3);
    assert_eq!(verify(&taken.path).unwrap().bytes, taken.bytes, "verifying changes nothing");
}

#[test]
fn snapshots_taken_while_writes_run_are_consistent() {
    let (_directory, mut store, snapshots) = data_directory();
    let reader = store.reader();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for second in 0..5 {
                snapshots.take(&reader, EPOCH + Duration::from_secs(second)).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut batch = Batch::new();
        let mut number = 0_u64;
        while !done.load(Ordering::Relaxed) {
            number += 1;
            batch.clear();
            for table in Table::ALL {
                batch.put(table, b"number", &number.to_be_bytes());
            }
            store.commit(&batch, Durability::NoSync).unwrap();
        }
    });
    let taken = snapshots.list().unwrap();
    assert_eq!(taken.len(), 5);
    for snapshot in taken {
        verify(&snapshot.path).unwrap();
        let found = open_checkpoint(&snapshot.path.join("db")).unwrap();
        let asked = Table::ALL.map(|table| (table, &b"number"[..]));
        let numbers = found.get_many(&asked).unwrap();
        assert!(numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
    }
}

#[test]
fn snapshots_are_listed_in_order_and_pruned_from_the_oldest() {
    let (_directory, store, snapshots) = data_directory();
    assert_eq!(snapshots.list().unwrap(), []);
    // The clock goes back in between.
    for second in [50, 10, 30, 30] {
        snapshots.take(&store.reader(), EPOCH + Duration::from_secs(second)).unwrap();
    }
    let names = |listed: &[SnapshotInfo]| -> Vec<String> {
        listed.iter().map(|snapshot| snapshot.name.to_string()).collect()
    };
    let all =
        ["19700101T000050Z-1", "19700101T000010Z-2", "19700101T000030Z-3", "19700101T000030Z-4"];
    assert_eq!(names(&snapshots.list().unwrap()), all);

    let removed = snapshots.retain(2).unwrap();

    assert_eq!(removed.iter().map(ToString::to_string).collect::<Vec<_>>(), all[..2]);
    assert_eq!(names(&snapshots.list().unwrap()), all[2..]);
    let gone = snapshots.find(removed[0]).unwrap_err();
    assert!(matches!(gone, SnapshotError::NotFound(name) if name == removed[0]));
    let next = snapshots.take(&store.reader(), EPOCH).unwrap();
    assert_eq!(next.name.number(), 5, "a number is not used twice");
}

#[test]
fn a_snapshot_that_goes_while_it_is_listed_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::of(directory.path());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..500 {
                let name = SnapshotName::new(EPOCH, number).to_string();
                let path = snapshots.directory.join(&name);
                let unfinished = snapshots.directory.join(format!("{UNFINISHED}{name}"));
                fs::create_dir_all(unfinished.join("db")).unwrap();
                fs::rename(&unfinished, &path).unwrap();
                fs::rename(&path, &unfinished).unwrap();
                fs::remove_dir_all(unfinished).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            snapshots.list().unwrap();
        }
    });
}

#[test]
fn what_a_crash_left_unfinished_is_not_listed_and_goes() {
    let (directory, store, snapshots) = data_directory();
    let left = directory.path().join("snapshots/.unfinished-19700101T000000Z-1");
    fs::create_dir_all(left.join("db")).unwrap();
    assert_eq!(snapshots.list().unwrap(), []);
    snapshots.take(&store.reader(), EPOCH).unwrap();
    assert!(!left.exists());
}

#[test]
fn damage_is_found() {
    let (_directory, store, snapshots) = data_directory();
    let taken = snapshots.take(&store.reader(), EPOCH).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let damages: [(&str, Damage); 5] = [
        ("flipped", |copy| {
            let table = table_file(copy);
            let mut bytes = fs::read(&table).unwrap();
            bytes[20] ^= 1;
            fs::write(table, bytes).unwrap();
        }),
        ("missing", |copy| fs::remove_file(table_file(copy)).unwrap()),
        ("added", |copy| fs::write(copy.join("db/other"), "x").unwrap()),
        ("unlisted", |copy| fs::remove_file(copy.join("CHECKSUMS")).unwrap()),
        ("relisted", |copy| {
            let text = fs::read_to_string(copy.join("CHECKSUMS")).unwrap();
            fs::write(copy.join("CHECKSUMS"), text.replacen("db/CURRENT", "db/CURRENS", 1))
                .unwrap();
        }),
    ];
    for (kind, damage) in damages {
        let copy = parent.path().join(kind);
        export_directory(&taken, &copy).unwrap();
        verify(&copy).unwrap();
        damage(&copy);
        let found = verify(&copy).unwrap_err();
        assert!(matches!(found, SnapshotError::Damaged { .. }), "{kind}: {found:?}");
        let said = found.to_string();
        assert!(!said.contains('{'), "{kind}: words for people, not {said}");
    }
    verify(&taken.path).expect("the copies share nothing with it");
}

#[test]
fn a_tar_file_holds_the_whole_snapshot() {
    let (directory, store, snapshots) = data_directory();
    let taken = snapshots.take(&store.reader(), EPOCH).unwrap();
    let target = directory.path().join("export.tar");

    export_tar(&taken, &target).unwrap();

    let again = export_tar(&taken, &target).unwrap_err();
    assert!(matches!(again, SnapshotError::TargetExists(_)));
    // What is not this export's is left alone.
    let other = directory.path().join("other.unfinished");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("mine"), "precious").unwrap();
    let taken_name = export_directory(&taken, &other.with_extension("")).unwrap_err();
    assert!(matches!(taken_name, SnapshotError::Unfinished(path) if path == other));
    assert_eq!(fs::read_to_string(other.join("mine")).unwrap(), "precious");
    let unpacked = tempfile::tempdir().unwrap();
    tar::Archive::new(fs::File::open(target).unwrap()).unpack(unpacked.path()).unwrap();
    let found = verify(&unpacked.path().join(taken.name.to_string())).unwrap();
    assert_eq!(found, verify(&taken.path).unwrap());
}

const GROUP: Uuid = Uuid::from_u128(7);
const OTHER: Uuid = Uuid::from_u128(8);

/// A store with `groups` in slots from 0, each with objects of these keys.
fn grouped(path: &Path, groups: &[(Uuid, &[&str])]) -> RocksStore {
    let mut store = open(path);
    for (slot, (id, objects)) in (0..).zip(groups) {
        let mut batch = Batch::new();
        batch.put(Table::Meta, &keys::group(id.as_bytes()), &Slot::to_be_bytes(slot));
        let header = Header::new(CrdtType::GSet);
        let record =
            ObjectRecord { header, inline: None, hidden: Vec::new(), generation: 0 }.encode();
        for key in *objects {
            batch.put(Table::Objects, &keys::object_at(slot, 1, key), &record);
        }
        store.commit(&batch, Durability::Sync).unwrap();
    }
    store
}

/// The keys of the objects of a group.
fn objects(store: &RocksStore, id: Uuid) -> Vec<String> {
    let found = contents::groups(store).unwrap();
    let slot = found.iter().find(|group| group.id == id).unwrap().slot;
    let from = keys::slot(slot);
    let page = store.scan(Table::Objects, KeyRange::new(&from, &keys::slot(slot + 1)), Limit::NONE);
    let items = page.unwrap().items;
    items.iter().map(|(key, _)| keys::object_key(key).unwrap().to_owned()).collect()
}

#[test]
fn a_restore_brings_back_its_group_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let store = grouped(directory.path(), &[(OTHER, &["x"]), (GROUP, &["a", "b"])]);
    let taken = Snapshots::of(directory.path()).take(&store.reader(), EPOCH).unwrap();
    let running = restore(&taken.path, directory.path(), (GROUP, None), true).unwrap_err();
    assert!(matches!(running, SnapshotError::Store(StoreError::Locked { .. })));
    drop(store);
    // In another slot there, beside another group, with something else in it.
    let target = tempfile::tempdir().unwrap();
    drop(grouped(target.path(), &[(GROUP, &["c", "d", "e"]), (OTHER, &["y"])]));

    let refused = restore(&taken.path, target.path(), (GROUP, None), false).unwrap_err();
    assert!(matches!(refused, SnapshotError::GroupHolds(GROUP)));
    for _ in 0..2 {
        restore(&taken.path, target.path(), (GROUP, None), true).unwrap();
        let store = open(target.path());
        assert_eq!(objects(&store, GROUP), ["a", "b"]);
        assert_eq!(objects(&store, OTHER), ["y"]);
        assert_eq!(store.scan(Table::Objects, KeyRange::ALL, Limit::NONE).unwrap().items.len(), 3);
    }
}

#[test]
fn a_restore_that_was_cut_short_has_changed_nothing_and_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = grouped(directory.path(), &[(GROUP, &["a"])]);
    let taken = Snapshots::of(directory.path()).take(&store.reader(), EPOCH).unwrap();
    // What it leaves: the slot it had taken, and a part of the copy.
    let mut batch = Batch::new();
    batch.put(Table::Meta, &keys::group(&keys::RESTORING), &Slot::to_be_bytes(1));
    batch.put(Table::Objects, &keys::object_at(1, 1, "half"), b"");
    store.commit(&batch, Durability::Sync).unwrap();
    assert_eq!(objects(&store, GROUP), ["a"]);
    drop(store);

    restore(&taken.path, directory.path(), (GROUP, None), true).unwrap();

    let store = open(directory.path());
    assert_eq!(objects(&store, GROUP), ["a"]);
    assert_eq!(store.scan(Table::Objects, KeyRange::ALL, Limit::NONE).unwrap().items.len(), 1);
    assert_eq!(store.get(Table::Meta, &keys::group(&keys::RESTORING)).unwrap(), None);
}

#[test]
fn a_restore_into_an_empty_directory_makes_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let keys: Vec<String> = (0..3000).map(|number| format!("{number:0500}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let store = grouped(directory.path(), &[(OTHER, &[]), (GROUP, &keys)]);
    let taken = Snapshots::of(directory.path()).take(&store.reader(), EPOCH).unwrap();
    let other = tempfile::tempdir().unwrap();

    let unknown =
        restore(&taken.path, other.path(), (Uuid::nil(), None), false).unwrap_err().to_string();
    assert!(unknown.contains(&format!("it holds {OTHER}, {GROUP}")), "{unknown}");
    let restored = restore(&taken.path, other.path(), (GROUP, None), false).unwrap();

    assert_eq!((restored.removed, restored.records), (0, 3000));
    assert_eq!(objects(&open(other.path()), GROUP), keys);
}

#[test]
fn a_restored_group_keeps_its_name() {
    let named = |id: Uuid| {
        let crdt_type = CrdtType::ORSet;
        crate::engine::Named { id: *id.as_bytes(), crdt_type }.encode()
    };
    let name = |store: &mut RocksStore, name: &str, id| {
        let mut batch = Batch::new();
        batch.put(Table::Meta, &keys::name(name), &named(id));
        store.commit(&batch, Durability::Sync).unwrap();
    };
    let directory = tempfile::tempdir().unwrap();
    let mut store = grouped(directory.path(), &[(GROUP, &["a"])]);
    name(&mut store, "tags", GROUP);
    let taken = Snapshots::of(directory.path()).take(&store.reader(), EPOCH).unwrap();
    for (there, expected) in [
        (None, &[("tags", Some(GROUP))][..]),
        // One of the two groups may be served; the start judges by what is configured.
        (Some(("tags", OTHER)), &[("tags", Some(OTHER))]),
        (Some(("labels", GROUP)), &[("tags", None), ("labels", Some(GROUP))]),
    ] {
        let target = tempfile::tempdir().unwrap();
        let mut store = open(target.path());
        if let Some((of, id)) = there {
            name(&mut store, of, id);
        }
        drop(store);
        restore(&taken.path, target.path(), (GROUP, Some("given")), false).unwrap();
        let store = open(target.path());
        for (name, id) in expected {
            let found = store.get(Table::Meta, &keys::name(name)).unwrap();
            assert_eq!(found.map(|of| of.to_vec()), id.map(named), "{name} beside {there:?}");
        }
    }
}

#[test]
fn a_record_that_is_none_is_damage_though_its_file_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = grouped(directory.path(), &[(GROUP, &["a"])]);
    let whole = Snapshots::of(directory.path()).take(&store.reader(), EPOCH).unwrap();
    let found = verify(&whole.path).unwrap().groups;
    assert_eq!((found.len(), found[0].group.id, found[0].objects), (1, GROUP, 1));

    for table in [Table::Objects, Table::Entries, Table::Log, Table::Deadlines, Table::Floors] {
        let key = [&keys::slot(0)[..], &[1]].concat();
        let mut batch = Batch::new();
        batch.put(table, &key, b"no record");
        store.commit(&batch, Durability::Sync).unwrap();
        let taken = Snapshots::of(directory.path()).take(&store.reader(), EPOCH).unwrap();
        let damaged = verify(&taken.path).unwrap_err().to_string();
        assert!(damaged.contains(table.name()), "{table:?}: {damaged}");
        batch.clear();
        batch.delete(table, &key);
        store.commit(&batch, Durability::Sync).unwrap();
    }
}

#[test]
fn a_snapshot_of_what_has_not_changed_shares_its_tables() {
    let (_directory, store, snapshots) = data_directory();
    let first = snapshots.take(&store.reader(), EPOCH).unwrap();
    let before = store.reader().last_write().unwrap();
    let second = snapshots.take(&store.reader(), EPOCH).unwrap();
    assert_eq!(store.reader().last_write().unwrap(), before, "a snapshot writes no record");
    let inode = |snapshot: &SnapshotInfo| fs::metadata(table_file(&snapshot.path)).unwrap().ino();
    assert_eq!(inode(&first), inode(&second));
    verify(&second.path).unwrap();
}

/// A table file of the snapshot in `path`.
fn table_file(path: &Path) -> PathBuf {
    let files = fs::read_dir(path.join("db")).unwrap().map(|file| file.unwrap().path());
    let mut tables: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|found| found == "sst")).collect();
    tables.sort();
    tables.swap_remove(0)
}
