//! A full volume: recognised, readable meanwhile, writable again once there is
//! room, without a restart.

use std::process::Command;

use super::*;

/// A file system of 24 MiB in memory, unmounted when dropped.
struct SmallVolume {
    mountpoint: TempDir,
}

impl SmallVolume {
    /// `None` where this process may not mount.
    fn mount() -> Option<Self> {
        let mountpoint = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "coppice-test"])
            .arg(mountpoint.path())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self { mountpoint })
    }

    fn data_dir(&self) -> PathBuf {
        self.mountpoint.path().join("data")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.mountpoint.path().join("ballast")).unwrap();
        let _ = std::io::copy(&mut std::io::repeat(1), &mut ballast);
    }

    fn grow(&self, size_mib: u32) {
        let options = format!("remount,size={size_mib}m");
        let mut remount = Command::new("mount");
        assert!(
            remount.args(["-o", &options]).arg(self.mountpoint.path()).status().unwrap().success()
        );
    }

    fn make_room(&self) {
        fs::remove_file(self.mountpoint.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallVolume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.mountpoint.path()).status();
    }
}

/// Commits values of 64 KiB until one fails; how many did not, and why it did.
fn write_until_it_fails(store: &mut RocksStore, from: u32) -> (u32, StoreError) {
    let mut batch = Batch::new();
    for number in from.. {
        batch.clear();
        batch.put(Table::Entries, &number.to_be_bytes(), &noise(number));
        if let Err(error) = store.commit(&batch, Durability::Sync) {
            return (number, error);
        }
    }
    unreachable!("a volume of 24 MiB is full long before")
}

/// 64 KiB that do not compress.
fn noise(seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let next = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*state >> 56) as u8
    };
    (0..64 << 10).map(|_| next(&mut state)).collect()
}

/// Every number up to `written` is there, and at most the one that failed.
fn check_commits(store: &RocksStore, written: u32) {
    let found = count(store);
    assert!(found == written as usize || found == written as usize + 1, "{found} of {written}");
    let last = store.get(Table::Entries, &(written - 1).to_be_bytes()).unwrap();
    assert_eq!(last.as_deref(), Some(&noise(written - 1)[..]));
}

#[test]
fn a_full_disk_stops_writes_until_there_is_room() {
    let Some(volume) = SmallVolume::mount() else {
        eprintln!("SKIPPED: this process may not mount, so no disk can be filled");
        return;
    };
    let mut store = open(&volume.data_dir());
    let reader = store.reader();
    put_number(&mut store, 0);
    volume.fill();

    let (written, failure) = write_until_it_fails(&mut store, 1);

    assert!(failure.is_disk_full(), "{failure:?}");
    assert!(matches!(store.commit(&one_put(), Durability::Sync), Err(StoreError::Stopped)));
    let snapshot = reader.snapshot().unwrap();
    check_commits(&store, written);
    for _ in 0..3 {
        let still_full = store.reopen().unwrap_err();
        assert!(still_full.is_disk_full(), "{still_full:?}");
        assert!(snapshot.get(Table::Entries, &[0; 4]).unwrap().is_some(), "reads go on");
    }

    volume.make_room();
    store.reopen().unwrap();

    check_commits(&store, written);
    put_number(&mut store, written);
    drop(store);
    check_commits(&open(&volume.data_dir()), written + 1);
}

/// Here the store's own files fill the volume, so that it is now a write, now
/// a flush and now a compaction that finds it full.
#[test]
fn a_store_that_fills_its_volume_goes_on_when_that_grows() {
    let Some(volume) = SmallVolume::mount() else {
        eprintln!("SKIPPED: this process may not mount, so no disk can be filled");
        return;
    };
    let mut store = open(&volume.data_dir());
    let mut written = 0;
    for size_mib in [48, 72, 96] {
        let (failed_at, failure) = write_until_it_fails(&mut store, written);
        assert!(failure.is_disk_full(), "{failure:?}");
        assert!(failed_at > written, "it was writable after the volume had grown");
        written = failed_at;
        check_commits(&store, written);

        volume.grow(size_mib);
        store.reopen().unwrap();

        check_commits(&store, written);
    }
}

fn put_number(store: &mut RocksStore, number: u32) {
    let mut batch = Batch::new();
    batch.put(Table::Entries, &number.to_be_bytes(), &noise(number));
    store.commit(&batch, Durability::Sync).unwrap();
}
