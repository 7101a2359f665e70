//! The spool's promises, without a network.

use super::*;
use bytes::Bytes;

fn link(sequence: Sequence, bytes: usize, urgent: bool) -> Link {
    Link {
        sequence,
        digest: Digest([1; 32]),
        prelude: Bytes::new(),
        payload: Bytes::from(vec![0; bytes]),
        captured: (sequence * 10, sequence * 10 + 10),
        urgent,
    }
}

async fn next(spool: &Spool) -> (Sequence, Priority) {
    let (link, priority) = spool.next(8).await.unwrap();
    (link.sequence, priority)
}

#[tokio::test]
async fn urgent_links_overtake_requested_ones_and_those_the_rest() {
    let spool = Spool::new(100);
    (0..3).for_each(|sequence| spool.push(link(sequence, 1, false)));
    spool.disconnected();
    spool.push(link(3, 1, false));
    spool.push(link(4, 0, true));
    spool.request(15, 20);
    assert_eq!(next(&spool).await, (4, Priority::Urgent));
    assert_eq!(next(&spool).await, (1, Priority::Requested));
    assert_eq!(next(&spool).await, (3, Priority::Live));
    assert_eq!(next(&spool).await, (0, Priority::Backlog));
    assert_eq!(next(&spool).await, (2, Priority::Backlog));
}

#[tokio::test(start_paused = true)]
async fn a_full_spool_waits_for_a_receipt() {
    let spool = Spool::new(10);
    spool.push(link(0, 8, false));
    spool.room_for(2).await;
    spool.room_for(0).await;
    assert!(tokio::time::timeout(Duration::from_secs(9), spool.room_for(3)).await.is_err());
    assert_eq!(spool.settle(0), Some((8, Duration::ZERO)));
    spool.room_for(99).await;
    assert_eq!(spool.settle(0), None, "a second receipt finds nothing");
}

#[tokio::test(start_paused = true)]
async fn no_more_links_are_under_way_than_the_server_takes() {
    let spool = Spool::new(100);
    (0..3).for_each(|sequence| spool.push(link(sequence, 1, false)));
    assert!(spool.next(2).await.is_some() && spool.next(2).await.is_some());
    assert!(tokio::time::timeout(Duration::from_secs(9), spool.next(2)).await.is_err());
    spool.settle(1);
    assert_eq!(spool.next(2).await.unwrap().0.sequence, 2);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_was_put_off_is_sent_again_after_its_delay() {
    let spool = Spool::new(100);
    spool.push(link(0, 1, false));
    next(&spool).await;
    let begun = Instant::now();
    assert_eq!(spool.put_off(0, Duration::from_secs(7)), Some(1));
    assert_eq!(next(&spool).await.0, 0);
    assert!(begun.elapsed() >= Duration::from_secs(7));
    assert_eq!(spool.put_off(9, Duration::ZERO), None);
}

#[tokio::test]
async fn what_was_in_flight_when_the_connection_broke_is_sent_again() {
    let spool = Spool::new(100);
    spool.push(link(0, 1, false));
    next(&spool).await;
    spool.on_stream(0, 2);
    spool.sent(0);
    assert_eq!((spool.of_stream(2), spool.in_flight().0), (Some(0), 1));
    spool.disconnected();
    assert_eq!((spool.of_stream(2), spool.in_flight().0), (None, 0));
    assert_eq!(next(&spool).await, (0, Priority::Backlog));
}

#[tokio::test]
async fn a_closed_spool_ends_when_its_last_link_leaves() {
    let spool = Spool::new(100);
    spool.push(link(0, 1, false));
    next(&spool).await;
    spool.close();
    assert!(spool.give_up(0));
    assert!(spool.next(8).await.is_none());
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "a peer may ask for one")]
fn the_summary_names_runs_and_times() {
    let spool = Spool::new(100);
    [3, 4, 6].into_iter().for_each(|sequence| spool.push(link(sequence, 5, false)));
    let summary = spool.summary();
    assert_eq!(summary.waiting, [SequenceRange { first: 3, last: 4 }, SequenceRange { first: 6, last: 6 }]);
    assert_eq!((summary.bytes, summary.oldest, summary.newest), (15, Some(30), Some(70)));
    assert!(spool.holds_any(5..7) && !spool.holds_any(5..6) && !spool.holds_any(7..5));
}
