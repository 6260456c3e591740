//! RocksDB: the settings of both databases, each with its reason, and its errors in our words.

use crate::StorageOptions;
use crate::error::{REJOIN, Result, StorageError};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, ErrorKind, InfoLogger,
    LogLevel, Options,
};
use sched_core::tables::Table;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The column family of log entries; the key is the index, big-endian.
pub(crate) const LOG_ENTRIES: &str = "log";
/// The column family of vote, purge marker, commit marker and stream number.
pub(crate) const LOG_META: &str = "meta";

/// Open files per database: each costs a descriptor and a table reader in memory.
const OPEN_FILES_MAX: i32 = 256;
/// Log files of RocksDB kept for reuse: overwriting syncs faster than appending.
const WAL_RECYCLED: usize = 4;
/// A file in which this many of [`TOMBSTONE_WINDOW`] neighbours are deletions is compacted: queues leave such files behind.
const TOMBSTONES_IN_WINDOW: usize = 512;
const TOMBSTONE_WINDOW: usize = 1024;

/// What the databases of one data folder share.
#[derive(Clone)]
pub(crate) struct Shared {
    cache: Cache,
    options: StorageOptions,
}

impl Shared {
    pub(crate) fn new(options: StorageOptions) -> Self {
        Self {
            cache: Cache::new_lru_cache(options.block_cache_bytes),
            options,
        }
    }

    pub(crate) fn options(&self) -> &StorageOptions {
        &self.options
    }

    fn common(&self) -> Options {
        let mut o = Options::default();
        // Whoever opens decides first whether the folder is new: a database that lost its CURRENT must not be made anew.
        o.create_if_missing(false);
        o.create_missing_column_families(true);
        o.set_paranoid_checks(true);
        o.set_max_open_files(OPEN_FILES_MAX);
        // One compaction and one flush at a time: two cores serve everything.
        o.set_max_background_jobs(2);
        o.set_max_subcompactions(1);
        o.set_bytes_per_sync(1 << 20);
        o.set_stats_dump_period_sec(0);
        o.set_stats_persist_period_sec(0);
        // Several column families share one write-ahead log or none: flushed together, they stay at one moment.
        o.set_atomic_flush(true);
        o.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, report));
        o
    }

    fn table(&self, block_bytes: usize) -> BlockBasedOptions {
        let mut t = BlockBasedOptions::default();
        t.set_block_cache(&self.cache);
        t.set_block_size(block_bytes);
        // Indexes and filters in the cache, so that the cache's bound is the bound.
        t.set_cache_index_and_filter_blocks(true);
        t.set_cache_index_and_filter_blocks_with_high_priority(true);
        t.set_pin_l0_filter_and_index_blocks_in_cache(true);
        t
    }

    /// Opens the log's database.
    pub(crate) fn open_log(&self, path: &Path, create: bool) -> Result<DB> {
        let mut o = self.common();
        o.create_if_missing(create);
        // A torn record at the end is what a crash leaves. More than that is found by the witness: see `log::witness`.
        o.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        o.set_recycle_log_file_num(WAL_RECYCLED);
        let entries = self.log_entries();
        let mut meta = self.common();
        meta.set_write_buffer_size(4 << 20);
        let cfs = [
            ColumnFamilyDescriptor::new(LOG_ENTRIES, entries),
            ColumnFamilyDescriptor::new(LOG_META, meta),
        ];
        let db = DB::open_cf_descriptors(&o, path, cfs).map_err(|e| on_open(path, &e, REJOIN))?;
        all_there(path, db, REJOIN)
    }

    fn log_entries(&self) -> Options {
        let mut o = self.common();
        o.set_write_buffer_size(self.options.log_buffer_bytes);
        o.set_max_write_buffer_number(3);
        // Entries arrive in order, so a file of level 0 moves down without being rewritten; there a purge drops it whole.
        o.set_level_zero_file_num_compaction_trigger(2);
        o.set_target_file_size_base(self.options.log_buffer_bytes as u64);
        // Entries die young and are read from memory: not worth the time of compressing.
        o.set_compression_type(DBCompressionType::None);
        o.set_block_based_table_factory(&self.table(16 << 10));
        o
    }

    /// Opens a database of state tables.
    pub(crate) fn open_state(&self, path: &Path, create: bool, remedy: &'static str) -> Result<DB> {
        let mut o = self.state_options();
        o.create_if_missing(create);
        let names = Table::ALL
            .iter()
            .map(|t| t.name())
            .chain([rocksdb::DEFAULT_COLUMN_FAMILY_NAME]);
        let cfs = names.map(|name| ColumnFamilyDescriptor::new(name, self.state_options()));
        let db = DB::open_cf_descriptors(&o, path, cfs).map_err(|e| on_open(path, &e, remedy))?;
        all_there(path, db, remedy)
    }

    /// Opens a database of state tables to look at how far it goes, changing nothing.
    pub(crate) fn open_state_to_read(&self, path: &Path, remedy: &'static str) -> Result<DB> {
        let names = [rocksdb::DEFAULT_COLUMN_FAMILY_NAME];
        DB::open_cf_for_read_only(&self.common(), path, names, false).map_err(|e| on_open(path, &e, remedy))
    }

    fn state_options(&self) -> Options {
        let mut o = self.common();
        // The bound over all tables; one busy table may use half of it.
        o.set_db_write_buffer_size(self.options.state_buffer_bytes);
        o.set_write_buffer_size(self.options.state_buffer_bytes / 2);
        o.set_max_write_buffer_number(3);
        // There are many tables, and most are small.
        o.set_arena_block_size(128 << 10);
        o.set_target_file_size_base(16 << 20);
        o.set_max_bytes_for_level_base(64 << 20);
        o.set_compression_type(DBCompressionType::Lz4);
        o.add_compact_on_deletion_collector_factory(TOMBSTONE_WINDOW, TOMBSTONES_IN_WINDOW, 0.5);
        let mut t = self.table(8 << 10);
        t.set_bloom_filter(10.0, false);
        t.set_optimize_filters_for_memory(true);
        o.set_block_based_table_factory(&t);
        o
    }
}

fn report(level: LogLevel, message: &str) {
    let message = message.trim();
    match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(message, "rocksdb"),
        LogLevel::Warn => tracing::warn!(message, "rocksdb"),
        // Headers are passed on whatever the level asked for: thousands of lines of settings at each start.
        _ => tracing::trace!(message, "rocksdb"),
    }
}

/// Compares the files a database consists of with those that are there: RocksDB looks at most of them only when they
/// are read, which may be much later.
fn all_there(folder: &Path, db: DB, remedy: &'static str) -> Result<DB> {
    // A compaction may already be at work, and would remove files between the question and the look.
    db.disable_file_deletions().map_err(|e| on_open(folder, &e, remedy))?;
    let files = db.live_files().map_err(|e| on_open(folder, &e, remedy))?;
    for file in files {
        let path = folder.join(file.name.trim_start_matches('/'));
        let problem = match fs::metadata(&path) {
            Ok(found) if found.len() == file.size as u64 => continue,
            Ok(found) => format!("{} bytes instead of {}", found.len(), file.size),
            Err(e) if e.kind() == io::ErrorKind::NotFound => "the file is missing".to_owned(),
            Err(e) => return Err(StorageError::io(&path, "read the size of", e)),
        };
        return Err(StorageError::damaged(&path, problem, remedy));
    }
    db.enable_file_deletions().map_err(|e| on_open(folder, &e, remedy))?;
    Ok(db)
}

/// Returns the file that RocksDB names in its message, or else the database's folder.
fn named_file(folder: &Path, message: &str) -> PathBuf {
    let punctuation = |c| matches!(c, ':' | ',' | '"' | '\'' | '(' | ')');
    let inside = |w: &&str| Path::new(w).starts_with(folder) && Path::new(w) != folder;
    let named = message
        .split_whitespace()
        .map(|w| w.trim_matches(punctuation))
        .rfind(inside);
    named.map_or_else(|| folder.to_owned(), PathBuf::from)
}

/// Whether RocksDB found wrong bytes, or misses a file, as opposed to a disk that is full or fails.
fn is_damage(e: &rocksdb::Error, message: &str) -> bool {
    e.kind() == ErrorKind::Corruption || message.contains("No such file")
}

/// An error while reading or writing an open database.
pub(crate) fn on_use(folder: &Path, action: &'static str, e: &rocksdb::Error, remedy: &'static str) -> StorageError {
    let message = e.to_string();
    if is_damage(e, &message) {
        return StorageError::damaged(&named_file(folder, &message), message, remedy);
    }
    StorageError::Database {
        path: folder.to_owned(),
        action,
        problem: message,
    }
}

/// An error while opening a database. What RocksDB refuses here, other than for want of room or access, is damage.
fn on_open(folder: &Path, e: &rocksdb::Error, remedy: &'static str) -> StorageError {
    let message = e.to_string();
    match e.kind() {
        _ if is_damage(e, &message) => StorageError::damaged(&named_file(folder, &message), message, remedy),
        ErrorKind::IOError if message.contains("lock") => StorageError::InUse {
            path: folder.to_owned(),
        },
        ErrorKind::IOError | ErrorKind::NotSupported => StorageError::Database {
            path: folder.to_owned(),
            action: "open database",
            problem: message,
        },
        _ => StorageError::damaged(&named_file(folder, &message), message, remedy),
    }
}
