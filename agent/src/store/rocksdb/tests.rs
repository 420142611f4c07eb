//! Opening, refusing, failing and coming back.

mod disk_full;

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::*;
use crate::store::{Cursor, conformance::Factory};

/// Stores in temporary directories, which go with the factory.
struct OnDisk {
    parent: TempDir,
    next: std::cell::Cell<u32>,
}

impl OnDisk {
    fn new() -> Self {
        Self { parent: tempfile::tempdir().unwrap(), next: 0.into() }
    }

    fn new_directory(&self) -> PathBuf {
        let number = self.next.replace(self.next.get() + 1);
        self.parent.path().join(number.to_string())
    }
}

impl Factory for OnDisk {
    type Store = RocksStore;

    fn create(&self) -> RocksStore {
        open(&self.new_directory())
    }

    /// Opens a copy of the files as they are now: nothing was flushed, synced
    /// or closed for it.
    fn restart(&self, store: RocksStore) -> RocksStore {
        let found = self.new_directory();
        copy_directory(store.data_dir(), &found);
        open(&found)
    }
}

mod conformance {
    use super::OnDisk;
    crate::store_conformance!(OnDisk::new());
}

fn open(path: &Path) -> RocksStore {
    RocksStore::open(path, &RocksSettings::default()).unwrap()
}

/// Copies the files of an open store as one moment shows them: again, if the
/// engine tidied up in between.
fn copy_directory(from: &Path, to: &Path) {
    loop {
        let before = listing(from);
        let copied = try_copy(from, to);
        if copied.is_ok() && listing(from) == before {
            return;
        }
        let _ = fs::remove_dir_all(to);
    }
}

fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to.join("db"))?;
    for (name, _) in listing(from) {
        fs::copy(from.join(&name), to.join(&name))?;
    }
    Ok(())
}

/// Names and sizes of the files of a data directory.
fn listing(data_dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for directory in ["", "db"] {
        for entry in fs::read_dir(data_dir.join(directory)).unwrap().flatten() {
            // Gone since it was listed is gone.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                found.push((Path::new(directory).join(entry.file_name()), metadata.len()));
            }
        }
    }
    found.sort();
    found
}

fn put(store: &mut RocksStore, key: &[u8]) {
    let mut batch = Batch::new();
    batch.put(Table::Entries, key, b"v");
    store.commit(&batch, Durability::NoSync).unwrap();
}

fn count(store: &RocksStore) -> usize {
    store.scan(Table::Entries, KeyRange::ALL, Limit::NONE).unwrap().items.len()
}

#[test]
fn a_store_that_is_open_is_not_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let held = open(directory.path());

    let refused = RocksStore::open(directory.path(), &RocksSettings::default()).unwrap_err();

    assert!(refused.is_refusal());
    let pid = std::process::id();
    assert!(refused.to_string().contains(&format!("(process {pid})")), "{refused}");
    drop(held);
    open(directory.path());
}

#[test]
fn a_database_that_something_else_holds_is_reported_as_locked() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let mut options = ::rocksdb::Options::default();
    options.set_paranoid_checks(true);
    let families = DB::list_cf(&options, directory.path().join("db")).unwrap();
    let _other = DB::open_cf(&options, directory.path().join("db"), families).unwrap();

    let refused = RocksStore::open(directory.path(), &RocksSettings::default()).unwrap_err();

    assert!(matches!(refused, StoreError::Locked { pid: None, .. }), "{refused:?}");
}

#[test]
fn a_torn_tail_of_the_log_costs_only_the_last_commit() {
    let factory = OnDisk::new();
    let mut store = factory.create();
    for number in 0..10_u8 {
        put(&mut store, &[number]);
    }
    let found = factory.new_directory();
    copy_directory(store.data_dir(), &found);
    let log = newest_log(&found);
    let written = fs::read(&log).unwrap();
    // The file is preallocated: its end is where the zeros start.
    let end = written.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for cut in [1, 5, 11] {
        fs::write(&log, &written[..end - cut]).unwrap();
        let copy = factory.new_directory();
        copy_directory(&found, &copy);
        assert_eq!(count(&open(&copy)), 9, "cut by {cut}");
    }
}

#[test]
fn a_flipped_bit_in_a_table_is_damage_and_not_an_answer() {
    let factory = OnDisk::new();
    let mut store = factory.create();
    for number in 0..2000_u32 {
        put(&mut store, &number.to_be_bytes());
    }
    store.reopen().unwrap();
    let found = factory.new_directory();
    copy_directory(store.data_dir(), &found);
    for table in files(&found, "sst") {
        let mut bytes = fs::read(&table).unwrap();
        bytes[100] ^= 1;
        fs::write(&table, bytes).unwrap();
    }

    let read = RocksStore::open(&found, &RocksSettings::default())
        .and_then(|store| store.scan(Table::Entries, KeyRange::ALL, Limit::NONE));

    assert!(matches!(&read, Err(error) if error.is_corrupt()), "{read:?}");
}

#[test]
fn a_database_that_is_gone_is_not_made_anew_while_it_is_served() {
    let factory = OnDisk::new();
    let mut store = factory.create();
    put(&mut store, b"a");
    let database = store.data_dir().join("db");
    for file in fs::read_dir(&database).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let refused = store.reopen().unwrap_err();
    assert!(refused.to_string().contains("restore a snapshot"), "{refused}");
    let files = fs::read_dir(&database).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name != "CURRENT"), "{names:?}");
}

#[test]
fn a_cursor_under_way_holds_up_reopening_and_then_expires() {
    let factory = OnDisk::new();
    let mut store = factory.create();
    put(&mut store, b"a");
    let snapshot = store.reader().snapshot().unwrap();
    let mut cursor = snapshot.cursor(Table::Entries, KeyRange::ALL).unwrap();

    assert!(matches!(store.reopen(), Err(StoreError::Reopening)));

    assert!(matches!(cursor.next(), Err(StoreError::Expired)));
    assert!(matches!(store.commit(&one_put(), Durability::NoSync), Err(StoreError::Stopped)));
    drop(cursor);
    store.reopen().unwrap();
    assert_eq!(count(&store), 1);
}

#[test]
fn what_is_on_disk_is_counted() {
    let factory = OnDisk::new();
    let mut store = factory.create();
    let before = store.reader().bytes_on_disk();
    let mut batch = Batch::new();
    batch.put(Table::Objects, b"k", &vec![7; 1 << 20]);
    store.commit(&batch, Durability::Sync).unwrap();
    assert!(store.reader().bytes_on_disk() >= before + (1 << 20));
}

fn one_put() -> Batch {
    let mut batch = Batch::new();
    batch.put(Table::Entries, b"k", b"v");
    batch
}

fn newest_log(data_dir: &Path) -> PathBuf {
    files(data_dir, "log").pop().unwrap()
}

/// Files of the database with this extension, oldest first.
fn files(data_dir: &Path, extension: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(data_dir.join("db")).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> =
        listed.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}
