//! Decisions about links, against an empty store and against one that has some.

use aigaq_proto::{Content, Digest, LinkHeader, RecorderId, Sequence, link};
use bytes::Bytes;
use proptest::prelude::*;

use super::{Decision, Heads, Offer, Quotas, Staged};
use crate::store::records::{Body, HeadRecord, LinkRecord, QuarantineRecord};
use crate::store::{Commit, NewLink, NewQuarantine, Store};

const RECORDER: RecorderId = RecorderId([7; 16]);

/// A link that names `previous`, made different by `salt`.
fn header(sequence: Sequence, previous: Digest, salt: u64) -> LinkHeader {
    LinkHeader {
        recorder: RECORDER,
        sequence,
        previous,
        captured_at: 1_000 + salt,
        duration_us: 0,
        payload_length: 0,
        payload_digest: Digest::of(b""),
        content: Content::ClockStep { before: 0, after: salt },
        fixes: Vec::new(),
    }
}

fn digest(header: &LinkHeader) -> Digest {
    link::digest(&header.encode().unwrap())
}

/// A chain of `count` links; the one at `broken` names a predecessor that nobody sent.
fn chain(count: u64, broken: Option<u64>) -> Vec<LinkHeader> {
    let mut previous = Digest::ZERO;
    let mut links = Vec::new();
    for sequence in 0..count {
        let named = if broken == Some(sequence) { Digest([9; 32]) } else { previous };
        let link = header(sequence, named, 0);
        previous = digest(&link);
        links.push(link);
    }
    links
}

fn decide(staged: &mut Staged<'_>, header: &LinkHeader, faulty: bool) -> Decision {
    staged.decide(&Offer { header, digest: digest(header), received_at: 5, faulty }).unwrap()
}

fn new_link(header: &LinkHeader) -> NewLink {
    let record = LinkRecord {
        header: header.encode().unwrap(),
        signature: vec![0; 64],
        received_at: 5,
        clock: None,
        body: Body::None,
        log_index: 0,
        tree_size: 0,
    };
    NewLink { header: header.clone(), digest: digest(header), record, payload: Bytes::new() }
}

/// Judges and stores links in one commit, as the writer does.
fn take(heads: &mut Heads, store: &Store, links: &[LinkHeader], faulty: bool) -> Vec<Decision> {
    let mut commit = Commit { number: store.next_commit(), ..Commit::default() };
    let mut staged = heads.stage();
    let mut decisions = Vec::new();
    for header in links {
        let decision = decide(&mut staged, header, faulty);
        match decision {
            Decision::New { .. } => commit.links.push(new_link(header)),
            Decision::Fork => commit.forks.push(new_link(header)),
            Decision::Quarantine => commit.quarantined.push(NewQuarantine {
                recorder: RECORDER,
                record: QuarantineRecord {
                    reason: aigaq_proto::message::RefusalReason::BadSignature,
                    header: header.encode().unwrap(),
                    signature: vec![0; 64],
                    received_at: 5,
                    payload_digest: Digest::of(b""),
                    payload_length: 0,
                    body: Body::None,
                },
                payload: Bytes::new(),
            }),
            _ => {}
        }
        decisions.push(decision);
    }
    commit.heads = staged.changed();
    store.commit(commit).unwrap();
    staged.settle();
    decisions
}

fn heads(store: &Store) -> Heads {
    Heads::new(store.clone(), Quotas::default())
}

fn state(store: &Store) -> HeadRecord {
    store.head(RECORDER).unwrap().unwrap()
}

proptest! {
    #[test]
    fn any_order_of_arrival_in_any_batches_gives_the_same_state(
        order in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(),
        cuts in proptest::collection::vec(1..5_usize, 12),
        broken in proptest::option::of(1..12_u64),
    ) {
        let links = chain(12, broken);
        let in_order = Store::memory();
        take(&mut heads(&in_order), &in_order, &links, false);

        let store = Store::memory();
        let mut cache = heads(&store);
        let mut rest = &order[..];
        let mut breaks = 0;
        for cut in cuts {
            let (batch, later) = rest.split_at(cut.min(rest.len()));
            rest = later;
            let batch: Vec<_> = batch.iter().map(|index| links[*index].clone()).collect();
            for decision in take(&mut cache, &store, &batch, false) {
                match decision {
                    Decision::New { breaks: opened } => breaks += opened,
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        prop_assert_eq!(state(&store), state(&in_order));
        prop_assert_eq!(breaks, usize::from(broken.is_some()));
        prop_assert_eq!(state(&store).chain.gaps(), vec![]);
    }
}

#[test]
fn islands_join_when_their_gap_fills() {
    let (store, links) = (Store::memory(), chain(5, None));
    let mut cache = heads(&store);
    take(&mut cache, &store, &[links[0].clone(), links[3].clone(), links[1].clone()], false);
    assert_eq!(state(&store).chain.gaps().len(), 1);
    take(&mut cache, &store, &[links[4].clone(), links[2].clone()], false);
    assert_eq!(state(&store).chain.runs().len(), 1);
    assert_eq!(state(&store).chain.head().unwrap().sequence, 4);
}

#[test]
fn a_duplicate_is_known_within_its_batch_later_and_after_a_restart() {
    let (store, links) = (Store::memory(), chain(2, None));
    let mut cache = heads(&store);
    let decisions = take(&mut cache, &store, &[links[0].clone(), links[0].clone()], false);
    assert_eq!(decisions, [Decision::New { breaks: 0 }, Decision::Repeat]);
    let expected = Decision::Duplicate(Box::new(store.link(RECORDER, 0).unwrap().unwrap()));
    assert_eq!(decide(&mut cache.stage(), &links[0], false), expected);
    assert_eq!(decide(&mut heads(&store).stage(), &links[0], false), expected);
}

#[test]
fn both_sides_of_a_fork_are_kept_and_each_only_once() {
    let (store, links) = (Store::memory(), chain(2, None));
    let mut cache = heads(&store);
    let other = header(1, digest(&links[0]), 1);
    let third = header(1, digest(&links[0]), 2);
    let batch = [links[0].clone(), links[1].clone(), other.clone(), other.clone()];
    let decisions = take(&mut cache, &store, &batch, false);
    assert_eq!(decisions[2..], [Decision::Fork, Decision::KnownFork]);
    assert_eq!(take(&mut cache, &store, &[other.clone(), third], false), [Decision::KnownFork, Decision::Fork]);
    assert_eq!(state(&store).forks, 2);
    assert_eq!(state(&store).chain.head().unwrap().digest, digest(&links[1]), "the first side stays in the chain");
    assert!(store.fork(RECORDER, 1, digest(&other)).unwrap().is_some());
}

#[test]
fn a_link_in_quarantine_is_kept_once_and_does_not_block_its_good_copy() {
    let (store, links) = (Store::memory(), chain(1, None));
    let mut cache = heads(&store);
    let decisions = take(&mut cache, &store, &[links[0].clone(), links[0].clone()], true);
    assert_eq!(decisions, [Decision::Quarantine, Decision::KnownQuarantine]);
    assert_eq!(decide(&mut cache.stage(), &links[0], true), Decision::KnownQuarantine);
    assert_eq!(decide(&mut heads(&store).stage(), &links[0], true), Decision::KnownQuarantine);
    assert_eq!(take(&mut cache, &store, &links, false), [Decision::New { breaks: 0 }]);
    assert_eq!(state(&store).quarantined, 1);
}

#[test]
fn a_quota_bounds_what_is_kept_beside_the_chain() {
    let (store, links) = (Store::memory(), chain(1, None));
    let mut cache = Heads::new(store.clone(), Quotas { forks_max: 2, quarantined_max: 2 });
    take(&mut cache, &store, &links, false);
    let others: Vec<_> = (1..5).map(|salt| header(0, Digest::ZERO, salt)).collect();
    let decisions = take(&mut cache, &store, &others, false);
    assert_eq!(decisions, [Decision::Fork, Decision::Fork, Decision::OverQuota, Decision::OverQuota]);
    let decisions = take(&mut cache, &store, &others, true);
    let (first, again) = (Decision::Unkept { again: false }, Decision::Unkept { again: true });
    assert_eq!(decisions, [Decision::Quarantine, Decision::Quarantine, first.clone(), first]);
    let decisions = take(&mut cache, &store, &others, true);
    assert_eq!(decisions, [Decision::KnownQuarantine, Decision::KnownQuarantine, again.clone(), again]);
    assert_eq!(store.forks(RECORDER).count(), 2);
    assert_eq!(store.quarantine(RECORDER).count(), 2);
}

#[test]
fn what_is_remembered_of_links_that_were_not_kept_is_bounded() {
    let mut cache = heads(&Store::memory());
    let numbered = |number: usize| Digest::of(&number.to_be_bytes());
    assert!((0..40_000).all(|number| cache.remember_unkept(RECORDER, numbered(number))));
    assert!(!cache.remember_unkept(RECORDER, numbered(39_999)));
    assert!(cache.remember_unkept(RECORDER, numbered(0)), "the oldest are forgotten");
}

#[test]
fn a_sequence_far_beyond_the_chain_is_told_where_to_begin() {
    let (store, links) = (Store::memory(), chain(2, None));
    let mut cache = heads(&store);
    take(&mut cache, &store, &links, false);
    let far = header(2_000_000, Digest([1; 32]), 0);
    assert_eq!(decide(&mut cache.stage(), &far, false), Decision::TooFar { resend_from: 2 });
}

#[test]
fn a_batch_that_is_dropped_leaves_no_trace() {
    let (store, links) = (Store::memory(), chain(3, None));
    let mut cache = heads(&store);
    take(&mut cache, &store, &links[..1], false);
    let mut staged = cache.stage();
    decide(&mut staged, &links[1], false);
    decide(&mut staged, &links[2], true);
    decide(&mut staged, &header(0, Digest::ZERO, 1), false);
    drop(staged);
    assert_eq!(*cache.head(RECORDER).unwrap(), state(&store));
    let decisions = take(&mut cache, &store, &links[1..], false);
    assert_eq!(decisions, [Decision::New { breaks: 0 }, Decision::New { breaks: 0 }]);
}
