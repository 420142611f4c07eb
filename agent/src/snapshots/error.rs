//! Why a snapshot was not taken, checked, exported or restored.

use std::{
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{SnapshotName, StoredGroup};
use crate::store::StoreError;

/// Why a snapshot was not taken, checked, exported or restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store or the file system failed; [`StoreError`] says how.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no snapshot of this name; it may have been pruned.
    #[error("there is no snapshot {0}")]
    NotFound(SnapshotName),
    /// The snapshot is not what was taken. Use another one.
    #[error("the snapshot {} is damaged: {detail}", path.display())]
    Damaged {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The target of an export is there already. It was left alone.
    #[error("{} exists already: export to a new path", .0.display())]
    TargetExists(PathBuf),
    /// The name under which an export is made is taken. It was left alone.
    #[error("{} exists: another export is under way, or was cut short; if none is, remove it", .0.display())]
    Unfinished(PathBuf),
    /// The target of an export would stand in a directory that is not there.
    #[error("there is no folder {}: make it first", .0.display())]
    NoParent(PathBuf),
    /// The snapshot holds other groups only.
    #[error("the snapshot {} does not hold the group {group}: it holds {}", path.display(), listed(groups))]
    NoSuchGroup {
        /// The snapshot.
        path: PathBuf,
        /// The group that was asked for.
        group: Uuid,
        /// Those that it holds.
        groups: Vec<StoredGroup>,
    },
    /// The store holds objects of the group, which a restore would put an end to.
    #[error(
        "the data directory holds objects of the group {0}: add --replace to put those of the snapshot in their place"
    )]
    GroupHolds(Uuid),
}

// === impl SnapshotError ===

impl SnapshotError {
    pub(super) fn io(attempt: &'static str, error: io::Error) -> Self {
        Self::Store(StoreError::from_io(attempt, error))
    }

    pub(super) fn damaged(path: &Path, detail: String) -> Self {
        Self::Damaged { path: path.to_owned(), detail }
    }
}

fn listed(groups: &[StoredGroup]) -> String {
    if groups.is_empty() {
        return "none".to_owned();
    }
    groups.iter().map(|group| group.id.to_string()).collect::<Vec<_>>().join(", ")
}
