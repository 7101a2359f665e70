//! The writer over an engine that can be made to fail: what is answered, what is durable, and what never is.

use std::sync::Arc;
use std::time::Duration;

use aigaq_proto::message::{Advice, Receipt, RefusalReason};
use aigaq_proto::{Content, Digest, LinkHeader, RecorderId, Sequence, link, receipt};
use bytes::Bytes;
use prometheus::Registry;
use tokio::sync::{Semaphore, oneshot};

use super::plan::{RETRY_FAULT_MS, RETRY_STORAGE_MS};
use super::writer::Writer;
use super::{Metrics, Outcome, Settings, Submission, start};
use crate::chain::Quotas;
use crate::clock::Clock;
use crate::error::Kind;
use crate::log::{Identity, Log};
use crate::seal::{self, Ring};
use crate::store::engine::memory::{FailAt, Memory};
use crate::store::records::{RecorderKey, RecorderKind, RecorderRecord, Revocation};
use crate::store::{Policy, Store};

#[derive(Debug, Clone)]
struct Link {
    header: LinkHeader,
    bytes: Bytes,
    payload: Bytes,
}

impl Link {
    fn digest(&self) -> Digest {
        link::digest(&self.bytes)
    }
}

/// A link of a chain: the first is a `Start`, every fourth a mark, all others media.
fn link(recorder: u8, sequence: Sequence, previous: Digest, salt: u8) -> Link {
    let (content, payload) = match sequence {
        0 => (Content::Start { codecs: "avc1.64001f".into() }, vec![salt; 90]),
        _ if sequence.is_multiple_of(4) => {
            let mark =
                Content::Mark { category: "bribe".into(), note: String::new(), before_s: u16::from(salt), after_s: 9 };
            (mark, Vec::new())
        }
        _ => (Content::Media { recording: 0, ordinal: sequence - 1, independent: true }, vec![salt ^ recorder; 400]),
    };
    let header = LinkHeader {
        recorder: RecorderId([recorder; 16]),
        sequence,
        previous,
        captured_at: 1_700_000_000_000_000 + sequence * 1_000_000,
        duration_us: if matches!(content, Content::Media { .. }) { 1_000_000 } else { 0 },
        payload_length: payload.len() as u32,
        payload_digest: Digest::of(&payload),
        content,
        fixes: Vec::new(),
    };
    Link { bytes: header.encode().unwrap().into(), payload: payload.into(), header }
}

fn chain(recorder: u8, count: u64) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for sequence in 0..count {
        let previous = links.last().map_or(Digest::ZERO, Link::digest);
        links.push(link(recorder, sequence, previous, 1));
    }
    links
}

struct Sent {
    submission: Submission,
    answer: oneshot::Receiver<Outcome>,
}

fn send(link: &Link, fault: Option<RefusalReason>) -> Sent {
    let (reply, answer) = oneshot::channel();
    let submission = Submission {
        header: link.header.clone(),
        header_bytes: link.bytes.clone(),
        digest: link.digest(),
        signature: [3; 64],
        payload: link.payload.clone(),
        received_at: 1_700_000_000_500_000,
        clock: None,
        fault,
        actual: (Digest::of(&link.payload), link.payload.len() as u64),
        permit: None,
        reply,
    };
    Sent { submission, answer }
}

struct Rig {
    engine: Memory,
    store: Store,
    identity: Identity,
    writer: Writer,
    registry: Registry,
}

impl Rig {
    fn new() -> Self {
        Self::over(Memory::default(), Identity::ephemeral().unwrap())
    }

    fn over(engine: Memory, identity: Identity) -> Self {
        Self::with(engine, identity, Settings::default())
    }

    fn with(engine: Memory, identity: Identity, settings: Settings) -> Self {
        let store = Store::with_engine(Arc::new(engine.clone())).unwrap();
        Self::on(engine, store, identity, settings)
    }

    fn on(engine: Memory, store: Store, identity: Identity, settings: Settings) -> Self {
        let log = Log::open(store.clone(), identity.clone(), None).unwrap();
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let writer = Writer::new(store.clone(), log, settings, Clock::fixed(1_700_000_001_000_000), metrics).unwrap();
        Self { engine, store, identity, writer, registry }
    }

    fn restart(&self) -> Self {
        Self::over(self.engine.restart(), self.identity.clone())
    }

    /// Settles a batch; the answers, `None` where a reply was dropped.
    fn settle(&mut self, links: &[Link], fault: Option<RefusalReason>) -> Vec<Option<Outcome>> {
        let (batch, answers): (Vec<_>, Vec<_>) =
            links.iter().map(|link| send(link, fault)).map(|sent| (sent.submission, sent.answer)).unzip();
        let _ = self.writer.settle(batch);
        answers.into_iter().map(|answer| answer.blocking_recv().ok()).collect()
    }

    /// Settles a batch of which every link gets a receipt; the receipts, verified.
    fn receipts(&mut self, links: &[Link]) -> Vec<Receipt> {
        let answers = self.settle(links, None);
        links.iter().zip(answers).map(|(link, answer)| self.verified(link, answer)).collect()
    }

    fn verified(&self, link: &Link, answer: Option<Outcome>) -> Receipt {
        let Some(Outcome::Receipt(receipt)) = answer else { panic!("no receipt but {answer:?}") };
        receipt::verify(&receipt, &link.digest(), &self.identity.key()).unwrap();
        assert_eq!(receipt.sequence, link.header.sequence);
        let stored = self.store.link(link.header.recorder, link.header.sequence).unwrap().unwrap();
        assert_eq!(self.store.body(&stored).unwrap(), link.payload, "a receipted link is readable");
        *receipt
    }

    fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let matches = |metric: &&prometheus::proto::Metric| {
            label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        };
        let metric = family.get_metric().iter().find(matches).unwrap();
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }
}

fn refused(answer: &Option<Outcome>) -> (RefusalReason, Advice) {
    match answer {
        Some(Outcome::Refused { reason, advice, .. }) => (*reason, *advice),
        other => panic!("not refused but {other:?}"),
    }
}

#[test]
fn every_link_of_a_batch_gets_a_receipt_that_verifies() {
    let mut rig = Rig::new();
    let (first, second) = (chain(1, 300), chain(2, 300));
    let mixed: Vec<Link> = first.iter().zip(&second).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    for batch in mixed.chunks(257) {
        rig.receipts(batch);
    }
    assert_eq!(rig.metric("aigaq_segments_total", "stored"), 600.0);
    assert_eq!(rig.metric("aigaq_log_tree_size", ""), 600.0);
    let bytes: usize = mixed.iter().map(|link| link.payload.len()).sum();
    assert_eq!(rig.metric("aigaq_segment_bytes_total", ""), bytes as f64);
}

#[test]
fn a_duplicate_gets_the_same_receipt_byte_for_byte_also_after_a_restart() {
    let mut rig = Rig::new();
    let links = chain(1, 300);
    let mut receipts = Vec::new();
    for batch in links.chunks(37) {
        receipts.extend(rig.receipts(batch));
    }
    assert_eq!(rig.receipts(&links), receipts);
    assert_eq!(rig.restart().receipts(&links), receipts);
    assert_eq!(rig.metric("aigaq_segments_total", "duplicate"), 300.0);
    assert_eq!(rig.store.log_size().unwrap(), 300, "a duplicate is no new entry of the log");
}

#[test]
fn duplicates_within_a_batch_get_one_receipt() {
    let mut rig = Rig::new();
    let links = chain(1, 2);
    let receipts = rig.receipts(&[links[0].clone(), links[1].clone(), links[0].clone()]);
    assert_eq!(receipts[0], receipts[2]);
    assert_eq!(rig.store.log_size().unwrap(), 2);
}

#[test]
fn a_fork_is_kept_logged_and_refused_for_ever() {
    let mut rig = Rig::new();
    let links = chain(1, 3);
    let other = link(1, 2, links[1].digest(), 5);
    rig.receipts(&links);
    for _ in 0..2 {
        assert_eq!(refused(&rig.settle(std::slice::from_ref(&other), None)[0]), (RefusalReason::Fork, Advice::Never));
    }
    let kept = rig.store.fork(other.header.recorder, 2, other.digest()).unwrap().unwrap();
    assert_eq!(rig.store.body(&kept).unwrap(), other.payload);
    let receipt = rig.writer_reader().receipt(&kept, &other.digest()).unwrap();
    receipt::verify(&receipt, &other.digest(), &rig.identity.key()).unwrap();
    assert_eq!(rig.store.log_size().unwrap(), 4);
    assert_eq!(rig.metric("aigaq_forks_total", ""), 1.0);
    rig.receipts(&links);
}

#[test]
fn a_faulty_link_is_kept_in_quarantine_and_told_whether_to_try_again() {
    let mut rig = Rig::new();
    let links = chain(1, 3);
    for reason in [RefusalReason::LengthMismatch, RefusalReason::DigestMismatch] {
        let mut rig = Rig::new();
        let retry = Advice::RetryAfter { delay_ms: RETRY_FAULT_MS };
        assert_eq!(refused(&rig.settle(&links[..1], Some(reason))[0]), (reason, retry));
        assert_eq!(refused(&rig.settle(&links[..1], Some(reason))[0]), (reason, Advice::Never));
        rig.receipts(&links[..1]);
    }
    let reason = RefusalReason::BadSignature;
    assert_eq!(refused(&rig.settle(&links[1..2], Some(reason))[0]), (reason, Advice::Never));
    let kept: Vec<_> = rig.store.quarantine(links[1].header.recorder).collect::<Result<_, _>>().unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].record.reason, reason);
    assert_eq!(rig.store.log_size().unwrap(), 0, "what is in quarantine is not in the log");
    assert_eq!(rig.metric("aigaq_quarantine_total", "bad_signature"), 1.0);
    rig.receipts(&links[2..]);
}

#[test]
fn a_transfer_fault_over_the_quota_may_be_mended_once_and_is_not_kept() {
    let quotas = Quotas { quarantined_max: 1, ..Quotas::default() };
    let settings = Settings { quotas, ..Settings::default() };
    let links = chain(1, 4);
    for reason in [RefusalReason::LengthMismatch, RefusalReason::DigestMismatch] {
        let mut rig = Rig::with(Memory::default(), Identity::ephemeral().unwrap(), settings.clone());
        rig.settle(&links[..1], Some(RefusalReason::BadSignature));
        let retry = Advice::RetryAfter { delay_ms: RETRY_FAULT_MS };
        assert_eq!(refused(&rig.settle(&links[1..2], Some(reason))[0]), (reason, retry));
        assert_eq!(refused(&rig.settle(&links[1..2], Some(reason))[0]), (RefusalReason::Quota, Advice::Never));
        let unsigned = Some(RefusalReason::BadSignature);
        assert_eq!(refused(&rig.settle(&links[2..3], unsigned)[0]), (RefusalReason::Quota, Advice::Never));
        assert_eq!(rig.store.quarantine(links[0].header.recorder).count(), 1);
        assert_eq!(rig.metric("aigaq_segments_total", "quota"), 3.0);
        rig.receipts(&links);
    }
}

#[test]
fn a_commit_that_fails_gives_no_receipt_and_nothing_is_answered_afterwards() {
    let links = chain(1, 40);
    for at in [FailAt::Start, FailAt::Bodies, FailAt::End] {
        for nth in 1..=8 {
            let mut rig = Rig::new();
            rig.engine.fail_commit(nth, at);
            let mut receipts = Vec::new();
            for (round, batch) in links.chunks(5).enumerate() {
                let answers = rig.settle(batch, None);
                if (round as u64) + 1 < nth {
                    receipts.extend(answers.into_iter().zip(batch).map(|(answer, link)| rig.verified(link, answer)));
                } else {
                    assert!(answers.iter().all(Option::is_none), "{at:?} at commit {nth}: {answers:?}");
                }
            }
            let mut after = rig.restart();
            let again = after.receipts(&links);
            assert_eq!(again[..receipts.len()], receipts, "what was promised before stands");
            assert_eq!(after.store.log_size().unwrap(), 40);
        }
    }
}

#[test]
fn a_full_disk_refuses_with_retry_and_leaves_everything_as_it_was() {
    let mut rig = Rig::new();
    let links = chain(1, 12);
    let receipts = rig.receipts(&links[..3]);
    let (state, size) = (rig.store.head(links[0].header.recorder).unwrap(), rig.store.log_size().unwrap());
    rig.engine.set_full(true);
    for _ in 0..2 {
        let answers = rig.settle(&[links[2].clone(), links[3].clone(), links[5].clone(), links[3].clone()], None);
        assert_eq!(rig.verified(&links[2], answers[0].clone()), receipts[2], "a duplicate is durable already");
        let retry = Advice::RetryAfter { delay_ms: RETRY_STORAGE_MS };
        assert!(answers[1..].iter().all(|answer| refused(answer) == (RefusalReason::StorageFull, retry)));
        assert_eq!(rig.store.head(links[0].header.recorder).unwrap(), state);
        assert_eq!(rig.store.log_size().unwrap(), size);
    }
    let answers = rig.settle(&[links[3].clone(), links[4].clone()], None);
    assert_eq!(refused(&answers[0]).0, RefusalReason::StorageFull);
    rig.verified(&links[4], answers[1].clone());

    rig.engine.set_full(false);
    rig.receipts(&links);
    assert_eq!(rig.store.head(links[0].header.recorder).unwrap().unwrap().chain.runs().len(), 1);
    assert_eq!(rig.restart().receipts(&links[..3]), receipts);
}

#[test]
fn damage_costs_only_the_one_who_asks_for_it() {
    let mut rig = Rig::new();
    let (first, second) = (chain(1, 1), chain(2, 1));
    rig.receipts(&first);
    let key = crate::store::keys::link(first[0].header.recorder, 0);
    rig.engine.set_value(crate::store::engine::Family::Links, key.as_ref(), None);
    let answers = rig.settle(&[first[0].clone(), second[0].clone()], None);
    assert!(answers[0].is_none());
    rig.verified(&second[0], answers[1].clone());
    assert_eq!(rig.metric("aigaq_segments_total", "failed"), 1.0);
}

impl Rig {
    fn writer_reader(&self) -> crate::log::Reader {
        crate::log::Reader::new(self.store.clone(), self.identity.clone())
    }

    /// Hands the parts to a real writer thread.
    fn start(&self, settings: Settings) -> (super::Queue, super::WriterHandle) {
        let log = Log::open(self.store.clone(), self.identity.clone(), None).unwrap();
        let metrics = Metrics::register(&Registry::new()).unwrap();
        start(self.store.clone(), log, settings, Clock::system(), metrics).unwrap()
    }
}

#[tokio::test]
async fn many_sessions_share_the_writer_and_their_room_comes_back() {
    let rig = Rig::new();
    let (queue, mut handle) = rig.start(Settings { queue_links_max: 4, ..Settings::default() });
    let room = Arc::new(Semaphore::new(1_000));
    let sessions: Vec<_> = (1..=8)
        .map(|recorder| {
            let (queue, room) = (queue.clone(), Arc::clone(&room));
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for link in chain(recorder, 20) {
                    let mut sent = send(&link, None);
                    sent.submission.permit = Some(Arc::clone(&room).acquire_many_owned(400).await.unwrap());
                    queue.submit(sent.submission).await.unwrap();
                    answers.push((link, sent.answer));
                }
                answers
            })
        })
        .collect();
    for session in sessions {
        for (link, answer) in session.await.unwrap() {
            rig.verified(&link, answer.await.ok());
        }
    }
    assert_eq!(room.available_permits(), 1_000);
    assert_eq!(rig.store.log_size().unwrap(), 160);
    handle.close();
    handle.wait().await.unwrap();
}

#[tokio::test]
async fn closing_answers_what_was_handed_over_and_takes_no_more() {
    let rig = Rig::new();
    let (queue, mut handle) = rig.start(Settings::default());
    let links = chain(1, 10);
    let mut answers = Vec::new();
    for link in &links[..9] {
        let sent = send(link, None);
        queue.submit(sent.submission).await.unwrap();
        answers.push(sent.answer);
    }
    handle.close();
    handle.wait().await.unwrap();
    for (link, answer) in links.iter().zip(answers) {
        rig.verified(link, answer.await.ok());
    }
    let late = send(&links[9], None);
    assert_eq!(queue.submit(late.submission).await.unwrap_err().kind(), Kind::Busy);
    assert!(late.answer.await.is_err());
}

#[tokio::test]
async fn the_writer_ends_with_an_error_when_a_commit_fails_and_every_waiter_is_told() {
    let rig = Rig::new();
    let (queue, mut handle) = rig.start(Settings::default());
    rig.engine.fail_commit(1, FailAt::End);
    let links = chain(1, 3);
    let first = send(&links[0], None);
    queue.submit(first.submission).await.unwrap();
    assert!(first.answer.await.is_err());
    assert_eq!(handle.wait().await.unwrap_err().kind(), Kind::Fatal);
    let second = send(&links[1], None);
    assert!(queue.submit(second.submission).await.is_err());
    assert!(second.answer.await.is_err());
}

#[tokio::test]
async fn the_writer_ends_when_nobody_can_reach_it_any_more() {
    let rig = Rig::new();
    let (queue, mut handle) = rig.start(Settings::default());
    drop(queue);
    handle.wait().await.unwrap();
}

#[test]
fn a_revoked_recorder_brings_nothing_more_and_keeps_what_it_brought() {
    let mut rig = Rig::new();
    let links = chain(1, 3);
    rig.receipts(&links[..1]);
    let key = RecorderKey { spki: vec![1], since: 1, not_after: None };
    let record = RecorderRecord {
        id: links[0].header.recorder,
        revoked: Some(Revocation { at: 2, by: "command line".into(), reason: "stolen".into() }),
        ..RecorderRecord::new(RecorderKind::Officer, "Astana".into(), String::new(), key)
    };
    rig.store.enrol(&record).unwrap();
    for mut again in [rig.restart(), rig] {
        assert_eq!(again.settle(&links[..2], None), [None, None], "no answer, not even for a duplicate");
        assert_eq!(again.metric("aigaq_segments_total", "revoked"), 2.0);
        assert!(again.store.link(links[0].header.recorder, 0).unwrap().is_some());
        assert!(again.store.link(links[0].header.recorder, 1).unwrap().is_none());
        again.receipts(&chain(2, 2));
    }
}

/// While the KMS gives nothing, footage waits at its recorders and everything else goes on; then it comes, and nothing is lost.
#[test]
fn without_a_key_footage_comes_again_later_and_has_no_receipt() {
    let home = tempfile::tempdir().unwrap();
    let answers = home.path().join("answers");
    let script = format!("[ -e '{}' ] && exec cat", answers.display());
    let command = vec!["/bin/sh".to_owned(), "-c".to_owned(), script];
    let settings =
        seal::Settings { wrap_command: command.clone(), unwrap_command: command, ..seal::Settings::default() };
    let ring = Ring::open(&home.path().join("keys"), &settings).unwrap();
    let engine = Memory::default();
    let store = Store::with_keys(Arc::new(engine.clone()), Policy::default(), ring).unwrap();
    let mut rig = Rig::on(engine, store, Identity::ephemeral().unwrap(), Settings::default());
    let links = chain(1, 3);
    let outcomes = rig.settle(&links, None);
    assert!(matches!(outcomes[0], Some(Outcome::Receipt(_))), "an initialisation segment is no footage");
    for refused in &outcomes[1..] {
        let Some(Outcome::Refused { reason, advice, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(*reason, RefusalReason::Busy);
        assert!(matches!(advice, Advice::RetryAfter { .. }), "{advice:?}");
    }
    assert_eq!(rig.metric("aigaq_segments_total", "busy"), 2.0);
    assert!(rig.store.link(links[1].header.recorder, 1).unwrap().is_none());
    std::fs::write(answers, "").unwrap();
    let begun = std::time::Instant::now();
    while rig.store.can_seal(links[1].header.recorder, 1_700_000_000_500_000).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the KMS is back and is not asked");
        std::thread::yield_now();
    }
    rig.receipts(&links[1..]);
}
