//! One flipped bit anywhere on disk: it is noticed, or it changes nothing. Never other bytes, never fewer, never a hang.
//!
//! A data directory is made by the real parts: an enrolled recorder, the commit queue, the log, a store on disk with small
//! commits and ingested ones. Once it is stopped cleanly, so that all lies in tables; once it is copied while it is
//! open, as a kill leaves it, so that most lies in the write-ahead log. Then every file gets some flips, one at a time, drawn
//! from a pinned seed; `aigaq check` and the opening of the server judge each.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use aigaq::check::Report;
use aigaq::commit::{self, Outcome, Queue, Submission};
use aigaq::enrol::Registry;
use aigaq::log::{Identity as LogIdentity, Log};
use aigaq::store::records::{AuditRecord, Event};
use aigaq::store::{self, Store};
use aigaq::{Clock, check};
use aigaq_proto::{Digest, RecorderId, Sequence};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use support::Identity;
use support::chain::{Chain, Link};
use tokio::sync::oneshot;

/// Links that are committed one by one, and those of them with a body that is ingested.
const LINKS: u64 = 60;
const BIG_EVERY: u64 = 12;
const BIG_BYTES: usize = 80 << 10;
/// No flip may keep anybody busy for longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// What was promised: each link with its digest and its payload.
type Promised = BTreeMap<(RecorderId, Sequence), (Digest, Bytes)>;

/// A data directory at rest, and what must be in it.
struct Data {
    home: tempfile::TempDir,
    promised: Promised,
    sound: Report,
}

fn settings() -> store::Settings {
    store::Settings { ingest_bytes_min: 64 << 10, ..store::Settings::default() }
}

async fn send(queue: &Queue, clock: &Clock, link: Link) {
    let (reply, answer) = oneshot::channel();
    let submission = Submission {
        actual: (Digest::of(&link.payload), link.payload.len() as u64),
        header: link.header,
        header_bytes: Bytes::from(link.header_bytes),
        digest: link.digest,
        signature: link.signature,
        payload: link.payload,
        received_at: clock.now(),
        clock: None,
        fault: None,
        permit: None,
        reply,
    };
    queue.submit(submission).await.unwrap();
    assert!(matches!(answer.await.unwrap(), Outcome::Receipt(_)));
}

/// Makes the directory; `stop` says whether it is stopped cleanly or copied while it is open.
async fn made(stop: bool) -> Data {
    let home = tempfile::tempdir().unwrap();
    let live = home.path().join("live");
    fs::create_dir(&live).unwrap();
    let devices = ["a", "b"].map(|name| Identity::enrol(&live, &home.path().join(name)));
    let store = Store::open(&live.join("store"), &settings()).unwrap();
    Registry::open(store.clone(), &live, Clock::system()).unwrap();
    let log = Log::open(store.clone(), LogIdentity::load_or_create(&live).unwrap(), Some(&live)).unwrap();
    let clock = Clock::system();
    let metrics = commit::Metrics::register(&prometheus::Registry::new()).unwrap();
    let of_writer = commit::Settings { bulk_bytes: 64 << 10, ..commit::Settings::default() };
    let (queue, mut writer) = commit::start(store.clone(), log, of_writer, clock.clone(), metrics).unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let mut chains = devices.each_ref().map(|device| Chain::new(device.id, clock.now()));
    let mut promised = Promised::new();
    for number in 0..LINKS {
        let at = (number % 2) as usize;
        let (device, chain) = (&devices[at], &mut chains[at]);
        let mut payload = vec![0; if number % BIG_EVERY == 5 { BIG_BYTES } else { 700 }];
        random.fill_bytes(&mut payload);
        let link = match number / 2 {
            0 => chain.start(&device.signing),
            10 | 20 => chain.mark(&device.signing, "insult"),
            _ => chain.media(&device.signing, payload.into()),
        };
        promised.insert((device.id, link.header.sequence), (link.digest, link.payload.clone()));
        send(&queue, &clock, link).await;
        let entry = AuditRecord::new(clock.now(), Event::LookUp, "token", "::1", format!("GET /{number}"));
        store.audit(&entry).unwrap();
    }
    if !stop {
        copy(&live, &home.path().join("killed"));
    }
    drop(queue);
    writer.close();
    writer.wait().await.unwrap();
    store.close().unwrap();
    drop((store, writer));
    fs::rename(if stop { live } else { home.path().join("killed") }, home.path().join("data")).unwrap();
    let sound = check::check(&home.path().join("data"), &mut |line| panic!("{line}")).unwrap();
    assert_eq!((sound.links, sound.audit_entries, sound.problems), (LINKS, LINKS, 0));
    Data { home, promised, sound }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to)
        } else {
            assert!(fs::copy(entry.path(), to).is_ok())
        }
    }
}

/// How a flip ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Noticed,
    Harmless,
}

impl Data {
    fn path(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The files whose bytes the promise rests on, and the others that RocksDB keeps.
    fn files(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.path().join("store")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.is_file());
        files.sort();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let (mut kept, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| {
            let name = name(path);
            name.ends_with(".sst") || name.ends_with(".log") || name.starts_with("MANIFEST") || name == "CURRENT"
        });
        kept.extend(["checkpoint", "log.key"].map(|name| self.path().join(name)));
        kept.extend(fs::read_dir(self.path().join("keys")).unwrap().map(|entry| entry.unwrap().path()));
        (kept, others)
    }

    /// Flips one bit in a copy and judges what comes of it, within the deadline.
    fn flip(&self, file: &Path, at: usize, bit: u8) -> End {
        let what = format!("bit {bit} of byte {at} of {}", file.file_name().unwrap().to_string_lossy());
        let bad = tempfile::tempdir_in(self.home.path()).unwrap();
        let dir = bad.path().join("data");
        copy(&self.path(), &dir);
        let path = dir.join(file.strip_prefix(self.path()).unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        let (promised, sound) = (self.promised.clone(), self.sound.clone());
        let (done, ended) = mpsc::sync_channel(1);
        let judged = what.clone();
        std::thread::spawn(move || done.send(judge(&dir, &promised, &sound, &judged)));
        match ended.recv_timeout(DEADLINE) {
            Ok(end) => end,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: it hangs"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{what}: it panicked or was not noticed; see above"),
        }
    }
}

/// What the check, a reader and a server that starts make of the directory.
fn judge(dir: &Path, promised: &Promised, sound: &Report, what: &str) -> End {
    let mut first: Option<String> = None;
    let report = check::check(dir, &mut |line| first = first.take().or(Some(line.to_owned())));
    let is_noticed = report.as_ref().map_or(true, |report| report.problems > 0);
    if let Ok(report) = &report {
        assert_eq!(report.problems > 0, first.is_some(), "{what}: a problem without a word");
        assert!(is_noticed || report == sound, "{what}: nothing was noticed, but\n{report}\nis not\n{sound}");
    }
    if let Ok(store) = Store::open_read_only(&dir.join("store"), &settings()) {
        let lost = read(&store, promised, what);
        assert!(is_noticed || lost == 0, "{what}: {lost} links do not read, and the check did not notice");
    }
    let server = Store::open(&dir.join("store"), &settings())
        .and_then(|store| Log::open(store.clone(), LogIdentity::load_or_create(dir)?, Some(dir)).map(|_| store));
    if let Ok(store) = server {
        let lost = read(&store, promised, what);
        assert!(is_noticed || lost == 0, "{what}: a server starts, {lost} links do not read, and nobody noticed");
        let missing = promised.keys().filter(|(id, sequence)| matches!(store.link(*id, *sequence), Ok(None)));
        assert_eq!(missing.count(), 0, "{what}: a server starts without links that it acknowledged");
    }
    if is_noticed { End::Noticed } else { End::Harmless }
}

/// Reads every link with its body: the number of those that do not read. What reads is what was received.
fn read(store: &Store, promised: &Promised, what: &str) -> usize {
    let mut lost = 0;
    for ((recorder, sequence), (digest, payload)) in promised {
        match store
            .link(*recorder, *sequence)
            .and_then(|link| link.map(|link| Ok((store.body(&link)?, link))).transpose())
        {
            Ok(Some((body, link))) => {
                assert_eq!(aigaq_proto::link::digest(&link.header), *digest, "{what}: another link {sequence}");
                assert_eq!(body, *payload, "{what}: other bytes of {sequence}");
            }
            Ok(None) | Err(_) => lost += 1,
        }
    }
    lost
}

/// Flips bits in every file: `dense` of them in logs, manifest and small files, `sparse` in each table.
fn campaign(data: &Data, seed: u64, dense: usize, sparse: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let (kept, others) = data.files();
    let mut ends: BTreeMap<(String, End), usize> = BTreeMap::new();
    for (file, is_kept) in kept.iter().map(|file| (file, true)).chain(others.iter().map(|file| (file, false))) {
        let length = usize::try_from(fs::metadata(file).unwrap().len()).unwrap();
        let is_table = file.extension().is_some_and(|extension| extension == "sst");
        let flips = if length == 0 {
            0
        } else if !is_kept {
            1
        } else if is_table {
            sparse
        } else {
            dense
        };
        for _ in 0..flips {
            let end = data.flip(file, random.random_range(0..length), random.random_range(0..8));
            let name = file.file_name().unwrap().to_string_lossy();
            let kind = name.trim_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '.').to_owned();
            *ends.entry((kind, end)).or_default() += 1;
        }
    }
    eprintln!("{ends:?}");
    let noticed: usize = ends.iter().filter(|((_, end), _)| *end == End::Noticed).map(|(_, count)| count).sum();
    let all: usize = ends.values().sum();
    assert!(noticed * 2 > all, "{noticed} of {all} were noticed: {ends:?}");
}

/// Flips in each file by default; `AIGAQ_FLIPS` multiplies them for a longer campaign.
fn times() -> usize {
    std::env::var("AIGAQ_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[tokio::test]
async fn a_flipped_bit_in_a_store_that_was_stopped_is_noticed_or_changes_nothing() {
    campaign(&made(true).await, 1, 4 * times(), 3 * times());
}

#[tokio::test]
async fn a_flipped_bit_in_a_store_that_was_killed_is_noticed_or_changes_nothing() {
    campaign(&made(false).await, 2, 8 * times(), times());
}
