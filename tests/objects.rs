//! The engine on an object store where it goes wrong: writers that were taken for dead, stores that stall, lose answers or ignore
//! conditions, and what a commit that was cut off leaves behind. What it has in common with every engine is in `tests/engine.rs`.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/seaweed.rs"]
mod seaweed;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aigaq::store::engine::slate::probe::probe;
use aigaq::store::engine::slate::{Settings, Slate};
use aigaq::store::engine::{Batch, Engine, Family, NewBody};
use aigaq::store::records::FootageKey;
use aigaq::{Clock, Kind};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// An object store in memory with the faults that tests ask for.
#[derive(Debug, Clone, Default)]
struct Faulty {
    inner: Arc<InMemory>,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Conditions of puts are ignored.
    is_credulous: AtomicBool,
    /// Nobody may put.
    is_read_only: AtomicBool,
    /// No put is ever answered.
    stalls: AtomicBool,
    /// So many puts of packs fail as a store does that is overloaded.
    failing: AtomicU32,
    /// So many puts of packs are applied, and answered as if something had been there.
    denied: AtomicU32,
    /// … and so many are applied and the answer is lost.
    lost: AtomicU32,
    /// Puts of packs that were begun.
    packs: AtomicU32,
}

impl Faulty {
    fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.clone())
    }

    fn open(&self) -> aigaq::Result<Slate> {
        Slate::open(self.store(), "store", settings())
    }
}

fn settings() -> Settings {
    Settings {
        flush_interval: Duration::from_millis(10),
        commit_deadline: Duration::from_secs(3),
        ..Settings::default()
    }
}

/// Takes one of what is left.
fn take(of: &AtomicU32) -> bool {
    of.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn broken(text: &str) -> object_store::Error {
    object_store::Error::Generic { store: "Faulty", source: text.to_owned().into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a faulty object store")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let faults = &self.faults;
        if faults.stalls.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if faults.is_read_only.load(Ordering::SeqCst) {
            return Err(object_store::Error::PermissionDenied { path: at.to_string(), source: "read only".into() });
        }
        if faults.is_credulous.load(Ordering::SeqCst) {
            options.mode = PutMode::Overwrite;
        }
        let is_pack = at.as_ref().contains("/packs/");
        faults.packs.fetch_add(u32::from(is_pack), Ordering::SeqCst);
        if is_pack && take(&faults.failing) {
            return Err(broken("503 SlowDown"));
        }
        let put = self.inner.put_opts(at, payload, options).await;
        if is_pack && take(&faults.denied) {
            return Err(object_store::Error::AlreadyExists { path: at.to_string(), source: "412".into() });
        }
        if is_pack && take(&faults.lost) {
            return Err(broken("the connection was reset"));
        }
        put
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn key(day: u32, commit: u64, index: u32) -> FootageKey {
    FootageKey { day, commit, index }
}

fn body(key: FootageKey, length: usize) -> NewBody {
    let first = key.commit as u8 ^ key.index as u8;
    NewBody { key, bytes: (0..length).map(|at| first.wrapping_add(at as u8)).collect() }
}

fn link(number: u64) -> Batch {
    let mut batch = Batch::default();
    batch.put(Family::Links, number.to_be_bytes(), b"link");
    batch
}

/// The names of the packs that there are.
fn packs(store: &Faulty) -> Vec<String> {
    let all = store.inner.list(Some(&Path::from("store/packs"))).map_ok(|object| object.location.to_string());
    let mut all: Vec<_> = futures_util::FutureExt::now_or_never(all.try_collect::<Vec<_>>()).unwrap().unwrap();
    all.sort();
    all
}

#[test]
fn one_commit_of_many_recorders_is_few_packs_and_each_body_is_a_range_of_one() {
    let store = Faulty::default();
    let engine = store.open().unwrap();
    let bodies: Vec<_> = (0..40).map(|index| body(key(7 + index / 30, 1, index), 512 << 10)).collect();
    engine.commit(&bodies, &link(1)).unwrap();
    // 15 MiB of one day and 5 MiB of another.
    assert_eq!(packs(&store).len(), 3, "{:?}", packs(&store));
    for body in &bodies {
        assert_eq!(engine.body(body.key).unwrap().as_ref(), Some(&body.bytes), "{:?}", body.key);
    }
    engine.drop_days_before(8).unwrap();
    assert_eq!(packs(&store).len(), 1, "a day goes pack by pack");
    assert_eq!(engine.body(key(7, 1, 0)).unwrap(), None);
    assert!(engine.body(key(8, 1, 39)).unwrap().is_some());
}

#[test]
fn an_empty_body_and_one_larger_than_a_pack_are_bodies_like_any_other() {
    let engine = Faulty::default().open().unwrap();
    let bodies = [body(key(7, 1, 0), 0), body(key(7, 1, 1), 20 << 20), body(key(7, 1, 2), 1), body(key(7, 1, 3), 0)];
    engine.commit(&bodies, &link(1)).unwrap();
    for body in &bodies {
        assert_eq!(engine.body(body.key).unwrap().as_ref(), Some(&body.bytes), "{:?}", body.key);
    }
    let all: Vec<_> = engine.bodies().map(|entry| entry.unwrap().1.len()).collect();
    assert_eq!(all, [0, 20 << 20, 1, 0]);
}

#[test]
fn who_opens_a_store_fences_who_had_it_and_that_one_acknowledges_nothing_more() {
    let store = Faulty::default();
    let first = store.open().unwrap();
    first.commit(&[body(key(7, 1, 0), 100)], &link(1)).unwrap();
    let second = store.open().unwrap();
    // The first has not noticed yet: its pack may land, its rows may not.
    let refused = first.commit(&[body(key(7, 2, 0), 100)], &link(2)).unwrap_err();
    assert_eq!(refused.kind(), Kind::Fatal, "{refused}");
    assert_eq!(first.healthy().unwrap_err().kind(), Kind::Fatal);
    assert_eq!(first.commit(&[], &link(3)).unwrap_err().kind(), Kind::Fatal);
    assert_eq!(second.get(Family::Links, &2_u64.to_be_bytes()).unwrap(), None);
    assert_eq!(second.body(key(7, 2, 0)).unwrap(), None);
    // The same number again, by the one whose turn it is: other bytes under the same key, and nobody's are mixed up.
    let mine = NewBody { key: key(7, 2, 0), bytes: Bytes::from_static(b"of the second") };
    second.commit(std::slice::from_ref(&mine), &link(2)).unwrap();
    assert_eq!(second.body(mine.key).unwrap(), Some(mine.bytes));
}

#[test]
fn a_writer_that_sleeps_and_is_fenced_meanwhile_is_told_so_before_it_writes() {
    let store = Faulty::default();
    let first = store.open().unwrap();
    first.commit(&[], &link(1)).unwrap();
    let second = store.open().unwrap();
    second.commit(&[], &link(2)).unwrap();
    // The ledger asks for news of itself every second.
    let until = Instant::now() + Duration::from_secs(20);
    while first.healthy().is_ok() {
        assert!(Instant::now() < until, "a fenced writer does not notice");
        let _ = first.get(Family::Links, b"");
    }
    assert!(first.healthy().unwrap_err().context().contains("another process has opened this store"));
    second.healthy().unwrap();
}

#[test]
fn a_commit_that_the_store_never_answers_ends_in_time_and_is_never_acknowledged() {
    let store = Faulty::default();
    let engine = store.open().unwrap();
    engine.commit(&[], &link(1)).unwrap();
    store.faults.stalls.store(true, Ordering::SeqCst);
    for bodies in [vec![body(key(7, 2, 0), 100)], Vec::new()] {
        let began = Instant::now();
        assert_eq!(engine.commit(&bodies, &link(2)).unwrap_err().kind(), Kind::Fatal);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    store.faults.stalls.store(false, Ordering::SeqCst);
    assert_eq!(engine.commit(&[], &link(3)).unwrap_err().kind(), Kind::Fatal, "it never comes back to life");
    drop(engine);
    let engine = store.open().unwrap();
    assert!(engine.get(Family::Links, &1_u64.to_be_bytes()).unwrap().is_some());
    engine.commit(&[], &link(4)).unwrap();
}

#[test]
fn a_rows_only_commit_that_the_store_never_answers_is_never_acknowledged_either() {
    let store = Faulty::default();
    let engine = store.open().unwrap();
    store.faults.stalls.store(true, Ordering::SeqCst);
    assert_eq!(engine.commit(&[], &link(1)).unwrap_err().kind(), Kind::Fatal);
    assert_eq!(
        engine.get(Family::Links, &1_u64.to_be_bytes()).unwrap_or(None),
        None,
        "what is not durable is not shown"
    );
}

#[test]
fn a_pack_is_tried_again_and_an_answer_that_was_lost_is_no_conflict() {
    let store = Faulty::default();
    let engine = store.open().unwrap();
    store.faults.failing.store(2, Ordering::SeqCst);
    engine.commit(&[body(key(7, 1, 0), 1_000)], &link(1)).unwrap();
    assert_eq!(store.faults.packs.load(Ordering::SeqCst), 3, "two attempts failed");
    store.faults.denied.store(1, Ordering::SeqCst);
    engine.commit(&[body(key(7, 2, 0), 1_000), body(key(7, 2, 1), 9)], &link(2)).unwrap();
    store.faults.lost.store(1, Ordering::SeqCst);
    engine.commit(&[body(key(7, 3, 0), 1_000)], &link(3)).unwrap();
    assert_eq!(packs(&store).len(), 3, "none is there twice");
    for number in 1..=3 {
        assert_eq!(engine.body(key(7, number, 0)).unwrap(), Some(body(key(7, number, 0), 1_000).bytes));
    }
}

#[test]
fn packs_that_no_row_names_are_swept_at_open_and_those_of_later_goings_on_are_not() {
    let store = Faulty::default();
    let engine = store.open().unwrap();
    for number in 1..=3 {
        engine.commit(&[body(key(7, number, 0), 100), body(key(8, number, 1), 100)], &link(number)).unwrap();
    }
    let whole = packs(&store);
    for orphan in
        ["00000007/0000000000000004-00000000-00000000000000aa", "00000009/00000000000000ff-00000002-00000000000000ab"]
    {
        let at = Path::from(format!("store/packs/{orphan}"));
        let put = store.inner.put_opts(&at, "half".into(), PutOptions::default());
        futures_util::FutureExt::now_or_never(put).unwrap().unwrap();
    }
    assert!(engine.sweep_after(3).unwrap());
    assert_eq!(packs(&store), whole);
    assert!(!engine.sweep_after(3).unwrap());
}

#[test]
fn a_pack_that_is_missing_short_or_changed_is_damage_and_never_other_bytes() {
    let store = Faulty::default();
    let engine = store.open().unwrap();
    engine.commit(&[body(key(7, 1, 0), 300), body(key(7, 1, 1), 300)], &link(1)).unwrap();
    let (at, good) =
        (Path::from(packs(&store).remove(0)), [body(key(7, 1, 0), 300).bytes, body(key(7, 1, 1), 300).bytes].concat());
    let set = |bytes: Vec<u8>| {
        let put = store.inner.put_opts(&at, bytes.into(), PutOptions::default());
        futures_util::FutureExt::now_or_never(put).unwrap().unwrap();
    };
    let second = || engine.body(key(7, 1, 1));
    let mut bad = good.clone();
    bad[450] ^= 1;
    for wrong in [bad, good[..500].to_vec(), Vec::new()] {
        set(wrong);
        let refused = second().unwrap_err();
        assert!(matches!(refused.kind(), Kind::Damaged | Kind::Busy), "{refused}");
        assert!(engine.bodies().any(|entry| entry.is_err()));
    }
    let gone = store.inner.delete_stream(futures_util::stream::iter([Ok(at.clone())]).boxed());
    futures_util::FutureExt::now_or_never(gone.try_collect::<Vec<_>>()).unwrap().unwrap();
    assert_eq!(second().unwrap_err().kind(), Kind::Damaged);
    set(good);
    assert_eq!(second().unwrap(), Some(body(key(7, 1, 1), 300).bytes));
}

#[test]
fn a_long_scan_comes_whole_and_in_order_both_ways() {
    use aigaq::store::engine::Direction;
    let engine = Faulty::default().open().unwrap();
    let mut batch = Batch::default();
    (0..5_000_u32).for_each(|number| batch.put(Family::Timeline, number.to_be_bytes(), vec![7; 3_000]));
    engine.commit(&[], &batch).unwrap();
    engine.settle().unwrap();
    for direction in [Direction::Forward, Direction::Backward] {
        let found: Vec<u32> = engine
            .scan(Family::Timeline, aigaq::store::keys::everything(), direction)
            .map(|entry| u32::from_be_bytes(entry.unwrap().0.as_ref().try_into().unwrap()))
            .collect();
        let mut expected: Vec<u32> = (0..5_000).collect();
        if direction == Direction::Backward {
            expected.reverse();
        }
        assert!(found == expected, "{direction:?}: {} entries", found.len());
    }
}

#[test]
fn a_store_that_is_fit_is_found_fit_and_nothing_stays_behind() {
    let store = Faulty::default();
    let fit = probe(&store.store(), "store", &Clock::system()).unwrap();
    assert_eq!((fit.races, fit.racers), (8, 16));
    let left = futures_util::FutureExt::now_or_never(store.inner.list(None).try_collect::<Vec<_>>()).unwrap().unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_store_that_ignores_conditions_is_refused_in_one_line_that_says_so() {
    let store = Faulty::default();
    store.faults.is_credulous.store(true, Ordering::SeqCst);
    let refused = probe(&store.store(), "store", &Clock::system()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    let line = refused.to_string();
    assert!(line.contains("does not keep create-if-absent: 16 of 16"), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn a_bucket_that_may_not_be_written_and_a_clock_that_is_off_are_refused() {
    let store = Faulty::default();
    store.faults.is_read_only.store(true, Ordering::SeqCst);
    let refused = probe(&store.store(), "store", &Clock::system()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    assert!(refused.to_string().contains("may not be read and written"), "{refused}");
    store.faults.is_read_only.store(false, Ordering::SeqCst);
    for off_s in [-90_i64, 90] {
        let clock = Clock::fixed(Clock::system().now().checked_add_signed(off_s * 1_000_000).unwrap());
        let refused = probe(&store.store(), "store", &clock).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid);
        assert!(refused.to_string().contains("clocks"), "{refused}");
    }
}

#[test]
fn seaweedfs_is_fit_for_who_may_write_and_refused_for_who_may_not() {
    let Some(seaweed) = seaweed::seaweed() else { return };
    let place = seaweed.place();
    let fit = probe(&place.connect().unwrap(), &place.prefix, &Clock::system()).unwrap();
    println!("SeaweedFS: {fit:?}");
    let reader = seaweed.read_only();
    let refused = probe(&reader.connect().unwrap(), &reader.prefix, &Clock::system()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid, "{refused}");
}
