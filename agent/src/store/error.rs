//! Why a store did not do what it was asked: a variant per decision.

use std::{io, path::PathBuf};

use coppice_api::cluster::HELD_DATABASE;

/// Why a store did not open, read or write.
///
/// Of a write that failed with anything but [`Stopped`](StoreError::Stopped)
/// the outcome is unknown until the store is reopened; see
/// [`Store`](super::Store).
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the data directory. Do not start; nothing was
    /// touched.
    #[error(
        "the data directory {} {HELD_DATABASE}{}: stop that one, or give this one its own `dataDir`",
        directory.display(), OtherProcess(*pid)
    )]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// The process that holds it, as it saw its own id (another container
        /// may count differently).
        pid: Option<u32>,
    },
    /// A newer release wrote the data directory. Do not start; nothing was
    /// touched.
    #[error(
        "the data directory {} was written in format {found}, and this agent reads up to format {supported}: run the release that wrote it, or a later one",
        directory.display()
    )]
    NewerVersion {
        /// The directory.
        directory: PathBuf,
        /// The version it names.
        found: u32,
        /// The highest version that this agent can read.
        supported: u32,
    },
    /// What is on disk is not what was written. Not mended by trying again:
    /// the data comes from peers or from a snapshot.
    #[error("the store is damaged: {detail}")]
    Corrupt {
        /// What was found where, in the engine's words.
        detail: String,
    },
    /// The volume, or a quota on it, has no room. Refuse writes, and reopen
    /// once there is room.
    #[error("no space left on the store's volume")]
    DiskFull(#[source] io::Error),
    /// The operating system or the engine failed otherwise: reopen with
    /// back-off; at start, tell the user.
    #[error("cannot {attempt}: {source}")]
    Io {
        /// What was attempted, as verb and object.
        attempt: &'static str,
        /// What came back.
        #[source]
        source: io::Error,
    },
    /// An earlier write failed, and the store was not reopened since. Nothing
    /// was written.
    #[error("the store has stopped writing after a failure and was not reopened yet")]
    Stopped,
    /// The store is being reopened and was not back within a second. Try
    /// again.
    #[error("the store is being reopened")]
    Reopening,
    /// The store was reopened since this snapshot was taken. Take a new one.
    #[error("the store was reopened since this snapshot was taken")]
    Expired,
    /// The owner has closed the store: the agent is stopping.
    #[error("the store is closed")]
    Closed,
}

/// Completes the message of [`StoreError::Locked`].
struct OtherProcess(Option<u32>);

// === impl StoreError ===

impl StoreError {
    /// Whether the volume is full: answer 507, reopen when there is room.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull(_))
    }

    /// Whether the agent's user may not do it, or nobody may on that volume.
    pub fn is_not_allowed(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        let kinds = [PermissionDenied, ReadOnlyFilesystem];
        matches!(self, Self::Io { source, .. } if kinds.contains(&source.kind()))
    }

    /// Whether what is on disk is damaged.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }

    /// Whether the agent must not start on this directory, whatever it does
    /// again: a person has to decide.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Locked { .. } | Self::NewerVersion { .. } | Self::Corrupt { .. } => true,
            Self::DiskFull(_)
            | Self::Io { .. }
            | Self::Stopped
            | Self::Reopening
            | Self::Expired
            | Self::Closed => false,
        }
    }

    /// Whether a read may succeed at once when it starts again from a new
    /// snapshot.
    pub fn is_read_retryable(&self) -> bool {
        match self {
            Self::Reopening | Self::Expired => true,
            Self::Locked { .. }
            | Self::NewerVersion { .. }
            | Self::Corrupt { .. }
            | Self::DiskFull(_)
            | Self::Io { .. }
            | Self::Stopped
            | Self::Closed => false,
        }
    }

    /// Whether the failed write certainly left nothing behind.
    pub fn wrote_nothing(&self) -> bool {
        matches!(self, Self::Stopped | Self::Closed)
    }

    /// An error of the operating system, with `DiskFull` told apart.
    pub(crate) fn from_io(attempt: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(source),
            _ => Self::Io { attempt, source },
        }
    }
}

// === impl OtherProcess ===

impl std::fmt::Display for OtherProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, " (process {pid})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_full_quota_are_told_from_other_failures() {
        for errno in [28, 122] {
            let error = StoreError::from_io("write", io::Error::from_raw_os_error(errno));
            assert!(error.is_disk_full(), "errno {errno}");
        }
        assert!(!StoreError::from_io("write", io::Error::from_raw_os_error(5)).is_disk_full());
    }

    #[test]
    fn the_holder_of_a_directory_is_named() {
        let error = StoreError::Locked { directory: "/data".into(), pid: Some(7) };
        assert!(error.to_string().contains("held by another agent (process 7):"));
    }
}
