//! What each setting of a group may be, lowest and highest.
//!
//! Stated once: the agent's file and the custom resource are held to the same.

use crate::{ByteSize, TextDuration};

const MONTH: TextDuration = TextDuration::from_secs(30 * 86_400);
const HOUR: TextDuration = TextDuration::from_secs(3_600);
const SECOND: TextDuration = TextDuration::from_secs(1);

pub(crate) const SYNC_INTERVAL: (TextDuration, TextDuration) =
    (TextDuration::from_millis(100), HOUR);
pub(crate) const SNAPSHOT_INTERVAL: (TextDuration, TextDuration) = (SECOND, MONTH);
pub(crate) const SNAPSHOT_RETAIN: (u64, u64) = (0, 1_000);
pub(crate) const FSYNC_INTERVAL: (TextDuration, TextDuration) =
    (TextDuration::from_millis(1), TextDuration::from_secs(60));
/// Objects, and elements over all of them.
pub(crate) const ENTRIES: (u64, u64) = (1, 1_000_000_000_000);
/// A unit, 16 MiB on the wire, must hold a value whatever else stands beside it.
pub(crate) const VALUE_BYTES: (ByteSize, ByteSize) = (ByteSize::bytes(1), ByteSize::mebibytes(8));
pub(crate) const LOG_BYTES: (ByteSize, ByteSize) =
    (ByteSize::mebibytes(1), ByteSize::mebibytes(1 << 20));
pub(crate) const LOG_AGE: (TextDuration, TextDuration) = (SECOND, MONTH);
/// In a cluster: a group's part of its pods' volume.
#[cfg(feature = "crd")]
pub(crate) const VOLUME_SIZE: (ByteSize, ByteSize) =
    (ByteSize::mebibytes(64), ByteSize::mebibytes(64 << 20));
