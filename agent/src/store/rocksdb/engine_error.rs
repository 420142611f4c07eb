//! What RocksDB's messages mean to us.
//!
//! The binding passes on a status as text: its kind, then `: `, then, for the
//! operating system's errors, what `strerror` says. The kinds are parsed by
//! the binding, the two that call for another decision here.

use std::{io, path::Path};

use ::rocksdb::{Error, ErrorKind};

use crate::store::StoreError;

/// `strerror` of ENOSPC and EDQUOT, in glibc's and musl's words.
const NO_ROOM: [&str; 3] = ["No space left on device", "Disk quota exceeded", "Quota exceeded"];

/// `strerror` of ENOENT and EACCES.
const NO_FILE: &str = "No such file or directory";
const NOT_ALLOWED: &str = "Permission denied";

/// What RocksDB says when another handle has the database.
const HELD: [&str; 2] = ["While lock file", "lock hold by current process"];

/// What became of `attempt`.
pub(super) fn translate(attempt: &'static str, error: Error) -> StoreError {
    let kind = error.kind();
    let text = error.into_string();
    if NO_ROOM.iter().any(|words| text.contains(words)) {
        return StoreError::DiskFull(io::Error::new(io::ErrorKind::StorageFull, text));
    }
    if text.contains(NOT_ALLOWED) {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, text);
        return StoreError::Io { attempt, source };
    }
    match kind {
        ErrorKind::Corruption => StoreError::Corrupt { detail: text },
        _ => StoreError::Io { attempt, source: io::Error::other(text) },
    }
}

/// What became of opening the database in `data_dir`.
pub(super) fn translate_opening(data_dir: &Path, error: Error) -> StoreError {
    if HELD.iter().any(|words| error.as_ref().contains(words)) {
        return StoreError::Locked { directory: data_dir.to_owned(), pid: None };
    }
    if error.as_ref().contains(NO_FILE) {
        // All were there when the database was last closed, or crashed.
        return StoreError::Corrupt { detail: error.into_string() };
    }
    translate("open the database", error)
}
