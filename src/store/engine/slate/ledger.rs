//! The ledger in SlateDB: the one place that holds its handle, so that no write comes past [`Ledger::write`].
//!
//! Promises: a write returns when its batch is durable in the object store and not before; a read sees nothing that is not. What is
//! collected as garbage is at least an hour old, and what fences a writer that was taken for dead is kept for ever: such a writer may wake
//! after any time.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use object_store::ObjectStore;
use object_store::path::Path;
use slatedb::config::{
    CompactorOptions, DurabilityLevel, FlushOptions, FlushType, GarbageCollectorDirectoryOptions,
    GarbageCollectorOptions, ReadOptions, ScanOptions,
};
use slatedb::db_cache::moka::{MokaCache, MokaCacheOptions};
use slatedb::{CloseReason, Db, DbIterator, DbStatus, IterationOrder, MergeOperator, MergeOperatorError, WriteBatch};
use tokio::sync::watch;

use super::Settings;
use crate::error::{Error, Kind, Result};

/// Memory that is gathered before it is written out as a table, bytes.
const TABLE_BYTES: usize = 16 << 20;
/// What is not yet in tables at most, bytes; then writers wait.
const UNFLUSHED_BYTES_MAX: usize = 128 << 20;
/// Attempts beyond the first for each request, up to a second apart.
const RETRIES_MAX: u32 = 40;
/// What no manifest names is collected after this.
const GARBAGE_AGE_MIN: Duration = Duration::from_secs(2 * 60 * 60);
/// A scan fetches this much at once, bytes.
const READ_AHEAD_BYTES: usize = 256 << 10;
/// One chunk of a scan holds about this much at most, bytes.
const CHUNK_BYTES_MAX: usize = 4 << 20;

/// The handle. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ledger {
    db: Arc<Db>,
    status: watch::Receiver<DbStatus>,
}

impl Ledger {
    /// Opens it and fences whoever has it open.
    pub(super) async fn open(
        objects: Arc<dyn ObjectStore>,
        path: Path,
        settings: Settings,
    ) -> Result<Self, slatedb::Error> {
        let cache = MokaCache::new_with_opts(MokaCacheOptions {
            max_capacity: settings.cache_bytes as u64,
            ..MokaCacheOptions::default()
        });
        let db = Db::builder(path, objects)
            .with_settings(options(settings.flush_interval))
            .with_db_cache(Arc::new(cache), 0)
            .with_merge_operator(Arc::new(Append))
            .build()
            .await?;
        Ok(Self { status: db.subscribe(), db: Arc::new(db) })
    }

    /// Writes the batch; durable on return.
    pub(super) async fn write(&self, batch: WriteBatch) -> Result<(), slatedb::Error> {
        self.db.write(batch).await?.await_durable().await
    }

    pub(super) async fn get(&self, row: &[u8]) -> Result<Option<Bytes>> {
        let how = ReadOptions::new().with_durability_filter(DurabilityLevel::Remote);
        self.db.get_with_options(row, &how).await.map_err(|error| read_error(&error))
    }

    /// The rows in `range` as of now.
    pub(super) async fn scan(&self, range: Range<Vec<u8>>, order: IterationOrder) -> Result<Rows> {
        let how = ScanOptions {
            durability_filter: DurabilityLevel::Remote,
            read_ahead_bytes: READ_AHEAD_BYTES,
            cache_blocks: true,
            max_fetch_tasks: 2,
            order,
            ..ScanOptions::default()
        };
        let iterator = self.db.scan_with_options(range, &how).await.map_err(|error| read_error(&error))?;
        Ok(Rows { iterator, is_cut: false })
    }

    /// Writes out as tables what is in the write-ahead log, so that the next opening has little to replay.
    pub(super) async fn settle(&self) -> Result<(), slatedb::Error> {
        self.db.flush_with_options(FlushOptions { flush_type: FlushType::MemTable }).await
    }

    /// Why it takes no more writes, if it does not.
    pub(super) fn ended(&self) -> Option<CloseReason> {
        self.status.borrow().close_reason
    }
}

/// Rows that are being read.
pub(super) struct Rows {
    iterator: DbIterator,
    /// The last chunk was full of bytes before it was full of rows.
    is_cut: bool,
}

impl Rows {
    /// The next rows, at most `count`.
    pub(super) async fn next(&mut self, count: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        self.is_cut = false;
        while rows.len() < count {
            let Some(row) = self.iterator.next().await.map_err(|error| read_error(&error))? else { break };
            bytes += row.key.len() + row.value.len();
            rows.push((row.key, row.value));
            if bytes >= CHUNK_BYTES_MAX {
                self.is_cut = true;
                break;
            }
        }
        Ok(rows)
    }

    /// Whether the last chunk may be short of rows although there are more.
    pub(super) fn has_more(&self) -> bool {
        self.is_cut
    }
}

fn options(flush_interval: Duration) -> slatedb::Settings {
    let old = || {
        let of = GarbageCollectorDirectoryOptions::default();
        Some(GarbageCollectorDirectoryOptions { min_age: GARBAGE_AGE_MIN, ..of })
    };
    slatedb::Settings {
        flush_interval: Some(flush_interval),
        manifest_update_timeout: Duration::from_secs(60),
        l0_sst_size_bytes: TABLE_BYTES,
        max_unflushed_bytes: UNFLUSHED_BYTES_MAX,
        compactor_options: Some(CompactorOptions::default()),
        garbage_collector_options: Some(GarbageCollectorOptions {
            manifest_options: old(),
            wal_options: old(),
            wal_fence_options: None,
            compacted_options: old(),
            compactions_options: old(),
            ..GarbageCollectorOptions::default()
        }),
        object_store_max_retries: Some(RETRIES_MAX),
        ..slatedb::Settings::default()
    }
}

/// An error of a read: bytes that cannot be trusted, or a store that does not answer.
fn read_error(error: &slatedb::Error) -> Error {
    let (kind, text) = match error.kind() {
        slatedb::ErrorKind::Unavailable => (Kind::Busy, "the object store does not answer"),
        slatedb::ErrorKind::Closed(_) => (Kind::Fatal, "the ledger is closed"),
        slatedb::ErrorKind::Data => (Kind::Damaged, "cannot read the ledger"),
        _ => (Kind::Internal, "cannot read the ledger"),
    };
    Error::new(kind, text).because(error.to_string())
}

/// Values that are appended to: what is added comes at the end.
struct Append;

impl MergeOperator for Append {
    fn merge(&self, key: &Bytes, existing: Option<Bytes>, added: Bytes) -> Result<Bytes, MergeOperatorError> {
        self.merge_batch(key, existing, &[added])
    }

    fn merge_batch(&self, _key: &Bytes, existing: Option<Bytes>, added: &[Bytes]) -> Result<Bytes, MergeOperatorError> {
        let mut all = BytesMut::from(existing.as_deref().unwrap_or_default());
        added.iter().for_each(|bytes| all.extend_from_slice(bytes));
        Ok(all.freeze())
    }
}
