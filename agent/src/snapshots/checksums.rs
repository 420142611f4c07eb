//! The `CHECKSUMS` file of a snapshot: what every other file of it must be.
//!
//! Text, a line each: a head with the version of this file and of the store's
//! format, then `<crc32c> <bytes> <path>` for each file in order of paths,
//! then `<crc32c> end` over all lines before.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::SnapshotError;
use crate::store::{StoreError, rocksdb::FORMAT_VERSION};

const FILE_NAME: &str = "CHECKSUMS";

/// The version of this file.
const VERSION: u32 = 1;

/// Size and CRC-32C of each file of a snapshot, by path within it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Checksums {
    files: BTreeMap<String, Fingerprint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    crc: u32,
    bytes: u64,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes with CRC-32C {:08x}", self.bytes, self.crc)
    }
}

/// Bytes of all files of the snapshot in `path`, without reading them.
pub(super) fn sizes(path: &Path) -> io::Result<u64> {
    let mut bytes = fs::metadata(path.join(FILE_NAME)).map_or(0, |found| found.len());
    for name in file_names(path)? {
        bytes += fs::metadata(path.join(name))?.len();
    }
    Ok(bytes)
}

// === impl Checksums ===

impl Checksums {
    /// Reads every file of the snapshot in `path`. What is the same file as in
    /// the snapshot `earlier`, by another link, is taken from there: the engine
    /// writes to none of them again.
    pub(super) fn compute(path: &Path, earlier: Option<(&Path, &Self)>) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for name in file_names(path)? {
            let file = path.join(&name);
            let known = earlier.and_then(|(earlier, checksums)| {
                let known = checksums.files.get(&name)?;
                same_file(&file, &earlier.join(&name)).then_some(*known)
            });
            let fingerprint = match known {
                Some(known) => known,
                None => Fingerprint { crc: checksum(&file)?, bytes: fs::metadata(&file)?.len() },
            };
            files.insert(name, fingerprint);
        }
        Ok(Self { files })
    }

    /// Writes the file, and puts it on disk with every other of the snapshot.
    /// (Table files are there since they were written; asking again is cheap.)
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = format!("coppice-snapshot {VERSION} coppice-store {FORMAT_VERSION}\n");
        for (name, Fingerprint { crc, bytes }) in &self.files {
            let _ = writeln!(text, "{crc:08x} {bytes} {name}");
        }
        let _ = writeln!(text, "{:08x} end", crc32c::crc32c(text.as_bytes()));
        fs::write(path.join(FILE_NAME), text)?;
        for name in self.files.keys().map(String::as_str).chain([FILE_NAME]) {
            File::open(path.join(name))?.sync_all()?;
        }
        File::open(path.join("db"))?.sync_all()
    }

    /// Reads the file of the snapshot in `path`.
    pub(super) fn read(path: &Path) -> Result<Self, SnapshotError> {
        let text =
            fs::read_to_string(path.join(FILE_NAME)).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    SnapshotError::damaged(path, "it has no CHECKSUMS file".to_owned())
                }
                _ => SnapshotError::io("read CHECKSUMS of a snapshot", error),
            })?;
        let (snapshot, store) = versions(&text).ok_or_else(|| malformed(path))?;
        if snapshot > VERSION || store > FORMAT_VERSION {
            return Err(SnapshotError::Store(StoreError::NewerVersion {
                directory: path.to_owned(),
                found: store,
                supported: FORMAT_VERSION,
            }));
        }
        parse(&text).ok_or_else(|| malformed(path))
    }

    /// Compares the snapshot in `path`: no file missing, none changed, none
    /// that does not belong.
    pub(super) fn check(&self, path: &Path) -> Result<(), SnapshotError> {
        let io = |error| SnapshotError::io("read a snapshot", error);
        let found = Self::compute(path, None).map_err(io)?;
        for (name, expected) in &self.files {
            match found.files.get(name) {
                None => return Err(SnapshotError::damaged(path, format!("{name} is missing"))),
                Some(found) if found != expected => {
                    let detail = format!(
                        "{name} is not what was written: it has {found} instead of {expected}"
                    );
                    return Err(SnapshotError::damaged(path, detail));
                }
                Some(_) => {}
            }
        }
        match found.files.keys().find(|name| !self.files.contains_key(*name)) {
            Some(name) => Err(SnapshotError::damaged(path, format!("{name} does not belong"))),
            None => Ok(()),
        }
    }

    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }
}

/// Names of all files of the snapshot in `path` but `CHECKSUMS`, within it.
pub(super) fn file_names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(path.join("db"))? {
        names.push(format!("db/{}", file?.file_name().to_string_lossy()));
    }
    names.sort();
    Ok(names)
}

fn malformed(path: &Path) -> SnapshotError {
    SnapshotError::damaged(path, "its CHECKSUMS file is not what was written".to_owned())
}

/// Of the snapshot's files, and of the store.
fn versions(text: &str) -> Option<(u32, u32)> {
    let words: Vec<&str> = text.lines().next()?.split(' ').collect();
    match words[..] {
        ["coppice-snapshot", snapshot, "coppice-store", store] => {
            Some((snapshot.parse().ok()?, store.parse().ok()?))
        }
        _ => None,
    }
}

fn parse(text: &str) -> Option<Checksums> {
    let body = &text[..=text.trim_end_matches('\n').rfind('\n')?];
    let end = format!("{:08x} end\n", crc32c::crc32c(body.as_bytes()));
    if text[body.len()..] != end {
        return None;
    }
    let mut checksums = Checksums::default();
    for line in body.lines().skip(1) {
        let mut words = line.splitn(3, ' ');
        let crc = u32::from_str_radix(words.next()?, 16).ok()?;
        let bytes = words.next()?.parse().ok()?;
        checksums.files.insert(words.next()?.to_owned(), Fingerprint { crc, bytes });
    }
    Some(checksums)
}

fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

fn checksum(path: &Path) -> io::Result<u32> {
    let (mut file, mut buffer, mut crc) = (File::open(path)?, vec![0; 128 << 10], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(crc),
            read => crc = crc32c::crc32c_append(crc, &buffer[..read]),
        }
    }
}
