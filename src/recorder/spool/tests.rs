//! The spool's promises, without a network.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::queue::{Class, Facts};
use super::*;
use aigaq_proto::{Digest, SequenceRange};

fn facts(sequence: Sequence, bytes: u32, urgent: bool) -> Facts {
    Facts { sequence, bytes, begin: sequence * 10, duration_us: 10, urgent }
}

fn link(sequence: Sequence, bytes: u32) -> Link {
    Link {
        facts: facts(sequence, bytes, false),
        digest: Digest([1; 32]),
        prelude: Bytes::new(),
        payload: Bytes::from(vec![0; bytes as usize]),
    }
}

async fn next(queue: &Queue) -> (Sequence, Class) {
    let ticket = queue.next(8).await.unwrap();
    (ticket.sequence, ticket.class)
}

async fn late<T>(future: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_secs(9), future).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn urgent_links_overtake_requested_ones_and_those_the_rest() {
    let queue = Queue::default();
    queue.found((0..3).map(|sequence| facts(sequence, 1, false)));
    queue.push(facts(3, 1, false));
    queue.push(facts(4, 0, true));
    queue.request(15, 20);
    assert_eq!(next(&queue).await, (4, Class::Urgent));
    assert_eq!(next(&queue).await, (1, Class::Requested));
    assert_eq!(next(&queue).await, (3, Class::Live));
    assert_eq!(next(&queue).await, (0, Class::Backlog));
    assert_eq!(next(&queue).await, (2, Class::Backlog));
}

#[tokio::test(start_paused = true)]
async fn what_waited_too_long_to_be_live_is_backlog() {
    let queue = Queue::default();
    queue.push(facts(0, 1, false));
    tokio::time::advance(Duration::from_secs(10)).await;
    queue.push(facts(1, 1, false));
    assert_eq!(next(&queue).await, (1, Class::Live));
    assert_eq!(next(&queue).await, (0, Class::Backlog));
}

#[test]
fn the_priority_of_a_stream_is_its_own_and_falls_with_class_and_sequence() {
    let priority = |class, sequence| queue::Ticket { sequence, class }.priority();
    let falling = [
        priority(Class::Urgent, 7),
        priority(Class::Requested, 0),
        priority(Class::Requested, 1),
        priority(Class::Live, (1 << 28) - 1),
        priority(Class::Backlog, 0),
        priority(Class::Backlog, 1),
    ];
    assert!(falling.is_sorted_by(|one, next| one > next) && falling[5] > 0, "{falling:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_spool_waits_for_a_receipt() {
    let spool = Spool::new(10);
    spool.push(link(0, 8)).await.unwrap();
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
    let queue = Queue::default();
    (0..3).for_each(|sequence| queue.push(facts(sequence, 1, false)));
    assert!(queue.next(2).await.is_some() && queue.next(2).await.is_some());
    assert!(late(queue.next(2)).await);
    queue.remove(1);
    assert_eq!(queue.next(2).await.unwrap().sequence, 2);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_was_put_off_is_sent_again_after_its_delay() {
    let queue = Queue::default();
    queue.push(facts(0, 1, false));
    next(&queue).await;
    let begun = Instant::now();
    assert_eq!(queue.put_off(0, Duration::from_secs(7)), Some(1));
    assert_eq!(next(&queue).await.0, 0);
    assert!(begun.elapsed() >= Duration::from_secs(7));
    assert_eq!(queue.put_off(9, Duration::ZERO), None);
}

#[tokio::test(start_paused = true)]
async fn what_was_in_flight_when_the_connection_broke_is_sent_again() {
    let queue = Queue::default();
    queue.push(facts(0, 1, false));
    next(&queue).await;
    queue.on_stream(0, 2, Digest([1; 32]));
    queue.sent(0);
    assert_eq!((queue.of_stream(2), queue.digest(0), queue.in_flight().0), (Some(0), Some(Digest([1; 32])), 1));
    queue.disconnected();
    assert_eq!((queue.of_stream(2), queue.digest(0), queue.in_flight().0), (None, None, 0));
    assert_eq!(next(&queue).await.0, 0);
}

#[tokio::test]
async fn a_closed_spool_ends_when_its_last_link_leaves() {
    let spool = Spool::new(100);
    spool.push(link(0, 1)).await.unwrap();
    next(spool.queue()).await;
    spool.close();
    assert!(spool.give_up(0).await);
    assert!(spool.queue().next(8).await.is_none());
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "a peer may ask for one")]
fn the_summary_names_runs_and_times() {
    let queue = Queue::default();
    queue.found([3, 4, 6].map(|sequence| facts(sequence, 5, false)));
    let summary = queue.summary();
    assert_eq!(summary.waiting, [SequenceRange { first: 3, last: 4 }, SequenceRange { first: 6, last: 6 }]);
    assert_eq!((summary.bytes, summary.oldest, summary.newest), (15, Some(30), Some(70)));
    assert!(queue.holds_any(5..7) && !queue.holds_any(5..6) && !queue.holds_any(7..5));
}
