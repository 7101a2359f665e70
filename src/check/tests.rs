//! A sound store has no problem; each way to tamper with it has one that names the place.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aigaq_proto::chain::{Chain, Joint};
use aigaq_proto::link::Fix;
use aigaq_proto::message::RefusalReason;
use aigaq_proto::signature::SigningKey;
use aigaq_proto::{Content, Digest, LinkHeader, RecorderId, link};
use aws_lc_rs::signature::Ed25519KeyPair;
use bytes::Bytes;
use tempfile::TempDir;

use super::{Report, check, check_store};
use crate::error::Kind;
use crate::integrity::check::tests as judging;
use crate::log::{Identity, Log, Staged};
use crate::seal::{self, Ring};
use crate::store::engine::memory::Memory;
use crate::store::engine::rocks::Rocks;
use crate::store::engine::{Batch, Direction, Engine, Family, NewBody};
use crate::store::policy::Rule;
use crate::store::records::{
    self, Act, AuditRecord, Body, CaseRecord, CheckId, CheckRecord, CountedRecord, DrawRecord, Entered, Event,
    ExpiryRecord, FootageKey, HeadRecord, LinkRecord, LossRecord, MarkPlace, MarkRecord, Owner, QuarantineRecord,
    Raiser, RecorderKey, RecorderKind, RecorderRecord,
};
use crate::store::{Commit, Hidden, Move, NewLink, NewQuarantine, Policy, Settings, Store, keys};

/// Links in the chain; more than a tile of the log holds.
const LINKS: u64 = 300;

/// Where the recorder was: a little further north each second.
fn fix(sequence: u64) -> Fix {
    let north = i32::try_from(sequence).unwrap() * 1_000;
    Fix {
        offset_ms: 10,
        latitude_e7: 511_282_000 + north,
        longitude_e7: 714_304_000,
        accuracy_dm: 50,
        speed_cms: 0,
        course_cdeg: 0,
    }
}

/// A store in memory with one recorder's chain, one fork and one quarantined link, as the server would have written it.
struct Rig {
    memory: Memory,
    store: Store,
    recorder: RecorderId,
    key: SigningKey,
    identity: Identity,
    dir: TempDir,
    log: Log,
    chain: Chain,
    previous: Digest,
}

fn sealing(memory: &Memory, dir: &Path) -> Store {
    let ring = Ring::open(&dir.join(seal::DIR), &seal::Settings::default()).unwrap();
    Store::with_keys(Arc::new(memory.clone()), Policy::default(), ring).unwrap()
}

impl Rig {
    fn sound() -> Self {
        let memory = Memory::default();
        let dir = tempfile::tempdir().unwrap();
        let store = sealing(&memory, dir.path());
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let key = SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap();
        let spki = key.public_key().unwrap().to_spki();
        let recorder = RecorderId::of_spki(&spki);
        store.enrol(&enrolled(recorder, spki)).unwrap();
        store.audit(&entry()).unwrap();
        let identity = Identity::load_or_create(dir.path()).unwrap();
        let log = Log::open(store.clone(), identity.clone(), Some(dir.path())).unwrap();
        let (chain, previous) = (Chain::default(), Digest::ZERO);
        let mut rig = Self { memory, store, recorder, key, identity, dir, log, chain, previous };
        for first in (0..LINKS).step_by(50) {
            rig.commit(first..first + 50);
        }
        rig
    }

    fn header(&self, sequence: u64, payload: &[u8]) -> LinkHeader {
        let content = match sequence {
            0 => Content::Start { codecs: "avc1.64001f".into() },
            _ => Content::Media { recording: 0, ordinal: sequence - 1, independent: true },
        };
        LinkHeader {
            recorder: self.recorder,
            sequence,
            previous: self.previous,
            captured_at: 1_000_000 * sequence,
            duration_us: if sequence == 0 { 0 } else { 1_000_000 },
            payload_length: u32::try_from(payload.len()).unwrap(),
            payload_digest: Digest::of(payload),
            content,
            fixes: if sequence == 0 { Vec::new() } else { vec![fix(sequence)] },
        }
    }

    /// The link, which takes the next place in the log.
    fn link(&self, header: LinkHeader, payload: Vec<u8>, staged: &mut Staged) -> NewLink {
        let bytes = header.encode().unwrap();
        let digest = link::digest(&bytes);
        let received_at = 5_000 + header.sequence;
        let record = LinkRecord {
            header: bytes,
            signature: self.key.sign(&digest).unwrap().to_vec(),
            received_at,
            clock: None,
            body: Body::None,
            log_index: staged.append(&digest, received_at),
            tree_size: 0,
        };
        NewLink { header, digest, record, payload: payload.into() }
    }

    fn commit(&mut self, sequences: std::ops::Range<u64>) {
        let is_first = sequences.start == 0;
        let mut staged = self.log.stage();
        let mut commit = Commit { number: self.store.next_commit(), ..Commit::default() };
        for sequence in sequences {
            let payload = format!("payload {sequence}").into_bytes();
            let link = self.link(self.header(sequence, &payload), payload, &mut staged);
            self.chain.insert(Joint { sequence, previous: link.header.previous, digest: link.digest });
            self.previous = link.digest;
            commit.links.push(link);
        }
        if is_first {
            commit.forks.push(self.link(self.header(7, b"another seven"), b"another seven".into(), &mut staged));
            commit.quarantined.push(self.quarantined());
        }
        for link in commit.links.iter_mut().chain(&mut commit.forks) {
            link.record.tree_size = staged.size();
        }
        (commit.log_rows, commit.log_size) = (staged.take_rows(), staged.size());
        let chain = self.chain.clone();
        commit.heads.push((self.recorder, HeadRecord { chain, forks: 1, quarantined: 1, last_received_at: 9 }));
        self.store.commit(commit).unwrap();
        self.log.settle(staged).unwrap().keep().unwrap();
    }

    fn quarantined(&self) -> NewQuarantine {
        let record = QuarantineRecord {
            reason: RefusalReason::BadSignature,
            header: vec![1, 2, 3],
            signature: vec![0; 64],
            received_at: 1,
            payload_digest: Digest::of(b"whatever came"),
            payload_length: 13,
            body: Body::None,
        };
        NewQuarantine { recorder: self.recorder, record, payload: Bytes::from_static(b"whatever came") }
    }

    fn check(&self) -> (Report, Vec<String>) {
        let mut problems = Vec::new();
        let store = sealing(&self.memory, self.dir.path());
        let mut on_problem = |line: &str| problems.push(line.to_owned());
        let report = check_store(&store, self.identity.clone(), self.dir.path(), &mut on_problem).unwrap();
        let shown = problems.iter().filter(|line| !line.contains(" more of the kind ")).count();
        assert!(shown as u64 == report.problems || (shown >= 100 && (shown as u64) < report.problems), "{problems:#?}");
        (report, problems)
    }

    fn checkpoint(&self) -> PathBuf {
        self.dir.path().join("checkpoint")
    }

    /// Changes a stored link and writes it back as if it had always been so.
    fn change_link(&self, sequence: u64, change: impl FnOnce(&mut LinkRecord)) {
        let mut record = self.store.link(self.recorder, sequence).unwrap().unwrap();
        change(&mut record);
        self.put(Family::Links, &keys::link(self.recorder, sequence), Some(records::encode(&record).unwrap()));
    }

    fn change_head(&self, change: impl FnOnce(&mut HeadRecord)) {
        let mut head = self.store.head(self.recorder).unwrap().unwrap();
        change(&mut head);
        self.put(Family::Heads, &keys::recorder(self.recorder), Some(records::encode(&head).unwrap()));
    }

    fn put(&self, family: Family, key: &[u8], value: Option<Vec<u8>>) {
        self.memory.set_value(family, key, value);
    }

    fn footage(&self, sequence: u64) -> FootageKey {
        match self.store.link(self.recorder, sequence).unwrap().unwrap().body {
            Body::Sealed(key) => key,
            other => panic!("{other:?} is no sealed footage"),
        }
    }

    /// Writes everything into a store on disk, beside the log's key and checkpoint.
    fn to_disk(&self) {
        let engine = Rocks::open(&self.dir.path().join("store"), &Settings::default()).unwrap();
        let bodies = self.memory.bodies().map(Result::unwrap).map(|(key, bytes)| NewBody { key, bytes });
        engine.commit(&bodies.collect::<Vec<_>>(), &Batch::default()).unwrap();
        for family in Family::ALL {
            let mut batch = Batch::default();
            for entry in self.memory.scan(family, keys::everything(), Direction::Forward) {
                let (key, value) = entry.unwrap();
                batch.put(family, key, value);
            }
            engine.commit(&[], &batch).unwrap();
        }
        engine.close().unwrap();
    }

    /// The problems after `tamper`.
    #[track_caller]
    fn expect(tamper: impl FnOnce(&Self), problem: &str) {
        let rig = Self::sound();
        tamper(&rig);
        let (report, problems) = rig.check();
        assert!(!report.is_ok());
        let place = problem.replace("RECORDER", &rig.recorder.to_string());
        assert!(problems.iter().any(|line| line.contains(&place)), "{place:?} is not among {problems:#?}");
    }
}

fn enrolled(id: RecorderId, spki: Vec<u8>) -> RecorderRecord {
    let key = RecorderKey { spki, since: 1, not_after: None };
    RecorderRecord { id, ..RecorderRecord::new(RecorderKind::Officer, "Astana".into(), String::new(), key) }
}

fn entry() -> AuditRecord {
    AuditRecord::new(1, Event::LookUp, "token:first-start", "::1", "GET /")
}

#[test]
fn a_sound_store_has_no_problem_and_everything_is_counted() {
    let rig = Rig::sound();
    let (report, problems) = rig.check();
    assert_eq!(problems, Vec::<String>::new());
    assert!(report.is_ok());
    assert_eq!((report.recorders, report.links, report.forks, report.quarantined), (1, LINKS, 1, 1));
    assert_eq!((report.bodies, report.log_entries, report.checkpoint), (LINKS + 1, LINKS + 1, Some(LINKS + 1)));
    assert_eq!((report.audit_entries, report.gaps, report.breaks), (1, 0, 0));
}

#[test]
fn an_older_checkpoint_an_empty_file_or_none_is_no_problem() {
    let mut rig = Rig::sound();
    let older = fs::read(rig.checkpoint()).unwrap();
    rig.commit(LINKS..LINKS + 50);
    fs::write(rig.checkpoint(), older).unwrap();
    assert_eq!(rig.check().0.checkpoint, Some(LINKS + 1));
    fs::write(rig.checkpoint(), "").unwrap();
    assert!(rig.check().0.is_ok());
    fs::remove_file(rig.checkpoint()).unwrap();
    assert!(rig.check().0.is_ok());
}

#[test]
fn a_checkpoint_of_a_larger_tree_or_one_that_was_changed_is_found() {
    let shrink = |rig: &Rig| rig.put(Family::Meta, keys::META_LOG_SIZE, Some(300_u64.to_be_bytes().to_vec()));
    Rig::expect(shrink, "its log has 300 entries, a checkpoint over 301 was signed");
    let flip = |rig: &Rig| {
        let mut bytes = fs::read(rig.checkpoint()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(rig.checkpoint(), bytes).unwrap();
    };
    Rig::expect(flip, "checkpoint is damaged, or of another log");
}

#[test]
fn a_body_that_is_changed_missing_or_nobodys_is_found() {
    Rig::expect(|rig| assert!(rig.memory.flip_body(rig.footage(9), 3)), "RECORDER/9: the sealed body does not open");
    Rig::expect(|rig| rig.memory.set_body(rig.footage(9), None), "RECORDER/9: its body is missing");
    let stray = FootageKey { day: 1, commit: 1, index: 0 };
    Rig::expect(
        |rig| rig.memory.set_body(stray, Some("x".into())),
        "the body 0 of commit 1 that expires on day 1 has no",
    );
    let swap = |rig: &Rig| {
        let key = rig.footage(10);
        rig.change_link(9, |record| record.body = Body::Sealed(key));
    };
    Rig::expect(swap, "RECORDER/9 and RECORDER/10: they claim the same body");
    Rig::expect(|rig| rig.change_link(0, |record| record.body = Body::Inline(vec![1])), "RECORDER/0: its payload");
}

#[test]
fn a_key_that_is_missing_changed_or_wrapped_by_another_is_named_once() {
    let key_file = |rig: &Rig| rig.dir.path().join(format!("keys/{}.keys", rig.footage(1).day));
    let named = |tamper: &dyn Fn(&Rig), line: &str| {
        let rig = Rig::sound();
        tamper(&rig);
        let store = Store::with_keys(
            Arc::new(rig.memory.clone()),
            Policy::default(),
            Ring::open_read_only(&rig.dir.path().join(seal::DIR), &seal::Settings::default()).unwrap(),
        );
        let mut problems = Vec::new();
        let mut on_problem = |line: &str| problems.push(line.to_owned());
        let report = check_store(&store.unwrap(), rig.identity.clone(), rig.dir.path(), &mut on_problem).unwrap();
        assert!(problems.iter().any(|problem| problem.contains(line)), "{problems:?}");
        assert!(problems.len() <= 2, "not one for each body: {problems:?}");
        assert!(report.not_checked.contains_key("sealed bodies"));
    };
    named(&|rig| fs::remove_file(key_file(rig)).unwrap(), "is not there");
    named(&|rig| fs::remove_dir_all(rig.dir.path().join("keys")).unwrap(), "is not there");
    named(&|rig| fs::remove_file(rig.dir.path().join("keys/master.key")).unwrap(), "the master key that wrapped them");
    let flip = |rig: &Rig| {
        let mut bytes = fs::read(key_file(rig)).unwrap();
        bytes[50] ^= 1;
        fs::write(key_file(rig), bytes).unwrap();
    };
    named(&flip, "has no head that holds");
}

#[test]
fn footage_whose_key_was_destroyed_is_counted_and_no_problem() {
    let rig = Rig::sound();
    let act = records::Act { at: 1, by: "command line".into(), reason: "order".into() };
    let entry = records::AuditRecord::new(1, records::Event::KeyDestruction, "command line", "local", "destroy");
    let day = rig.footage(1).day;
    let asked = records::Act { by: "account:anna".into(), ..act.clone() };
    let request = records::AuditRecord::new(1, records::Event::Request, "account:anna", "local", "ask");
    rig.store.ask_destruction((day, rig.recorder), asked, &request).unwrap();
    assert!(rig.store.destroy_key((day, rig.recorder), 1, rig.store.claims(), act, &entry).unwrap());
    let (report, problems) = rig.check();
    // The chain's media, the fork and what is in quarantine.
    assert_eq!((report.destroyed, report.bodies, problems.len()), (LINKS + 1, 0, 0), "{problems:?}");
}

#[test]
fn a_body_of_an_unfinished_commit_and_an_expired_one_are_no_problem() {
    let rig = Rig::sound();
    rig.store.drop_days_before(rig.footage(1).day + 1).unwrap();
    let (report, problems) = rig.check();
    assert_eq!((report.expired, report.bodies, problems.len()), (LINKS + 1, 0, 0), "{problems:?}");
    // Not through `check`, which opens the store for writing and so sweeps.
    rig.memory.set_body(FootageKey { day: u32::MAX, commit: 99, index: 0 }, Some("half".into()));
    let report = check_store(&rig.store, rig.identity.clone(), rig.dir.path(), &mut |_| {}).unwrap();
    assert_eq!((report.unfinished, report.problems), (1, 0));
}

#[test]
fn footage_that_is_hidden_or_was_moved_is_counted_and_no_problem() {
    let rig = Rig::sound();
    let day = rig.footage(1).day;
    let wanted = Move { recorder: rig.recorder, owner: Owner::Link(5), until_day: day + 9, rule: Rule::Hold { id: 1 } };
    rig.store.relocate(&[wanted]).unwrap();
    let (report, problems) = rig.check();
    assert_eq!((report.moved, report.hidden, problems.len()), (1, 0, 0), "{problems:?}");
    assert!(rig.store.hide_before(day + 1, rig.store.claims(), &Hidden::default()).unwrap());
    let (report, problems) = rig.check();
    assert_eq!((report.moved, report.hidden, report.expired), (1, LINKS, 0));
    assert_eq!((report.bodies, problems.len()), (LINKS + 1, 0), "{problems:?}");
    rig.store.drop_days_before(day + 1).unwrap();
    let (report, problems) = rig.check();
    assert_eq!((report.moved, report.bodies, report.expired, problems.len()), (0, 1, LINKS, 0), "{problems:?}");
}

#[test]
fn an_index_that_lacks_something_or_says_something_else_is_found() {
    let first =
        |rig: &Rig, family| rig.memory.scan(family, keys::everything(), Direction::Forward).next().unwrap().unwrap();
    for (family, rows) in [(Family::Runs, 1), (Family::Slots, 1), (Family::Presence, 2)] {
        let remove = |rig: &Rig| {
            assert!(rig.memory.scan(family, keys::everything(), Direction::Forward).count() >= rows);
            rig.put(family, &first(rig, family).0, None);
        };
        Rig::expect(remove, "RECORDER");
        Rig::expect(remove, "the index lacks it");
    }
    let other = |rig: &Rig| {
        let (key, value) = first(rig, Family::Presence);
        rig.put(Family::Presence, &key, Some([&value[..], &value].concat()));
    };
    Rig::expect(other, "the index says something else than the links");
    let stray = |rig: &Rig| {
        let (_, value) = first(rig, Family::Presence);
        rig.put(Family::Presence, &keys::presence(1, 2, rig.recorder, 3), Some(value.into()));
    };
    Rig::expect(stray, "rows, the links make");
    let garble = |rig: &Rig| rig.put(Family::Runs, &first(rig, Family::Runs).0, Some(vec![7]));
    Rig::expect(garble, "a record of runs has the unknown version 7");
    Rig::expect(
        |rig| rig.put(Family::Assignees, &keys::assignee("badge 1", 1, rig.recorder), Some(Vec::new())),
        "RECORDER from 1 µs by name: nothing in assignments makes it",
    );
    let place = |rig: &Rig| MarkPlace { at: 5, recorder: rig.recorder, raiser: Raiser::Recorder(7) };
    Rig::expect(
        |rig| rig.put(Family::Categories, &keys::category("speeding", place(rig)), Some(Vec::new())),
        "RECORDER marked at 5 µs, by category: nothing in marks makes it",
    );
    let another = |rig: &Rig| {
        let (place, category, by) = (place(rig), "speeding".to_owned(), String::new());
        let mark = |note: &str| {
            let (category, note, by) = (category.clone(), note.to_owned(), by.clone());
            let mark = MarkRecord { place, category, note, from: 4, to: 6, recorded_at: 5, by, corrects: None };
            records::encode(&mark).unwrap()
        };
        rig.put(Family::Marks, &keys::mark(place), Some(mark("as it was raised")));
        rig.put(Family::Marked, &keys::marked(place), Some(mark("as nobody raised it")));
    };
    Rig::expect(another, "RECORDER marked at 5 µs: it is another mark");
}

#[test]
fn while_footage_goes_the_index_may_have_it_or_not() {
    let rig = Rig::sound();
    let day = rig.footage(1).day;
    let wanted = Move { recorder: rig.recorder, owner: Owner::Link(5), until_day: day + 9, rule: Rule::Hold { id: 1 } };
    rig.store.relocate(&[wanted]).unwrap();
    assert!(rig.store.hide_before(day + 1, rig.store.claims(), &Hidden::default()).unwrap());
    assert!(rig.store.condemn_before(day + 1, rig.store.claims()).unwrap());
    let (_, problems) = rig.check();
    assert_eq!(problems.len(), 0, "nothing went yet: {problems:?}");
    // A crash before the footage went.
    rig.store.unindex_before(day + 1).unwrap();
    let rows = rig.memory.scan(Family::Presence, keys::everything(), Direction::Forward).count();
    assert_eq!(rows, 1, "what was moved stays");
    let (_, problems) = rig.check();
    assert_eq!(problems.len(), 0, "{problems:?}");
    rig.store.drop_days_before(day + 1).unwrap();
    let (report, problems) = rig.check();
    assert_eq!((report.bodies, problems.len()), (1, 0), "{problems:?}");
}

#[test]
fn what_expires_when_is_compared_from_both_sides() {
    let owner = Owner::Link(20);
    let key = move |rig: &Rig, owner| keys::expiry(rig.footage(1).day, rig.recorder, owner);
    let remove = move |rig: &Rig| rig.put(Family::Expiry, &key(rig, owner), None);
    Rig::expect(remove, "RECORDER/20: nothing says that it expires on day");
    let stray = move |rig: &Rig| {
        let kept = ExpiryRecord::Kept { rule: Rule::Undo, bytes: 1, captured_at: 1 };
        rig.put(Family::Expiry, &key(rig, Owner::Link(9_999)), Some(records::encode(&kept).unwrap()));
    };
    Rig::expect(stray, "expiry: it has 302 bodies for 301 in the footage");
    let garble = move |rig: &Rig| assert!(rig.memory.flip_value(Family::Expiry, &key(rig, owner), 0));
    Rig::expect(garble, "RECORDER Link(20) of day");
}

#[test]
fn a_link_that_is_changed_missing_or_unsigned_is_found() {
    let rig = |change: fn(&mut LinkRecord)| move |rig: &Rig| rig.change_link(20, change);
    Rig::expect(rig(|record| record.signature[5] ^= 1), "RECORDER/20: its signature does not verify");
    Rig::expect(rig(|record| record.header[60] ^= 1), "RECORDER/20:");
    Rig::expect(rig(|record| record.received_at += 1), "RECORDER/20: entry 20 of the log is not its own");
    Rig::expect(rig(|record| record.log_index += 1), "RECORDER/20: entry 21 of the log is not its own");
    Rig::expect(rig(|record| record.tree_size = 1 << 40), "RECORDER/20: it names entry 20 of a tree of");
    let remove = |rig: &Rig| rig.put(Family::Links, &keys::link(rig.recorder, 20), None);
    Rig::expect(remove, "log: 1 entries have neither link nor audit entry, the first is entry 20");
    Rig::expect(remove, "RECORDER: the head does not agree with the links");
    Rig::expect(remove, "timeline: it has 300 entries for 299 links");
    let garble = |rig: &Rig| assert!(rig.memory.flip_value(Family::Links, &keys::link(rig.recorder, 20), 0));
    Rig::expect(garble, "RECORDER/20: a record of links has the unknown version");
    let unenrol = |rig: &Rig| rig.put(Family::Recorders, &keys::recorder(rig.recorder), None);
    Rig::expect(unenrol, "RECORDER/0: no key of its recorder is enrolled");
}

#[test]
fn links_that_changed_places_are_found() {
    let swap = |rig: &Rig| {
        let record = rig.store.link(rig.recorder, 30).unwrap().unwrap();
        rig.change_link(31, |other| *other = record);
    };
    Rig::expect(swap, "RECORDER/31: its header names another place");
}

#[test]
fn a_fork_without_its_other_side_or_uncounted_is_found() {
    let remove = |rig: &Rig| rig.put(Family::Links, &keys::link(rig.recorder, 7), None);
    Rig::expect(remove, "RECORDER/7 fork: a fork has no other side");
    Rig::expect(|rig| rig.change_head(|head| head.forks = 0), "RECORDER: the head counts other forks");
    Rig::expect(|rig| rig.change_head(|head| head.quarantined = 2), "RECORDER: the head counts other forks");
}

#[test]
fn heads_and_timeline_that_say_something_else_are_found() {
    Rig::expect(|rig| rig.change_head(|head| head.chain = Chain::default()), "RECORDER: the head does not agree");
    Rig::expect(
        |rig| rig.put(Family::Heads, &keys::recorder(rig.recorder), None),
        "RECORDER: it has links but no head",
    );
    let key = |rig: &Rig| keys::timeline(rig.recorder, 4_000_000, 4);
    Rig::expect(|rig| rig.put(Family::Timeline, &key(rig), None), "RECORDER/4: the timeline says something else");
    let other = |rig: &Rig| rig.memory.get(Family::Timeline, &keys::timeline(rig.recorder, 5_000_000, 5)).unwrap();
    Rig::expect(|rig| rig.put(Family::Timeline, &key(rig), other(rig)), "RECORDER/4: the timeline says something else");
}

#[test]
fn rows_of_the_log_that_are_changed_missing_or_too_many_are_found() {
    let flip =
        |level, first| move |rig: &Rig| assert!(rig.memory.flip_value(Family::Tiles, &keys::tile(level, first), 3));
    Rig::expect(flip(0, 51), "RECORDER/50: entry 51 of the log is not its own");
    Rig::expect(flip(0, 51), "log: hash 0 of level 1 of the log is not that of its entries");
    Rig::expect(
        flip(0, 256),
        "checkpoint: the first 301 entries of the log are not those that a checkpoint was signed over",
    );
    Rig::expect(flip(1, 0), "log: hash 0 of level 1 of the log is not that of its entries");
    let remove = |level, first| move |rig: &Rig| rig.put(Family::Tiles, &keys::tile(level, first), None);
    Rig::expect(remove(0, 51), "log: the log lacks item 51 of level 0");
    Rig::expect(remove(1, 0), "log: level 1 has 0 items instead of 1");
    let add = |rig: &Rig| rig.put(Family::Tiles, &keys::tile(0, 301), Some(vec![0; 40]));
    Rig::expect(add, "log: the row at item 301 of level 0 does not belong there");
}

#[test]
fn a_store_that_does_not_read_is_not_called_sound() {
    let rig = Rig::sound();
    rig.memory.set_unreadable(true);
    assert!(check_store(&rig.store, rig.identity.clone(), rig.dir.path(), &mut |_| {}).is_err());
    rig.memory.set_unreadable(false);
    assert_eq!(rig.memory.scan(Family::Links, keys::everything(), Direction::Forward).count() as u64, LINKS);
}

#[test]
fn a_data_directory_is_checked_from_its_files() {
    let rig = Rig::sound();
    rig.to_disk();
    let report = check(rig.dir.path(), &mut |line| panic!("{line}")).unwrap();
    assert_eq!((report.links, report.bodies, report.checkpoint), (LINKS, LINKS + 1, Some(LINKS + 1)));
    rig.put(Family::Links, &keys::link(rig.recorder, 3), Some(vec![1]));
    rig.to_disk();
    assert!(!check(rig.dir.path(), &mut |_| {}).unwrap().is_ok());
    fs::remove_file(rig.dir.path().join("log.key")).unwrap();
    assert_eq!(check(rig.dir.path(), &mut |_| {}).unwrap_err().kind(), Kind::NotFound);
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(check(nothing.path(), &mut |_| {}).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(fs::read_dir(nothing.path()).unwrap().count(), 0, "a check makes no file");
}

/// The problems and the report of the files of `rig` with one byte changed in a file of the store, unless they do not open.
fn check_flipped(rig: &Rig, path: &std::path::Path, at: usize) -> Option<(Report, Vec<String>)> {
    let sound = fs::read(path).unwrap();
    let mut bad = sound.clone();
    bad[at] ^= 1;
    fs::write(path, bad).unwrap();
    let mut problems = Vec::new();
    let report = check(rig.dir.path(), &mut |line| problems.push(line.to_owned()));
    fs::write(path, sound).unwrap();
    report.ok().map(|report| (report, problems))
}

#[test]
fn one_changed_byte_is_a_few_problems_and_the_walk_goes_on_behind_it() {
    let mut rig = Rig::sound();
    for first in (LINKS..LINKS + 3_000).step_by(50) {
        rig.commit(first..first + 50);
    }
    let links = LINKS + 3_000;
    rig.to_disk();
    let (mut read_on, mut opened) = (0, 0);
    for entry in fs::read_dir(rig.dir.path().join("store")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sst") {
            continue;
        }
        let length = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
        for at in [length / 10, length / 3, length * 2 / 3] {
            let Some((report, problems)) = check_flipped(&rig, &path, at) else { continue };
            opened += 1;
            assert!((1..=8).contains(&report.problems), "{at} of {}: {problems:#?}", path.display());
            assert!(
                !problems.iter().any(|line| line.contains("has no owner") || line.contains("no link")),
                "{problems:#?}"
            );
            if report.links < links && report.links > links / 2 {
                read_on += 1;
                let orphans = report.not_checked.get("entries of the log").copied().unwrap_or_default();
                assert_eq!(report.links + orphans, links, "{report}");
                assert_eq!(report.not_checked["bodies"], orphans, "{report}");
                assert_eq!(report.not_checked["heads"], 1, "{report}");
            }
        }
    }
    assert!(opened >= 3 && read_on >= 2, "{opened} opened, in {read_on} the walk went on behind a hole in the links");
}

#[test]
fn many_problems_of_one_kind_are_counted_and_the_first_are_shown() {
    let rig = Rig::sound();
    rig.put(Family::Recorders, &keys::recorder(rig.recorder), None);
    let (report, problems) = rig.check();
    assert_eq!(report.problems, LINKS + 1);
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100], format!("{} more of the kind signatures", LINKS + 1 - 100));
}

#[test]
fn a_loss_that_no_link_states_is_a_problem() {
    let record = LossRecord { last: 2, from: 0, to: 1, cause: aigaq_proto::link::LossCause::Restored };
    Rig::expect(
        |rig| rig.put(Family::Losses, &keys::loss(rig.recorder, 1, 5), Some(records::encode(&record).unwrap())),
        "RECORDER/5 lost: no link says that these are lost",
    );
}

#[test]
fn a_mark_that_no_link_states_is_a_problem_where_it_is_counted() {
    let record = CountedRecord {
        category: "insult".to_owned(),
        department: "Astana".to_owned(),
        kind: RecorderKind::Officer,
        entered: Entered::Link(5),
    };
    let place = |rig: &Rig| MarkPlace { at: 5, recorder: rig.recorder, raiser: Raiser::Recorder(5) };
    Rig::expect(
        |rig| rig.put(Family::Counted, &keys::mark(place(rig)), Some(records::encode(&record).unwrap())),
        "RECORDER counted mark at 5 µs: no link is the mark that is counted",
    );
}

#[test]
fn a_case_that_is_not_what_its_name_says_is_a_problem() {
    let added = Act { at: 1, by: "account:anna".to_owned(), reason: String::new() };
    let record = CaseRecord { canonical: "{}".to_owned(), added, entry: 1 };
    let digest = Digest([7; 32]);
    Rig::expect(
        |rig| rig.put(Family::Cases, &keys::case(digest), Some(records::encode(&record).unwrap())),
        &format!("case {digest}: it is not what its name and its audit entry say"),
    );
}

/// Puts a draw that has not been shown and a check that one has scored, as the server would.
fn checked(rig: &Rig) -> CheckRecord {
    let said = |object: String, action: &str, content: Digest| {
        let entry = AuditRecord::new(1, Event::Check, "account:lead", "::1", action.to_owned());
        AuditRecord { content: Some(content), ..entry.about(object) }
    };
    let act = Act { at: 1, by: "account:lead".to_owned(), reason: String::new() };
    let canonical = crate::integrity::case::tests::case().canonical().unwrap();
    let case = Digest::of(canonical.as_bytes());
    let record = CaseRecord { canonical, added: act.clone(), entry: 0 };
    rig.store.add_case(case, &record, &said(case.to_string(), "add case", case)).unwrap();
    let draw = DrawRecord {
        id: CheckId([2; 16]),
        department: "Astana".to_owned(),
        seed_digest: Digest::ZERO,
        roster: vec!["badge 1".to_owned(), "badge 2".to_owned()],
        count: 1,
        committed: act,
        entry: 0,
        revealed: None,
    };
    let committed = said(hex(draw.id), "commit to draw", crate::integrity::said::committed(&draw).unwrap());
    rig.store.add_draw(&draw, &committed).unwrap();
    let mut check = CheckRecord { case, ..judging::check() };
    let made = said(hex(check.id), "make check", crate::integrity::said::made(&check).unwrap());
    rig.store.add_check(&check, &made, || Ok(None::<()>)).unwrap();
    let sheet = judging::sheet("a", 5, "took", &[("courtesy", 4), ("appeal", 290)]);
    let scored = said(hex(check.id), "score check", crate::integrity::said::scored(check.id, &sheet).unwrap());
    let push = |check: &mut CheckRecord| {
        check.sheets.push(sheet.clone());
        Ok(None::<()>)
    };
    rig.store.change_check(check.id, &scored, push).unwrap();
    check.sheets.push(sheet);
    check
}

fn hex(id: CheckId) -> String {
    data_encoding::HEXLOWER.encode(&id.0)
}

#[test]
fn draws_and_checks_that_are_what_the_trail_says_are_no_problem() {
    let rig = Rig::sound();
    checked(&rig);
    assert_eq!(rig.check().1, Vec::<String>::new());
}

#[test]
fn a_check_that_is_not_what_was_made_or_scored_is_a_problem() {
    let changes: [fn(&mut CheckRecord); 5] = [
        |check| check.person = "badge 18".to_owned(),
        |check| check.assessors[1] = "account:c".to_owned(),
        |check| check.sheets[0].judged[0].value = 5,
        |check| check.sheets.clear(),
        |check| check.closed_at = Some(5),
    ];
    for change in changes {
        Rig::expect(
            |rig| {
                let mut check = checked(rig);
                change(&mut check);
                rig.put(Family::Checks, &keys::check(check.id), Some(records::encode(&check).unwrap()));
            },
            &format!("check {}: it is not what its audit entries say", hex(judging::check().id)),
        );
    }
}

#[test]
fn a_check_that_is_gone_and_a_draw_with_another_roster_are_problems() {
    let id = judging::check().id;
    Rig::expect(
        |rig| {
            checked(rig);
            rig.put(Family::Checks, &keys::check(id), None);
        },
        &format!("check {}: the trail has it, and it is gone", hex(id)),
    );
    Rig::expect(
        |rig| {
            checked(rig);
            let mut draw = rig.store.draw(CheckId([2; 16])).unwrap().unwrap();
            draw.roster.pop();
            rig.put(Family::Draws, &keys::check(draw.id), Some(records::encode(&draw).unwrap()));
        },
        &format!("draw {}: it is not what its audit entries say", hex(CheckId([2; 16]))),
    );
}

#[test]
fn what_is_known_of_the_field_must_read() {
    let families = [Family::Announcements, Family::Requests, Family::Assignments];
    for (family, place) in
        families.into_iter().zip(["RECORDER: a record", "RECORDER request 1: ", "RECORDER from 1 µs: "])
    {
        let key = |rig: &Rig| match family {
            Family::Announcements => keys::recorder(rig.recorder).to_vec(),
            Family::Requests => keys::request(rig.recorder, 1).to_vec(),
            _ => keys::assignment(rig.recorder, 1).to_vec(),
        };
        Rig::expect(|rig| rig.put(family, &key(rig), Some(vec![1, 255])), place);
    }
}
