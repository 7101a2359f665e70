//! The spool's promises, without a network.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::facts::LinkKind;
use super::queue::Class;
use super::*;
use aigaq_proto::SequenceRange;
use aigaq_proto::message::Request;

/// The device clock: links with sequence n cover 10 µs from 10 n on.
const NOW: u64 = 1_000_000_000;

fn facts(sequence: Sequence, bytes: u32, kind: LinkKind) -> Facts {
    let span = if kind == LinkKind::Media { 10 } else { 0 };
    Facts { sequence, bytes, begin: NOW + sequence * 10, span, prelude: 0, kind }
}

fn media(sequence: Sequence) -> Facts {
    facts(sequence, 1, LinkKind::Media)
}

/// A mark whose event lasts from `before` seconds before it to `after` seconds after it.
fn mark(sequence: Sequence, before: u32, after: u32) -> Facts {
    Facts { span: before << 16 | after, ..facts(sequence, 0, LinkKind::Mark) }
}

fn link(sequence: Sequence, bytes: u32) -> Link {
    Link {
        facts: facts(sequence, bytes, LinkKind::Media),
        digest: Digest([1; 32]),
        prelude: Bytes::new(),
        payload: Bytes::from(vec![0; bytes as usize]),
    }
}

fn queue() -> Queue {
    Queue::new(Clock::fixed(NOW))
}

fn ranges<const N: usize>(ranges: [(Sequence, Sequence); N]) -> [SequenceRange; N] {
    ranges.map(|(first, last)| SequenceRange { first, last })
}

const AFTER: After = After { ordinal: 0, recording: None, end: 0, settled: true };

async fn next(queue: &Queue) -> (Sequence, Class) {
    let ticket = queue.next(None, 8).await.unwrap();
    (ticket.sequence, ticket.class)
}

async fn late<T>(future: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_secs(9), future).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn urgent_links_overtake_requested_ones_and_those_the_rest() {
    let queue = queue();
    queue.found((0..3).map(media));
    queue.push(media(3));
    queue.push(facts(4, 0, LinkKind::Stop));
    queue.request(Request { id: 1, from: NOW + 15, to: NOW + 20, expires: NOW + 99 });
    assert_eq!(next(&queue).await, (4, Class::Urgent));
    assert_eq!(next(&queue).await, (1, Class::Requested));
    assert_eq!(next(&queue).await, (3, Class::Live));
    assert_eq!(next(&queue).await, (0, Class::Backlog));
    assert_eq!(next(&queue).await, (2, Class::Backlog));
}

#[tokio::test(start_paused = true)]
async fn only_a_link_of_a_greater_class_overtakes_one_that_is_being_sent() {
    let queue = queue();
    queue.found([media(0), media(1)]);
    assert_eq!(next(&queue).await, (0, Class::Backlog));
    assert!(late(queue.next(Some(Class::Backlog), 8)).await);
    queue.push(media(2));
    assert_eq!(queue.next(Some(Class::Backlog), 8).await.unwrap().sequence, 2);
}

#[tokio::test(start_paused = true)]
async fn what_waited_too_long_to_be_live_is_backlog_and_old_footage_always_was() {
    let queue = queue();
    queue.push(media(0));
    tokio::time::advance(Duration::from_secs(10)).await;
    queue.push(media(1));
    queue.push(Facts { begin: NOW - 20_000_000, ..media(2) });
    assert_eq!(next(&queue).await, (1, Class::Live));
    assert_eq!(next(&queue).await, (0, Class::Backlog));
    assert_eq!(next(&queue).await, (2, Class::Backlog));
}

#[tokio::test(start_paused = true)]
async fn a_request_lifts_what_is_held_and_what_is_made_until_it_ends() {
    let queue = queue();
    let request = |id, expires| Request { id, from: NOW, to: NOW + 1_000_000, expires };
    queue.found([Facts { begin: NOW - 50, ..media(0) }, media(1), media(2)]);
    queue.request(request(1, NOW + 10));
    assert_eq!(next(&queue).await, (1, Class::Requested));
    queue.push(media(3));
    queue.cancel(1);
    assert_eq!(next(&queue).await, (3, Class::Live));
    assert_eq!(next(&queue).await, (0, Class::Backlog));
    queue.request(request(2, NOW));
    assert_eq!((next(&queue).await, queue.progress()), ((2, Class::Backlog), vec![]), "it is over already");
}

#[tokio::test(start_paused = true)]
async fn the_neighbourhood_of_a_mark_goes_before_live_links() {
    let queue = queue();
    let second =
        |sequence, second: i64| Facts { begin: NOW.wrapping_add_signed(second * 1_000_000), ..media(sequence) };
    queue.found([second(0, -9), second(1, -4), second(2, -3), mark(3, 0, 0)]);
    queue.push(second(4, 0));
    queue.push(Facts { begin: NOW, ..mark(5, 4, 3) });
    queue.push(second(6, 2));
    queue.push(second(7, 8));
    let mut order = Vec::new();
    for _ in 0..8 {
        let ticket = queue.next(None, 9).await.unwrap();
        order.push(ticket.sequence);
    }
    assert_eq!(order, [3, 5, 1, 2, 4, 6, 7, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_has_is_claimed_and_sent_only_if_it_has_it_not() {
    let queue = queue();
    queue.found((0..5).map(media));
    queue.durable(&ranges([(0, 2), (4, 9), (7, 3)]));
    assert_eq!(next(&queue).await, (3, Class::Backlog));
    assert_eq!(queue.claim(3), [0, 1, 2]);
    queue.claimed(0, Some(Digest([7; 32])));
    queue.claimed(1, Some(Digest([7; 32])));
    queue.claimed(2, None);
    assert!(queue.claim(3).is_empty(), "one claim at a time");
    assert_eq!((queue.digest(0), queue.digest(2)), (Some(Digest([7; 32])), None));
    queue.unclaimed(&ranges([(1, 1), (4, 4)]));
    assert_eq!(next(&queue).await, (1, Class::Backlog));
    queue.remove(0);
    assert_eq!(queue.claim(3), [4]);
    queue.disconnected();
    assert_eq!(next(&queue).await, (1, Class::Backlog), "what was claimed or in flight waits again");
}

#[tokio::test(start_paused = true)]
async fn a_full_spool_waits_for_a_receipt() {
    let spool = Spool::in_memory(10, Clock::fixed(NOW));
    spool.push(link(0, 8), AFTER).await.unwrap();
    spool.room_for(2).await;
    spool.room_for(0).await;
    assert!(late(spool.room_for(3)).await);
    assert_eq!(spool.settle(0).await.unwrap().bytes, 8);
    spool.room_for(99).await;
    assert_eq!(spool.settle(0).await, None, "a second receipt finds nothing");
    assert!(spool.load(0).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn no_more_links_are_under_way_than_the_server_takes() {
    let queue = queue();
    (0..3).for_each(|sequence| queue.push(media(sequence)));
    assert!(queue.next(None, 2).await.is_some() && queue.next(None, 2).await.is_some());
    assert!(late(queue.next(None, 2)).await);
    queue.remove(1);
    assert_eq!(queue.next(None, 2).await.unwrap().sequence, 2);
    queue.hold_back_all();
    queue.push(media(3));
    assert!(late(queue.next(None, 9)).await, "nor any when the server drains");
    queue.disconnected();
    assert_eq!(queue.next(None, 9).await.unwrap().sequence, 3);
}

#[tokio::test(start_paused = true)]
async fn backlog_leaves_room_for_what_is_made_now_until_the_server_answers_it_briskly() {
    let queue = queue();
    queue.found((0..10).map(media));
    for sequence in 0..4 {
        assert_eq!(next(&queue).await, (sequence, Class::Backlog));
        queue.sent(sequence);
    }
    assert!(late(queue.next(None, 32)).await, "four links");
    queue.push(media(10));
    assert_eq!(next(&queue).await, (10, Class::Live));
    queue.remove(0);
    let took = next(&queue).await;
    assert_eq!(
        (took, late(queue.next(None, 32)).await),
        ((4, Class::Backlog), true),
        "one for one: the answer was late"
    );
    queue.sent(4);
    queue.remove(4);
    for sequence in 5..8 {
        assert_eq!(next(&queue).await.0, sequence);
    }
    assert!(late(queue.next(None, 32)).await, "six while it goes well");
}

#[tokio::test(start_paused = true)]
async fn one_large_link_of_backlog_is_under_way_at_a_time() {
    let queue = queue();
    queue.found((0..3).map(|sequence| facts(sequence, 500_000, LinkKind::Media)));
    assert_eq!(next(&queue).await.0, 0);
    assert!(late(queue.next(None, 32)).await);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_was_put_off_is_sent_again_after_its_delay() {
    let queue = queue();
    queue.push(media(0));
    next(&queue).await;
    let begun = Instant::now();
    queue.put_off(0, Duration::from_secs(7));
    queue.put_off(9, Duration::ZERO);
    assert_eq!(next(&queue).await.0, 0);
    assert!(begun.elapsed() >= Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_room_is_not_asked_with_ever_more_links() {
    let queue = queue();
    (0..4).for_each(|sequence| queue.push(media(sequence)));
    for _ in 0..2 {
        let ticket = queue.next(None, 2).await.unwrap();
        queue.put_off(ticket.sequence, Duration::from_secs(20));
    }
    assert!(late(queue.next(None, 2)).await);
    queue.push(facts(4, 0, LinkKind::Stop));
    assert_eq!(queue.next(None, 2).await.unwrap().sequence, 4, "but for what is small");
}

#[tokio::test(start_paused = true)]
async fn links_that_the_server_misses_go_before_the_one_it_refused() {
    let queue = queue();
    queue.found((0..2).map(media));
    queue.push(media(2));
    assert_eq!(next(&queue).await, (2, Class::Live));
    let delay = |refusals: u8| Duration::from_secs(u64::from(refusals) + 1);
    assert_eq!(queue.resend(2, 0, delay), Some(0));
    queue.push(media(3));
    assert_eq!(next(&queue).await, (0, Class::Live));
    assert_eq!(next(&queue).await, (1, Class::Live));
    queue.remove(0);
    queue.remove(1);
    assert_eq!((queue.resend(2, 0, delay), queue.resend(2, 0, delay)), (Some(1), Some(2)));
    assert_eq!((queue.resend(2, 9, delay), queue.resend(9, 0, delay)), (Some(3), None), "whatever the server says");
}

#[tokio::test(start_paused = true)]
async fn what_was_in_flight_when_the_connection_broke_is_sent_again() {
    let queue = queue();
    queue.push(media(0));
    next(&queue).await;
    queue.on_stream(0, 2, Digest([1; 32]));
    queue.sent(0);
    assert_eq!((queue.of_stream(2), queue.digest(0), queue.due().0), (Some(0), Some(Digest([1; 32])), 1));
    queue.disconnected();
    assert_eq!((queue.of_stream(2), queue.digest(0), queue.due().0), (None, None, 0));
    assert_eq!(next(&queue).await.0, 0);
}

/// How long the server may still be silent, seconds.
fn patience(queue: &Queue) -> Option<u64> {
    queue.due().1.map(|until| until.duration_since(Instant::now()).as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_is_given_up_sooner_for_a_live_link_than_for_backlog_that_waits_for_its_turn() {
    let queue = queue();
    queue.found((0..4).map(media));
    assert_eq!(next(&queue).await, (0, Class::Backlog));
    assert_eq!(patience(&queue), None, "it is not sent yet");
    queue.sent(0);
    assert_eq!(patience(&queue), Some(600));
    queue.push(media(4));
    assert_eq!(next(&queue).await, (4, Class::Live));
    queue.sent(4);
    tokio::time::advance(Duration::from_secs(20)).await;
    assert!(next(&queue).await.1 == Class::Backlog, "what is made now is backlog in a while");
    assert_eq!(patience(&queue), Some(40), "but was sent as what it was");
    queue.remove(4);
    assert_eq!(patience(&queue), Some(600), "an answer shows that the server lives");
}

#[tokio::test]
async fn a_closed_spool_ends_when_its_last_link_leaves() {
    let spool = Spool::in_memory(100, Clock::fixed(NOW));
    spool.push(link(0, 1), AFTER).await.unwrap();
    next(spool.queue()).await;
    spool.close();
    assert!(spool.give_up(0).await);
    assert!(spool.queue().next(None, 8).await.is_none());
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "a peer may ask for one")]
fn the_summary_names_runs_and_times() {
    let queue = queue();
    queue.found([3, 4, 6].map(|sequence| facts(sequence, 5, LinkKind::Media)));
    let summary = queue.summary();
    assert_eq!(summary.waiting, ranges([(3, 4), (6, 6)]));
    assert_eq!((summary.bytes, summary.oldest, summary.newest), (15, Some(NOW + 30), Some(NOW + 70)));
    assert!(queue.holds_any(5..7) && !queue.holds_any(5..6) && !queue.holds_any(7..5));
}

/// A spool on disk of so many bytes with links 0 to `count` − 1, each with a block and a bit.
async fn on_disk_with(dir: &Path, bytes: u64, count: u64) -> Spool {
    let (spool, _) = Spool::open(dir, &dir.join("departed"), disk::tests::ID, bytes, Clock::fixed(NOW)).unwrap();
    for sequence in 0..count {
        assert!(spool.push(disk::tests::link_at(sequence, &[7; 5000]), AFTER).await.unwrap());
    }
    spool
}

#[tokio::test]
async fn links_on_disk_are_offered_again_after_a_restart_and_leave_with_their_receipt() {
    let dir = tempfile::tempdir().unwrap();
    drop(on_disk_with(dir.path(), 1 << 20, 3).await);
    let (spool, _) =
        Spool::open(dir.path(), &dir.path().join("departed"), disk::tests::ID, 1 << 20, Clock::fixed(NOW)).unwrap();
    assert_eq!(next(spool.queue()).await, (0, Class::Backlog));
    let link = spool.load(0).await.unwrap().unwrap();
    assert_eq!((link.facts.sequence, link.payload.len()), (0, 5000));
    assert_eq!(spool.settle(0).await.unwrap().bytes, 5000);
    drop(spool);
    let (spool, _) =
        Spool::open(dir.path(), &dir.path().join("departed"), disk::tests::ID, 1 << 20, Clock::fixed(NOW)).unwrap();
    assert_eq!(spool.summary().waiting, [SequenceRange { first: 1, last: 2 }]);
    spool.settle(1).await;
    assert_eq!(spool.queue().held().links, 1);
}

#[tokio::test]
async fn a_link_that_does_not_read_back_waits_for_the_link_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let spool = on_disk_with(dir.path(), 1 << 20, 3).await;
    let facts = spool.queue().facts(1).unwrap();
    let path = dir.path().join(facts.file_name());
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(spool.load(1).await.unwrap().is_none());
    spool.damage().await;
    assert_eq!(spool.take_damaged(), [facts]);
    assert_eq!((spool.take_damaged().len(), spool.queue().held().links), (0, 3));
    spool.queue().disconnected();
    assert_eq!((next(spool.queue()).await.0, next(spool.queue()).await.0), (0, 2), "it is not sent");
    spool.forget(&[facts]).await;
    assert!(!path.exists() && spool.queue().held().links == 2);
}

#[tokio::test]
async fn the_oldest_footage_makes_room_unless_it_was_asked_for_or_is_near_a_mark() {
    let dir = tempfile::tempdir().unwrap();
    // Each link takes two blocks, footage leaves 64 KiB / 8 to others.
    let spool = on_disk_with(dir.path(), 65_536, 6).await;
    assert!(!spool.fits(5000) && spool.fits(0) && spool.can_ever_fit(5000) && !spool.can_ever_fit(60_000));
    let sequences = |spool: &Spool| spool.victims(5000).iter().map(|facts| facts.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(&spool), [1, 2], "the start stays");
    next(spool.queue()).await;
    assert_eq!(next(spool.queue()).await.0, 1);
    assert_eq!(sequences(&spool), [2, 3], "what is under way stays");
    let begin = spool.queue().facts(2).unwrap().begin;
    spool.queue().request(Request { id: 1, from: begin, to: begin + 1, expires: NOW + 99 });
    assert_eq!(sequences(&spool), [3, 4], "what was asked for stays");
}

#[tokio::test]
async fn footage_near_a_mark_does_not_go() {
    let dir = tempfile::tempdir().unwrap();
    let spool = on_disk_with(dir.path(), 65_536, 5).await;
    assert!(spool.push(disk::tests::link_at(5, b""), AFTER).await.unwrap());
    assert!(!spool.fits(5000));
    assert_eq!(spool.victims(5000), []);
}

#[tokio::test]
async fn a_link_that_the_server_never_takes_stays_until_its_room_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let spool = on_disk_with(dir.path(), 65_536, 2).await;
    let facts = spool.queue().facts(0).unwrap();
    assert!(spool.give_up(0).await);
    let aside = dir.path().join(format!("aside-{}", facts.file_name()));
    assert!(aside.exists());
    for sequence in 2..8 {
        assert!(spool.push(disk::tests::link_at(sequence, &[7; 5000]), AFTER).await.unwrap());
    }
    assert!(aside.exists());
    assert!(spool.push(disk::tests::link_at(8, &[7; 5000]), AFTER).await.unwrap());
    assert!(!aside.exists());
    assert!(!spool.push(disk::tests::link_at(9, &[7; 5000]), AFTER).await.unwrap(), "the rest stays");
    assert!(spool.give_up(8).await);
    let (spool, last) =
        Spool::open(dir.path(), &dir.path().join("departed"), disk::tests::ID, 65_536, Clock::fixed(NOW)).unwrap();
    assert!(matches!(last, Last::Known { end, own: true, .. } if end.sequence == 8), "{last:?}");
    assert_eq!(spool.summary().waiting, [SequenceRange { first: 1, last: 7 }]);
}

#[tokio::test]
async fn of_links_that_left_before_the_spool_was_opened_only_the_server_knows_what_became() {
    let dir = tempfile::tempdir().unwrap();
    let spool = on_disk_with(dir.path(), 1024 * 1024, 5).await;
    spool.settle(0).await;
    let named = spool.queue().facts(1).unwrap();
    spool.missing(SequenceRange { first: 1, last: 1 });
    spool.forget(&[named]).await;
    assert_eq!((spool.fate(0..1, None), spool.fate(0..2, None)), (Fate::Received, Fate::Missing));
    drop(spool);
    let spool = Spool::open(dir.path(), &dir.path().join("departed"), disk::tests::ID, 1024 * 1024, Clock::fixed(NOW))
        .unwrap()
        .0;
    let has = |durable: [(Sequence, Sequence); 1]| spool.fate(0..2, Some(&ranges(durable)));
    assert_eq!(spool.fate(0..2, None), Fate::Waiting, "nobody has said anything yet");
    assert_eq!((has([(0, 0)]), has([(0, 1)])), (Fate::Missing, Fate::Received));
    assert_eq!(spool.fate(2..4, None), Fate::Waiting);
    spool.settle(2).await;
    spool.settle(3).await;
    assert_eq!(spool.fate(2..4, None), Fate::Received, "their receipts were verified here");
}
