//! Snapshots on disk: whole, consistent copies of the store at one moment.
//!
//! A snapshot is a directory `<dataDir>/snapshots/<UTC time>-<number>/` with
//! the database under `db/` and a `CHECKSUMS` file. Its table files are hard
//! links to the live ones: taking it costs a flush and some small files, and
//! keeping it costs what the live database has since rewritten. For the same
//! reason it does not protect against a failing disk: `export` it for that.
//!
//! A snapshot appears under its name when it is complete and on disk, never
//! before: it is made under another name, synced and renamed.
//!
//! Everything here waits for the disk, on the caller's thread. [`Snapshots`]
//! may be used beside the running store; [`restore()`] needs it stopped.

mod checksums;
mod contents;
mod error;
mod export;
mod name;
mod policy;
mod restore;
mod source;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use self::checksums::Checksums;
pub use self::{
    contents::{GroupContents, StoredGroup, groups_in},
    error::SnapshotError,
    export::{export_directory, export_tar},
    name::{NotASnapshotName, SnapshotName},
    policy::Policy,
    restore::{Restored, restore},
    source::{RocksSnapshots, SnapshotSource},
};
use crate::store::{
    Cursor, KeyRange, Read, StoreError, Table,
    rocksdb::{RocksReader, open_checkpoint},
};

/// What names of unfinished snapshots start with.
const UNFINISHED: &str = ".unfinished-";

/// The snapshots of one data directory.
#[derive(Clone, Debug)]
pub struct Snapshots {
    directory: PathBuf,
}

/// A complete snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name, which says when it was taken.
    pub name: SnapshotName,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes of its files. Less on disk: see the module.
    pub bytes: u64,
}

/// What a snapshot was found to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Files whose checksums were right.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Keys that were read, over all tables.
    pub records: u64,
    /// The groups, with what each holds.
    pub groups: Vec<GroupContents>,
}

// === impl Snapshots ===

impl Snapshots {
    /// The snapshots under `data_dir`; there need not be any.
    pub fn of(data_dir: &Path) -> Self {
        Self { directory: data_dir.join("snapshots") }
    }

    /// All complete snapshots, oldest first.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Store`] if the directory cannot be read. What is not
    /// named like a snapshot is passed over, and what is removed meanwhile.
    pub fn list(&self) -> Result<Vec<SnapshotInfo>, SnapshotError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(SnapshotError::io("list the snapshots", error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| SnapshotError::io("list the snapshots", error))?;
            let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let path = entry.path();
            let bytes = match checksums::sizes(&path) {
                Ok(bytes) => bytes,
                // The running agent has pruned it since the folder was read.
                Err(_) if !path.exists() => continue,
                Err(error) => return Err(SnapshotError::io("measure a snapshot", error)),
            };
            found.push(SnapshotInfo { name, path, bytes });
        }
        found.sort_by_key(|snapshot| snapshot.name.number());
        Ok(found)
    }

    /// The snapshot of this name.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::NotFound`] if there is none.
    pub fn find(&self, name: SnapshotName) -> Result<SnapshotInfo, SnapshotError> {
        let found = self.list()?.into_iter().find(|snapshot| snapshot.name == name);
        found.ok_or(SnapshotError::NotFound(name))
    }

    /// Takes a snapshot of the newest commit. `now` becomes part of its name.
    ///
    /// Writes go on meanwhile. One at a time: the caller sees to it.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Store`], with nothing left behind that is listed; a
    /// full disk is [`StoreError::DiskFull`].
    pub fn take(
        &self,
        reader: &RocksReader,
        now: SystemTime,
    ) -> Result<SnapshotInfo, SnapshotError> {
        let io = |error| SnapshotError::io("take a snapshot", error);
        fs::create_dir_all(&self.directory).map_err(io)?;
        self.remove_unfinished()?;
        let newest = self.list()?.pop();
        let number = newest.as_ref().map_or(1, |newest| newest.name.number() + 1);
        let name = SnapshotName::new(now, number);
        let unfinished = self.directory.join(format!("{UNFINISHED}{name}"));
        fs::create_dir(&unfinished).map_err(io)?;

        reader.checkpoint(&unfinished.join("db"))?;
        let earlier = newest.and_then(|newest| Some((Checksums::read(&newest.path).ok()?, newest)));
        let earlier =
            earlier.as_ref().map(|(checksums, newest)| (newest.path.as_path(), checksums));
        let checksums = Checksums::compute(&unfinished, earlier).map_err(io)?;
        checksums.write(&unfinished).map_err(io)?;
        sync_directory(&unfinished).map_err(io)?;

        let path = self.directory.join(name.to_string());
        fs::rename(&unfinished, &path)
            .and_then(|()| sync_directory(&self.directory))
            .map_err(io)?;
        Ok(SnapshotInfo { name, bytes: checksums.bytes(), path })
    }

    /// Removes the oldest snapshots until `keep` are left, and returns the
    /// names of those removed. Also clears what a crash left unfinished.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Store`]; some may be gone by then.
    pub fn retain(&self, keep: usize) -> Result<Vec<SnapshotName>, SnapshotError> {
        self.remove_unfinished()?;
        let mut oldest = self.list()?;
        oldest.truncate(oldest.len().saturating_sub(keep));
        for snapshot in &oldest {
            // Renamed first: half a snapshot is never listed.
            let unfinished = self.directory.join(format!("{UNFINISHED}{}", snapshot.name));
            fs::rename(&snapshot.path, &unfinished)
                .and_then(|()| fs::remove_dir_all(&unfinished))
                .map_err(|error| SnapshotError::io("remove an old snapshot", error))?;
        }
        Ok(oldest.into_iter().map(|snapshot| snapshot.name).collect())
    }

    fn remove_unfinished(&self) -> Result<(), SnapshotError> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Ok(()) };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path())
                    .map_err(|error| SnapshotError::io("remove an unfinished snapshot", error))?;
            }
        }
        Ok(())
    }
}

/// Checks the snapshot in `path`, exported or not: every file by its checksum,
/// then every key by reading it, then every record of a group by decoding it.
///
/// # Errors
///
/// [`SnapshotError::Damaged`] names what is wrong; [`SnapshotError::Store`] if
/// it could not be found out.
pub fn verify(path: &Path) -> Result<Verified, SnapshotError> {
    let checksums = Checksums::read(path)?;
    checksums.check(path)?;
    let records = count_records(path).map_err(|error| match error {
        StoreError::Corrupt { detail } => SnapshotError::damaged(path, detail),
        other => other.into(),
    })?;
    let groups = contents::read_all(path)?;
    Ok(Verified { files: checksums.files(), bytes: checksums.bytes(), records, groups })
}

fn count_records(path: &Path) -> Result<u64, StoreError> {
    let database = open_checkpoint(&path.join("db"))?;
    let mut records = 0;
    for table in Table::ALL {
        let mut cursor = database.cursor(table, KeyRange::ALL)?;
        while cursor.next()?.is_some() {
            records += 1;
        }
    }
    Ok(records)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
