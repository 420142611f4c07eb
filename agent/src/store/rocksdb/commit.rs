//! One commit: a batch to the engine, and what to do when that does not take it.
//!
//! Where compaction or flushing cannot keep up, RocksDB makes the writer wait;
//! and if they stopped because the disk is full, it makes it wait for as long
//! as the disk stays so, because it hopes to recover by itself. The one writer
//! of an agent must answer instead. So every write asks not to be held up, and
//! the waiting is done here, where the reason can be looked at. (`settings.rs`
//! sees to it that a write is either taken or stopped, never slowed down: a
//! slowed write that does not wait starves.)

use std::{io, thread, time::Duration};

use ::rocksdb::{DB, Error, ErrorKind, WriteBatch, WriteOptions, properties};

use super::{data_directory::DataDirectory, engine_error::translate, view::family};
use crate::store::{Batch, Durability, StoreError, Write};

/// How long a stopped write waits before it asks again.
const STALL_PAUSE: Duration = Duration::from_millis(1);

/// How often it asks: for half a minute at least.
const STALL_ROUNDS: u32 = 30_000;

/// Applies `batch` to `db`, waiting while the engine catches up.
pub(super) fn write(
    db: &DB,
    directory: &DataDirectory,
    batch: &Batch,
    durability: Durability,
) -> Result<(), StoreError> {
    for _ in 0..STALL_ROUNDS {
        match try_write(db, batch, durability) {
            Err(error) if error.kind() == ErrorKind::Incomplete => {
                // Nothing was written: the engine says so before its log.
                check_background(db, directory)?;
                thread::park_timeout(STALL_PAUSE);
            }
            result => return result.map_err(|error| translate("commit a batch", error)),
        }
    }
    Err(StoreError::Io {
        attempt: "commit a batch: flushing and compacting do not keep up",
        source: io::ErrorKind::TimedOut.into(),
    })
}

fn try_write(db: &DB, batch: &Batch, durability: Durability) -> Result<(), Error> {
    // Per write: a tag, a column family, two lengths.
    let mut writes = WriteBatch::with_capacity_bytes(batch.byte_size() + 12 * batch.len() + 16);
    for write in batch.iter() {
        match write {
            Write::Put { table, key, value } => writes.put_cf(family(db, table), key, value),
            Write::Delete { table, key } => writes.delete_cf(family(db, table), key),
            Write::DeleteRange { table, from, to } => {
                writes.delete_range_cf(family(db, table), from, to);
            }
        }
    }
    let mut options = WriteOptions::default();
    options.set_sync(durability == Durability::Sync);
    options.set_no_slowdown(true);
    db.write_opt(writes, &options)
}

/// Fails if flushing or compacting has, since the database was opened.
fn check_background(db: &DB, directory: &DataDirectory) -> Result<(), StoreError> {
    let failures = db.property_int_value(properties::BACKGROUND_ERRORS);
    if matches!(failures, Ok(Some(1..))) {
        directory.check_room_to_reopen()?;
        return Err(StoreError::Io {
            attempt: "flush or compact the database",
            source: io::Error::other("failed in the background; RocksDB's LOG file says why"),
        });
    }
    Ok(())
}
