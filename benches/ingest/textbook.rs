//! The baseline of the store: every commit one `WriteBatch` with a sync of the write-ahead log, bodies in BlobDB.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use aigaq::error::{Context as _, Kind, Result};
use aigaq::store::Store;
use aigaq::store::engine::{Batch, Direction, Engine, Entry, Family, NewBody, Space};
use aigaq::store::records::FootageKey;
use bytes::Bytes;
use rocksdb::{DB, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions};

const BODIES: &str = "bodies";
const ROOM: Space = Space { free: u64::MAX, total: u64::MAX };

/// The engine of the baseline.
pub struct Textbook {
    db: DB,
}

impl Textbook {
    /// A store on this engine.
    pub fn store(dir: &Path) -> Store {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let mut blobs = Options::default();
        blobs.set_enable_blob_files(true);
        blobs.set_min_blob_size(4 * 1024);
        let of = |family: &Family| {
            let mut options = Options::default();
            if family.is_appended() {
                options.set_merge_operator_associative("append", |_, before, added| {
                    Some([before.unwrap_or_default()].into_iter().chain(added).flatten().copied().collect())
                });
            }
            (family.name(), options)
        };
        let families = Family::ALL.iter().map(of).chain([(BODIES, blobs)]);
        let db = DB::open_cf_with_opts(&options, dir, families).unwrap();
        Store::with_engine(Arc::new(Self { db })).unwrap()
    }

    fn family(&self, name: &str) -> &rocksdb::ColumnFamily {
        self.db.cf_handle(name).unwrap()
    }
}

fn body_key(key: FootageKey) -> Vec<u8> {
    [&key.day.to_be_bytes()[..], &key.commit.to_be_bytes(), &key.index.to_be_bytes()].concat()
}

impl Engine for Textbook {
    fn commit(&self, bodies: &[NewBody], batch: &Batch) -> Result<()> {
        let mut writes = WriteBatch::default();
        for body in bodies {
            writes.put_cf(self.family(BODIES), body_key(body.key), &body.bytes);
        }
        for (family, key, value) in &batch.puts {
            writes.put_cf(self.family(family.name()), key, value);
        }
        for (family, key, bytes) in &batch.appends {
            writes.merge_cf(self.family(family.name()), key, bytes);
        }
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        self.db.write_opt(writes, &durable).context(Kind::Fatal, "cannot write")
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get_cf(self.family(family.name()), key).context(Kind::Damaged, "cannot read")
    }

    fn scan<'a>(
        &'a self,
        family: Family,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Entry>> + 'a> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(range);
        let mode = match direction {
            Direction::Forward => IteratorMode::Start,
            Direction::Backward => IteratorMode::End,
        };
        let entries = self.db.iterator_cf_opt(self.family(family.name()), options, mode);
        Box::new(entries.map(|entry| entry.context(Kind::Damaged, "cannot read")))
    }

    fn body(&self, key: FootageKey) -> Result<Option<Bytes>> {
        let found = self.db.get_cf(self.family(BODIES), body_key(key)).context(Kind::Damaged, "cannot read")?;
        Ok(found.map(Bytes::from))
    }

    fn bodies<'a>(&'a self) -> Box<dyn Iterator<Item = Result<(FootageKey, Bytes)>> + 'a> {
        Box::new(std::iter::empty())
    }

    fn sweep_after(&self, _last: u64) -> Result<bool> {
        Ok(false)
    }

    fn forget(&self, _family: Family, _keys: &[Vec<u8>]) -> Result<()> {
        Ok(())
    }

    fn drop_days_before(&self, _day: u32) -> Result<()> {
        Ok(())
    }

    fn space(&self) -> Result<Space> {
        Ok(ROOM)
    }

    fn healthy(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.db.flush_wal(true).context(Kind::Fatal, "cannot sync")
    }
}
