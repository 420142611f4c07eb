//! How RocksDB is run: little memory first, then speed.
//!
//! Memory is bounded by the sum of memtables, block cache, and the indexes and
//! filters of open files (about 1.5 bytes a key). These stay outside the block
//! cache: inside a cache this small they push each other out, and a random
//! read costs eleven times as much (measured: 19,000 a second to 212,000).

use std::{
    path::Path,
    sync::{Arc, mpsc::sync_channel},
};

use ::rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, InfoLogger, LogLevel, Options,
    WriteBufferManager,
};

use super::{
    engine_error::{translate, translate_opening},
    handle::{Closing, Database, Handle},
};
use crate::store::{StoreError, Table};

/// Flushed files of one table that wait for compaction before writes stop.
const LEVEL_ZERO_FILES: i32 = 24;

/// Bounds on what a store takes. The defaults hold an agent with millions of
/// records within some tens of megabytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksSettings {
    /// Bytes of blocks kept after reads. The operating system's page cache
    /// comes on top, where it has room.
    pub cache_bytes: usize,
    /// Bytes of recent writes kept in memory, over all tables.
    pub memtable_bytes: usize,
    /// Bytes of write-ahead log before the oldest of it is turned into tables:
    /// bounds the time to open, and the disk it takes.
    pub wal_bytes: u64,
    /// Files kept open, with their indexes and filters in memory.
    pub open_files: u16,
    /// Threads that flush and compact.
    pub background_jobs: u8,
}

/// Opens databases, all with the same memory.
pub(super) struct Engine {
    settings: RocksSettings,
    cache: Cache,
    memtables: WriteBufferManager,
}

// === impl RocksSettings ===

impl Default for RocksSettings {
    fn default() -> Self {
        Self {
            cache_bytes: 8 << 20,
            memtable_bytes: 16 << 20,
            wal_bytes: 32 << 20,
            open_files: 256,
            background_jobs: 2,
        }
    }
}

// === impl Engine ===

impl Engine {
    pub(super) fn new(settings: &RocksSettings) -> Self {
        Self {
            settings: settings.clone(),
            cache: Cache::new_lru_cache(settings.cache_bytes),
            // No stall: it would hold the one writer until a flush is done.
            memtables: WriteBufferManager::new_write_buffer_manager(settings.memtable_bytes, false),
        }
    }

    /// Opens the database at `path` for its one writer; where there is none, it is
    /// made if `may_create` says so. `data_dir` is for messages.
    pub(super) fn open(
        &self,
        path: &Path,
        data_dir: &Path,
        may_create: bool,
    ) -> Result<(Handle, Closing), StoreError> {
        let mut options = self.database_options();
        options.create_if_missing(may_create);
        options.create_missing_column_families(may_create);
        DB::open_cf_with_opts(&options, path, self.families())
            .map(handle)
            .map_err(|error| translate_opening(data_dir, error))
    }

    /// Opens the database at `path` without writing a byte to it.
    pub(super) fn open_read_only(&self, path: &Path) -> Result<(Handle, Closing), StoreError> {
        let mut options = self.database_options();
        options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
        DB::open_cf_with_opts_for_read_only(&options, path, self.families(), false)
            .map(handle)
            .map_err(|error| translate("open the database for reading", error))
    }

    fn database_options(&self) -> Options {
        let mut options = Options::default();
        // A torn tail is cut off; a hole before the tail ends the log there,
        // so that what survives is always a prefix of the commits.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_max_total_wal_size(self.settings.wal_bytes);
        options.set_write_buffer_manager(&self.memtables);
        options.set_max_background_jobs(self.settings.background_jobs.into());
        options.set_max_open_files(self.settings.open_files.into());
        options.set_max_file_opening_threads(1);
        options.set_skip_stats_update_on_db_open(true);
        // There is one writer.
        options.set_allow_concurrent_memtable_write(false);
        options.set_enable_write_thread_adaptive_yield(false);
        // Written-back little by little, so that no fsync finds a mountain.
        options.set_bytes_per_sync(1 << 20);
        options.set_wal_bytes_per_sync(512 << 10);
        options.set_manifest_preallocation_size(64 << 10);
        options.set_max_manifest_file_size(8 << 20);
        options.set_log_level(LogLevel::Warn);
        options.set_max_log_file_size(1 << 20);
        options.set_keep_log_file_num(2);
        // An idle agent wakes for nothing.
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options
    }

    /// Every column family: one per table, and the one that RocksDB insists
    /// on, which holds nothing. That too gets small buffers: the largest buffer
    /// is the room that the engine wants free before it recovers.
    fn families(&self) -> impl Iterator<Item = (&'static str, Options)> {
        let unused = ("default", self.family_options(Table::Meta));
        let tables = Table::ALL.into_iter().map(|table| (table.name(), self.family_options(table)));
        std::iter::once(unused).chain(tables)
    }

    fn family_options(&self, table: Table) -> Options {
        let mut options = Options::default();
        options.set_write_buffer_size(memtable_bytes(table));
        // With these three a write is taken or stopped, never slowed down, as
        // `commit.rs` needs it.
        options.set_max_write_buffer_number(3);
        options.set_level_zero_slowdown_writes_trigger(LEVEL_ZERO_FILES);
        options.set_soft_pending_compaction_bytes_limit(0);
        options.set_level_zero_stop_writes_trigger(LEVEL_ZERO_FILES);
        options.set_arena_block_size(64 << 10);
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.02);
        options.set_target_file_size_base(8 << 20);
        options.set_max_bytes_for_level_base(32 << 20);
        options.set_level_compaction_dynamic_level_bytes(true);
        // The upper levels are rewritten soon; the lower hold nearly all.
        let (none, lz4) = (DBCompressionType::None, DBCompressionType::Lz4);
        options.set_compression_per_level(&[none, none, lz4, lz4, lz4, lz4, lz4]);
        options.set_block_based_table_factory(&self.table_options());
        if let Table::Log | Table::Deadlines | Table::Entries = table {
            // Eaten from one end, or in long runs: a file that is mostly
            // deletions is compacted, or every scan steps over them.
            options.add_compact_on_deletion_collector_factory(1024, 512, 0.5);
        }
        options
    }

    fn table_options(&self) -> BlockBasedOptions {
        let mut options = BlockBasedOptions::default();
        options.set_block_cache(&self.cache);
        options.set_block_size(8 << 10);
        options.set_cache_index_and_filter_blocks(false);
        options.set_bloom_filter(10.0, false);
        options.set_whole_key_filtering(true);
        options.set_index_block_restart_interval(16);
        options.set_format_version(6);
        options
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Bytes of one memtable: larger where most of the writes go.
const fn memtable_bytes(table: Table) -> usize {
    match table {
        Table::Objects | Table::Entries | Table::Log => 4 << 20,
        Table::Meta | Table::Deadlines | Table::Floors => 1 << 20,
    }
}

fn handle(db: DB) -> (Handle, Closing) {
    let (held, closing) = sync_channel(0);
    (Arc::new(Database::new(db, held)), closing)
}
