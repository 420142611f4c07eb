//! The data directory: whose it is, and which release wrote it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::store::StoreError;

/// The version of the layout that this release writes, and the highest that it
/// reads.
pub const FORMAT_VERSION: u32 = 1;

/// What `FORMAT` starts with; the version follows.
const FORMAT_WORD: &str = "coppice-store";

/// What RocksDB writes when it opens, beside its log: a manifest, options, a
/// new log.
const REOPENING_BYTES: u64 = 1 << 20;

/// The file by whose writing the room on the volume is found out.
const SPACE_CHECK: &str = "space-check";

/// Follows the version for as long as the database was not made: without it, a
/// directory whose database is gone is not taken for a new one.
const NOT_MADE: &str = "new";

/// A data directory that this process holds, until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    /// Whether there is no database yet.
    is_new: bool,
    /// Locked; the lock goes with the file.
    _lock: File,
}

// === impl DataDirectory ===

impl DataDirectory {
    /// Makes the directory if need be, locks it and checks its version.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        make(path).map_err(io_error("create the data directory"))?;
        let lock = lock(path)?;
        let mut directory = Self { path: path.to_owned(), is_new: false, _lock: lock };
        // Left by a check that was cut short; it may be what fills the volume.
        let _ = fs::remove_file(directory.path.join(SPACE_CHECK));
        directory.is_new = directory.check_format()?;
        if !directory.is_new {
            directory.check_database_was_not_removed()?;
        }
        // The engine syncs what is in its folder, not the folder's own name.
        // It may also have been made just before a crash.
        fs::create_dir_all(directory.database())
            .and_then(|()| File::open(&directory.path)?.sync_all())
            .map_err(io_error("create the database's folder"))?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the database is.
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Finds out whether the database's files are still there.
    pub(crate) fn check_database_is_there(&self) -> Result<(), StoreError> {
        let current = fs::metadata(self.database().join("CURRENT"));
        current.map(drop).map_err(io_error(
            "find the database, whose files were removed while it was served: stop the agent, and \
             restore a snapshot or let it begin with what peers have",
        ))
    }

    /// Finds out whether the database could be opened now, by writing as much
    /// as that may write: its write-ahead log again as tables, and a little.
    pub(crate) fn check_room_to_reopen(&self) -> Result<(), StoreError> {
        let path = self.path.join(SPACE_CHECK);
        let written = write_zeros(&path, log_bytes(&self.database()) + REOPENING_BYTES);
        let removed = fs::remove_file(&path);
        written.and(removed).map_err(io_error("check for space"))
    }

    /// Whether there is no database yet, which may be made then.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Takes notice that there is a database now.
    pub(crate) fn database_is_made(&mut self) -> Result<(), StoreError> {
        if self.is_new {
            self.write_format("")?;
            self.is_new = false;
        }
        Ok(())
    }

    fn check_database_was_not_removed(&self) -> Result<(), StoreError> {
        match fs::metadata(self.database().join("CURRENT")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Corrupt {
                detail: format!(
                    "there is no database in {} any more: put its files back if they were moved \
                     away",
                    self.database().display()
                ),
            }),
            found => found.map(drop).map_err(io_error("look at the database")),
        }
    }

    /// Whether the directory is new.
    fn check_format(&self) -> Result<bool, StoreError> {
        match fs::read_to_string(self.path.join("FORMAT")) {
            Ok(text) => self.check_version(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.mark_new(),
            Err(error) => Err(StoreError::from_io("read FORMAT in the data directory", error)),
        }
    }

    fn check_version(&self, text: &str) -> Result<bool, StoreError> {
        let rest = text.trim().strip_prefix(FORMAT_WORD).map(str::trim);
        let made = rest.and_then(|rest| rest.strip_suffix(NOT_MADE)).map(str::trim);
        let version = made.or(rest).map(str::parse::<u32>);
        match version {
            Some(Ok(found)) if found > FORMAT_VERSION => Err(StoreError::NewerVersion {
                directory: self.path.clone(),
                found,
                supported: FORMAT_VERSION,
            }),
            Some(Ok(1..)) => Ok(made.is_some()),
            _ => Err(StoreError::Corrupt {
                detail: format!(
                    "{} does not name a version: found {text:?}",
                    self.path.join("FORMAT").display()
                ),
            }),
        }
    }

    /// Marks a new directory. The mark is on disk before there is a database.
    fn mark_new(&self) -> Result<bool, StoreError> {
        if self.database().exists() {
            return Err(StoreError::Corrupt {
                detail: format!("{} has a database but no FORMAT file", self.path.display()),
            });
        }
        self.write_format(NOT_MADE)?;
        Ok(true)
    }

    fn write_format(&self, state: &str) -> Result<(), StoreError> {
        let attempt = "write FORMAT in the data directory";
        let (path, temporary) = (self.path.join("FORMAT"), self.path.join("FORMAT.tmp"));
        let text = format!("{FORMAT_WORD} {FORMAT_VERSION} {state}");
        fs::write(&temporary, text.trim_end().to_owned() + "\n")
            .and_then(|()| File::open(&temporary)?.sync_all())
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(io_error(attempt))
    }
}

/// Makes a directory where there is none, and puts its name on disk and those of
/// the parents it needed: a synced file in a directory whose name a power loss
/// takes is lost.
fn make(path: &Path) -> io::Result<()> {
    let is_named = |path: &&Path| !path.as_os_str().is_empty();
    let missing = path.ancestors().filter(is_named).take_while(|path| !path.exists());
    let missing: Vec<&Path> = missing.collect();
    fs::create_dir_all(path)?;
    for made in missing {
        let parent = made.parent().filter(is_named).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Takes the lock, and writes who has it for those who do not get it.
fn lock(path: &Path) -> Result<File, StoreError> {
    let attempt = "lock the data directory";
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join("LOCK"))
        .map_err(io_error(attempt))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let pid =
                file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
            return Err(StoreError::Locked { directory: path.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(StoreError::from_io(attempt, error)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io_error(attempt))?;
    Ok(file)
}

/// Bytes of write-ahead log in the database directory.
fn log_bytes(database: &Path) -> u64 {
    let Ok(files) = fs::read_dir(database) else { return 0 };
    let logs = files.flatten().filter(|file| file.path().extension().is_some_and(|e| e == "log"));
    logs.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn write_zeros(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
    file.sync_all()
}

fn io_error(attempt: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |error| StoreError::from_io(attempt, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_by_one_at_a_time() {
        let temporary = tempfile::tempdir().unwrap();
        let held = DataDirectory::open(temporary.path()).unwrap();

        let refused = DataDirectory::open(temporary.path()).unwrap_err();
        let own = std::process::id();
        assert!(matches!(refused, StoreError::Locked { pid: Some(pid), .. } if pid == own));

        drop(held);
        DataDirectory::open(temporary.path()).unwrap();
    }

    #[test]
    fn a_directory_of_a_newer_release_is_refused_and_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let format = temporary.path().join("FORMAT");
        fs::write(&format, "coppice-store 2\n").unwrap();

        let refused = DataDirectory::open(temporary.path()).unwrap_err();

        assert!(matches!(refused, StoreError::NewerVersion { found: 2, supported: 1, .. }));
        assert!(refused.to_string().contains("run the release that wrote it"));
        assert_eq!(fs::read_to_string(format).unwrap(), "coppice-store 2\n");
    }

    #[test]
    fn a_database_that_was_removed_is_not_begun_anew() {
        let temporary = tempfile::tempdir().unwrap();
        let mut directory = DataDirectory::open(temporary.path()).unwrap();
        assert!(directory.is_new());
        drop(directory);
        directory = DataDirectory::open(temporary.path()).unwrap();
        assert!(directory.is_new(), "the first start was cut short");
        fs::write(directory.database().join("CURRENT"), "").unwrap();
        directory.database_is_made().unwrap();
        drop(directory);
        assert!(!DataDirectory::open(temporary.path()).unwrap().is_new());

        fs::remove_file(temporary.path().join("db/CURRENT")).unwrap();
        for folder in ["emptied", "removed"] {
            let refused = DataDirectory::open(temporary.path()).unwrap_err();
            assert!(refused.is_corrupt(), "{folder}: {refused}");
            assert!(refused.to_string().contains("put its files back"), "{folder}: {refused}");
            let _ = fs::remove_dir(temporary.path().join("db"));
        }
    }

    #[test]
    fn a_format_that_cannot_be_read_is_damage() {
        for text in [
            "",
            "coppice-store",
            "coppice-store 0",
            "coppice-store x",
            "other 1",
            "coppice-store new",
        ] {
            let temporary = tempfile::tempdir().unwrap();
            fs::write(temporary.path().join("FORMAT"), text).unwrap();
            assert!(DataDirectory::open(temporary.path()).unwrap_err().is_corrupt(), "{text:?}");
        }
    }

    #[test]
    fn a_database_without_a_format_is_damage() {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir(temporary.path().join("db")).unwrap();
        assert!(DataDirectory::open(temporary.path()).unwrap_err().is_corrupt());
    }
}
