//! Kill -9 of the recorder at random points, again and again: nothing that it recorded is lost, nothing is stored twice, no
//! sequence is used for two links, and the chain has no hole and no fork.
//!
//! The outside view is kept from the names in the spool's directory between two runs: which sequence was taken by a link of
//! which time. In the end each of them is compared with what the server has, and `aigaq check` walks everything.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aigaq_proto::link::StopCause;
use aigaq_proto::{Content, LinkHeader, Micros, RecorderId, Sequence};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use support::Identity;
use support::process::{AIGAQ, ServerProcess, aigaq};

/// Kills in the ordinary run, over all recorders; `AIGAQ_CRASH_ROUNDS` asks for a longer campaign.
const KILLS: u32 = 208;
const RECORDERS: u32 = 4;
/// Captured-at of the first run; each run begins a minute after the one before.
const BEGIN: Micros = 1_768_641_240_000_000;
const MINUTE: Micros = 60_000_000;

fn kills_wanted() -> u32 {
    std::env::var("AIGAQ_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// What was seen of one recorder from outside.
struct Seen {
    id: RecorderId,
    dir: PathBuf,
    runs: u64,
    /// Captured-at of the link that took a sequence.
    taken: BTreeMap<Sequence, Micros>,
    kills: u32,
    /// Receipts that the recorder wrote down before it was killed.
    receipts: Vec<(Sequence, String)>,
}

impl Seen {
    fn run(&mut self, source: Option<&Path>, server: &str) -> Child {
        let start = jiff::Timestamp::from_microsecond((BEGIN + self.runs * MINUTE).cast_signed()).unwrap();
        let mut command = Command::new(AIGAQ);
        command.args(["record", "--fast", "--server", server, "--identity"]).arg(&self.dir);
        if let Some(source) = source {
            self.runs += 1;
            command.args(["--start", &start.to_string()]).arg(source);
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Notes what the recorder left behind: no sequence may belong to another link than before.
    fn look(&mut self) {
        let Ok(names) = std::fs::read_dir(self.dir.join("spool")) else { return };
        for name in names.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
            let mut parts = name.split('-').map(|part| u64::from_str_radix(part, 16));
            if let (Some(Ok(sequence)), Some(Ok(begin))) = (parts.next(), parts.next()) {
                let before = *self.taken.entry(sequence).or_insert(begin);
                assert_eq!(before, begin, "sequence {sequence} was used twice");
            }
        }
        if let Ok(text) = std::fs::read_to_string(self.dir.join("last_receipt")) {
            let receipt: toml::Table = text.parse().unwrap();
            let sequence = Sequence::try_from(receipt["sequence"].as_integer().unwrap()).unwrap();
            self.receipts.push((sequence, receipt["digest"].as_str().unwrap().to_owned()));
        }
    }
}

/// Runs a recorder and kills it at a random time, as often as asked; then lets it bring in what it still has.
fn torment(mut seen: Seen, clip: &Path, server: &str, seed: u64) -> Seen {
    let mut random = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    assert!(seen.run(Some(clip), server).wait().unwrap().success());
    let whole = begun.elapsed();
    while seen.kills < kills_wanted().div_ceil(RECORDERS) {
        // Often in the middle, sometimes before it has done anything.
        let until = if random.random_ratio(1, 10) { whole / 10 } else { whole };
        let mut child = seen.run(Some(clip), server);
        std::thread::park_timeout(random.random_range(Duration::ZERO..until));
        seen.kills += u32::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
        seen.look();
    }
    assert!(seen.run(None, server).wait().unwrap().success(), "what is left comes in without a source");
    seen.look();
    seen
}

/// Compares what the server has of a recorder with what was seen of it.
fn verify(store: &aigaq::store::Store, seen: &Seen) -> u64 {
    let mut open = None;
    let mut count = 0;
    while let Some(link) = store.link(seen.id, count).unwrap() {
        let header = LinkHeader::decode(&link.header).unwrap();
        assert_eq!(header.sequence, count);
        store.body(&link).unwrap();
        match header.content {
            Content::Start { .. } => {
                assert_eq!(open.replace(count), None, "a recording began in another");
            }
            Content::Media { recording, .. } => assert_eq!(open, Some(recording)),
            Content::Stop { recording, cause } => {
                assert_eq!(open.take(), Some(recording));
                assert!(matches!(cause, StopCause::Fault | StopCause::SourceEnded));
            }
            content => panic!("nothing was lost or said: {content:?}"),
        }
        if let Some(captured_at) = seen.taken.get(&count) {
            assert_eq!(header.captured_at, *captured_at, "link {count} is the one that was in the spool");
        }
        count += 1;
    }
    let (last, _) = seen.taken.last_key_value().unwrap();
    assert!(count > *last, "link {last} was in the spool, the chain of {count} ends before it");
    for (sequence, digest) in &seen.receipts {
        let link = store.link(seen.id, *sequence).unwrap().expect("a link with a receipt is there");
        assert_eq!(aigaq_proto::link::digest(&link.header).to_string(), *digest);
    }
    assert_eq!(store.forks(seen.id).count(), 0);
    assert_eq!(store.quarantine(seen.id).count(), 0);
    let head = store.head(seen.id).unwrap().unwrap();
    assert_eq!(head.chain.runs().len(), 1, "no hole");
    assert_eq!(head.chain.newest().unwrap().sequence + 1, count);
    count
}

#[test]
fn nothing_is_lost_and_no_sequence_used_twice_when_the_recorder_is_killed_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = ServerProcess::start(&data).unwrap();
    let clip = dir.path().join("clip.mp4");
    std::fs::write(&clip, aigaq::recorder::CLIP).unwrap();
    let address = server.quic.to_string();
    let recorders: Vec<_> = (0..RECORDERS)
        .map(|index| {
            let dir = dir.path().join(format!("recorder-{index}"));
            let id = Identity::enrol(&data, &dir).id;
            Seen { id, dir, runs: 0, taken: BTreeMap::new(), kills: 0, receipts: Vec::new() }
        })
        .collect();
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..)
            .zip(recorders)
            .map(|(seed, recorder)| {
                let (clip, address) = (&clip, &address);
                scope.spawn(move || torment(recorder, clip, address, seed))
            })
            .collect();
        running.into_iter().map(|recorder| recorder.join().unwrap()).collect()
    });
    assert!(server.terminate().success());
    let (status, out, err) = aigaq(&["check", "--data", data.to_str().unwrap()]);
    assert!(status.success(), "check found something:\n{out}\n{err}");
    let store = aigaq::store::Store::open(&data.join("store"), &aigaq::store::Settings::default()).unwrap();
    let links: u64 = seen.iter().map(|seen| verify(&store, seen)).sum();
    let kills: u32 = seen.iter().map(|seen| seen.kills).sum();
    let receipts: usize = seen.iter().map(|seen| seen.receipts.len()).sum();
    println!("{kills} kills, {links} links, {receipts} receipts looked up, none lost");
    assert!(kills >= kills_wanted() && receipts > 0);
}
