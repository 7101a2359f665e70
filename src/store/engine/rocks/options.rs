//! How RocksDB is set up: the options of the database and of its column families, each with its reason.
//!
//! Two families hold footage. `footage` takes ingested files alone; `trickle` takes what small commits bring through the write-ahead
//! log. In one family the flushed files of small commits would span the ingested ones and compaction would rewrite both; apart,
//! the keys of each only rise, its files never overlap, and compaction only moves them. Nothing consolidates them either: an
//! ingested file has at least `ingest_bytes_min` and a flushed one about [`TRICKLE_BUFFER_BYTES`], so that idle hours make few.

use rocksdb::{
    BlockBasedOptions, Cache, ChecksumType, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
    MergeOperands, Options, ReadOptions, WriteOptions,
};

use crate::error::{Context, Kind, Result};
use crate::store::Settings;
use crate::store::engine::Family;

/// Name of the family of ingested bodies.
pub(super) const FOOTAGE: &str = "footage";
/// Name of the family of bodies that came through the write-ahead log.
pub(super) const TRICKLE: &str = "trickle";

/// Bodies of small commits gathered in memory before they become a file.
const TRICKLE_BUFFER_BYTES: usize = 16 << 20;
/// The same for the busy families of the ledger, and for the others.
const LEDGER_BUFFER_BYTES: usize = 16 << 20;
const QUIET_BUFFER_BYTES: usize = 4 << 20;
/// What a family of the ledger takes of the memory at a time: by default an eighth of its buffer, which four dozen families would take for
/// a row each.
const LEDGER_BLOCK_BYTES: usize = 256 << 10;
const QUIET_BLOCK_BYTES: usize = 64 << 10;
/// All of these together: the fullest is flushed first. A buffer of bodies that fills while another is on its way to the disk, and a share for
/// the ledger.
const BUFFERS_BYTES_MAX: usize = 40 << 20;
/// Blocks of what is sought at many places for one answer.
const SOUGHT_BLOCK_BYTES: usize = 4 << 10;
/// What is replayed at open at most, bytes: it bounds the time to open after a kill, and stays below the reserve of free room.
const WAL_BYTES_MAX: u64 = 128 << 20;
const MANIFEST_BYTES_MAX: usize = 64 << 20;
/// Flushes and compactions at once: two cores, and the writer needs one of them.
const BACKGROUND_JOBS: i32 = 2;
/// Files of level 0 before writes are slowed and stopped: moving them costs next to nothing, so there is room for a burst.
const LEVEL_ZERO_SLOWDOWN: i32 = 64;
const LEVEL_ZERO_STOP: i32 = 128;

/// Options for which the bindings have no setter: background errors are never resumed from, since a resumed database has been seen to
/// claim success and fail again; the store is reopened instead.
const DATABASE_TEXT: &str = "max_bgerror_resume_count=0";
/// The same for a family: read back what was flushed or compacted, and keep a checksum of each key and value in memory.
const FAMILY_TEXT: &str = "paranoid_file_checks=true;memtable_protection_bytes_per_key=8";

/// Options of the whole database.
pub(super) fn database(settings: &Settings) -> Result<Options> {
    let mut options = Options::default()
        .get_options_from_string(DATABASE_TEXT)
        .context(Kind::Internal, "RocksDB does not take the options of the database")?;
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_recycle_log_file_num(0);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_db_write_buffer_size(BUFFERS_BYTES_MAX);
    options.set_max_manifest_file_size(MANIFEST_BYTES_MAX);
    options.set_manual_wal_flush(false);
    options.set_use_fsync(false);
    options.set_bytes_per_sync(1 << 20);
    options.set_wal_bytes_per_sync(512 << 10);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_open_files(i32::try_from(settings.open_files_max).unwrap_or(i32::MAX));
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(4 << 20);
    options.set_keep_log_file_num(4);
    Ok(options)
}

/// Options of every family that holds files.
fn family() -> Result<Options> {
    let mut options = Options::default()
        .get_options_from_string(FAMILY_TEXT)
        .context(Kind::Internal, "RocksDB does not take the options of a family")?;
    options.set_level_zero_slowdown_writes_trigger(LEVEL_ZERO_SLOWDOWN);
    options.set_level_zero_stop_writes_trigger(LEVEL_ZERO_STOP);
    options.set_max_write_buffer_number(4);
    options.set_ttl(0);
    options.set_periodic_compaction_seconds(0);
    Ok(options)
}

fn blocks() -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_format_version(6);
    blocks.set_checksum_type(ChecksumType::XXH3);
    blocks
}

/// Options of the two families of footage: two levels, since the files of a level never overlap; no compression, since media
/// is compressed; no filter and no cache, since a body is read by its exact key, once, and is larger than a block.
pub(super) fn footage() -> Result<Options> {
    let mut blocks = blocks();
    blocks.set_block_size(16 << 10);
    blocks.disable_cache();
    let mut options = family()?;
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options.set_num_levels(2);
    options.set_level_compaction_dynamic_level_bytes(false);
    options.set_write_buffer_size(TRICKLE_BUFFER_BYTES);
    options.set_target_file_size_base(64 << 20);
    options.set_bytes_per_sync(1 << 20);
    options.set_soft_pending_compaction_bytes_limit(0);
    options.set_hard_pending_compaction_bytes_limit(0);
    Ok(options)
}

/// Whether finding footage goes to many places of a family for one answer, with a few rows at each: then a block holds few more than those, and
/// what is in memory of each file to find its blocks is about a hundredth of it.
const fn is_sought(family: Family) -> bool {
    matches!(
        family,
        Family::Slots
            | Family::Runs
            | Family::Presence
            | Family::Marked
            | Family::Categories
            | Family::Assignments
            | Family::Assignees
    )
}

/// Options of a family of the ledger. No filter: keys are asked for only where the heads say that they exist.
fn ledger(family_of: Family, cache: &Cache) -> Result<Options> {
    let mut blocks = blocks();
    blocks.set_block_size(if is_sought(family_of) { SOUGHT_BLOCK_BYTES } else { 16 << 10 });
    blocks.set_block_cache(cache);
    let mut options = family()?;
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    if family_of.is_appended() {
        options.set_merge_operator_associative(APPEND, append);
    }
    let is_busy = matches!(
        family_of,
        Family::Links | Family::Timeline | Family::Tiles | Family::Expiry | Family::Runs | Family::Presence
    );
    let (buffer, block) =
        if is_busy { (LEDGER_BUFFER_BYTES, LEDGER_BLOCK_BYTES) } else { (QUIET_BUFFER_BYTES, QUIET_BLOCK_BYTES) };
    options.set_write_buffer_size(buffer);
    options.set_arena_block_size(block);
    Ok(options)
}

/// Name of the merge operator: files remember it.
const APPEND: &str = "aigaq.append";

/// What was there and what is added to it, in order.
fn append(_key: &[u8], before: Option<&[u8]>, added: &MergeOperands) -> Option<Vec<u8>> {
    let mut value = before.unwrap_or_default().to_vec();
    added.iter().for_each(|bytes| value.extend_from_slice(bytes));
    Some(value)
}

/// Every family of the database.
pub(super) fn families(settings: &Settings) -> Result<Vec<ColumnFamilyDescriptor>> {
    let cache = Cache::new_lru_cache(settings.cache_bytes);
    let mut families = vec![
        ColumnFamilyDescriptor::new("default", family()?),
        ColumnFamilyDescriptor::new(FOOTAGE, footage()?),
        ColumnFamilyDescriptor::new(TRICKLE, footage()?),
    ];
    for family in Family::ALL {
        families.push(ColumnFamilyDescriptor::new(family.name(), ledger(family, &cache)?));
    }
    Ok(families)
}

/// A write is durable when it returns.
pub(super) fn durable() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

/// Every block that is read is checked.
pub(super) fn read() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options
}
