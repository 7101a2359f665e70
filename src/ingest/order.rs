//! The order between recorders: what is of now goes in at once, a backlog when its turn comes (SPEC.md section 11.2).
//!
//! A recorder orders its own links; only the server can order those of many. A link is **present** if it is about now, or the control
//! centre asked for it; all other footage is **backlog**. Present links pass as if there were no backlog. A backlog link
//! waits, unread, so that QUIC holds its recorder back, until there is room in the backlog's part of the memory
//! ([`Room`](super::admission::Room)) and one of a few [`Hands`] is free for it. It keeps the hand while its bytes are read and until it
//! has its answer, and gives it back while it waits for the network: a slow path, or a recorder that stalls, holds up nobody.
//! So the work that backlog causes at one time is bounded, whoever brings it, and a present link finds at most that before
//! it: in the queue of tasks, of the writer, of the disk. Hands are given first come, first served, and a recorder waits with
//! few links, so that every backlog moves on; with nothing present about, all the machine is theirs.
//!
//! One number of hands for everybody, and no queue that looks at what is present: with as many as keep the machine busy, a present
//! link waits for some milliseconds of work, and there is nothing to adapt.
//!
//! What is present is what a recorder says, so it has an [`Allowance`]: footage beyond what a camera makes is backlog, whatever its times.
//! Nothing is refused here.

use std::sync::{Mutex, PoisonError};

use aigaq_proto::{LinkHeader, Micros};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::Settings;

/// Footage that ended no longer ago than this, or begins no later from now, is of now: a short loss of the network, and a clock
/// that has stepped, microseconds.
const NOW_US: i128 = 60_000_000;
/// What a recorder's present footage may bring in the long run, bytes per second: 20 Mbit/s.
const PRESENT_BYTES_PER_S: f64 = 2_500_000.0;
/// The least that one link counts, seconds of that rate: ten links a second.
const LINK_COST_MIN_S: f64 = 0.1;
/// What may come at once, seconds of that rate.
const ALLOWANCE_MAX_S: f64 = 10.0;
/// What is left of that for what is of now, whatever the centre asks for.
const KEPT_FOR_NOW_S: f64 = 5.0;

/// Which links go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// At once.
    Present,
    /// When its turn comes.
    Backlog,
}

/// When a link was captured by the server's clock, microseconds: the beginning and the end of its span. The clock of a recorder may say
/// anything.
pub(super) type Span = (i128, i128);

/// The span of a link whose device's clock is off by `offset_us`.
pub(super) fn span(header: &LinkHeader, offset_us: i64) -> Span {
    let begin = i128::from(header.captured_at) - i128::from(offset_us);
    (begin, begin + i128::from(header.duration_us))
}

/// Whether a span is of now.
pub(super) fn is_of_now((begin, end): Span, now: Micros) -> bool {
    let now = i128::from(now);
    end >= now - NOW_US && begin <= now + NOW_US
}

/// Why footage would go at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is of now.
    Now,
    /// The centre asked for it.
    Asked,
}

/// What a recorder's footage may still bring as present. All connections of a recorder share one.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Seconds of the rate that are left, below nothing after a large link; and when that was so.
    left: Mutex<(f64, Instant)>,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: Mutex::new((ALLOWANCE_MAX_S, now)) }
    }

    /// Whether a payload of `bytes` may go at once; it is counted then.
    pub(super) fn take(&self, bytes: u32, claim: Claim, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(left.1).as_secs_f64();
        *left = ((left.0 + gained).min(ALLOWANCE_MAX_S), now.max(left.1));
        let kept = match claim {
            Claim::Now => 0.0,
            Claim::Asked => KEPT_FOR_NOW_S,
        };
        let may = left.0 > kept;
        if may {
            left.0 -= (f64::from(bytes) / PRESENT_BYTES_PER_S).max(LINK_COST_MIN_S);
        }
        may
    }
}

/// What bounds the work for backlog.
#[derive(Debug)]
pub(super) struct Hands(Semaphore);

impl Hands {
    pub(super) fn new(settings: &Settings) -> Self {
        Self(Semaphore::new(settings.hands.clamp(1, Semaphore::MAX_PERMITS)))
    }

    /// The turn of one link, without a hand yet.
    pub(super) fn turn(&self, class: Class) -> Turn<'_> {
        Turn { hands: (class == Class::Backlog).then_some(&self.0), hand: None }
    }
}

/// The turn of one link.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// Where its hand comes from, if it needs one.
    hands: Option<&'a Semaphore>,
    hand: Option<SemaphorePermit<'a>>,
}

impl Turn<'_> {
    /// Whether a hand must be taken before the link goes on.
    pub(super) fn waits(&self) -> bool {
        self.hands.is_some() && self.hand.is_none()
    }

    /// Whether it has a hand.
    pub(super) fn has_hand(&self) -> bool {
        self.hand.is_some()
    }

    /// Takes a hand, first come first served. Cancel-safe: nothing is taken then.
    pub(super) async fn take(&mut self) {
        if let (Some(hands), None) = (self.hands, &self.hand) {
            self.hand = hands.acquire().await.ok();
        }
    }

    /// Gives the hand back, where there is one.
    pub(super) fn rest(&mut self) {
        self.hand = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn footage_is_of_now_by_the_servers_clock_whatever_a_clock_says() {
        let now: Micros = 1_768_641_240_000_000;
        let at = |begin: i128, length: i128| is_of_now((begin, begin + length), now);
        let theirs = i128::from(now);
        assert!(
            at(theirs, 2_000_000) && at(theirs - NOW_US - 2_000_000, 2_000_000) && at(theirs + NOW_US, 300_000_000)
        );
        assert!(!at(theirs - NOW_US - 2_000_001, 2_000_000) && !at(theirs + NOW_US + 1, 0));
        for (captured, offset) in [(0, i64::MAX), (0, i64::MIN), (i128::from(u64::MAX), i64::MIN)] {
            assert!(!at(captured - i128::from(offset), 0));
        }
    }

    /// How many of the links at one time of a second are present, with payloads of `bytes`.
    fn present(allowance: &Allowance, start: Instant, at_s: u64, links: usize, bytes: u32) -> usize {
        let now = start + Duration::from_secs(at_s);
        (0..links).filter(|_| allowance.take(bytes, Claim::Now, now)).count()
    }

    #[test]
    fn no_more_footage_is_present_than_a_camera_makes() {
        let start = Instant::now();
        let allowance = Allowance::new(start);
        assert_eq!(present(&allowance, start, 0, 1_000, 2_500_000), 10, "ten seconds of 20 Mbit/s");
        assert_eq!(present(&allowance, start, 7, 1_000, 2_500_000), 7);
        assert_eq!(present(&allowance, start, 1_000, 1_000, 2_500_000), 10, "what was not used up is not saved up");
        let small = present(&allowance, start, 1_003, 1_000, 1);
        assert!((30..=31).contains(&small), "{small} small links in three seconds");
    }

    #[test]
    fn a_link_larger_than_the_allowance_is_paid_off_afterwards() {
        let start = Instant::now();
        let allowance = Allowance::new(start);
        assert_eq!(present(&allowance, start, 0, 9, 32 << 20), 1);
        assert_eq!(present(&allowance, start, 3, 9, 1_000), 0);
        assert!(present(&allowance, start, 4, 9, 1_000) > 0);
    }

    #[test]
    fn what_the_centre_asks_for_leaves_half_to_what_is_of_now() {
        let start = Instant::now();
        let allowance = Allowance::new(start);
        let asked = (0..100).filter(|_| allowance.take(2_500_000, Claim::Asked, start)).count();
        assert_eq!((asked, present(&allowance, start, 0, 100, 2_500_000)), (5, 5));
    }

    #[tokio::test]
    async fn a_hand_that_was_given_back_goes_to_who_waited_first() {
        let hands = Hands::new(&Settings { hands: 1, ..Settings::default() });
        let (mut first, mut second, mut third) =
            (hands.turn(Class::Backlog), hands.turn(Class::Backlog), hands.turn(Class::Backlog));
        first.take().await;
        let mut waiting = Box::pin(second.take());
        assert!(futures_pending(waiting.as_mut()).await);
        first.rest();
        assert!(first.waits() && futures_pending(std::pin::pin!(third.take())).await, "the second's turn");
        waiting.await;
        assert!(second.has_hand());
        let present = hands.turn(Class::Present);
        assert!(!present.waits() && !present.has_hand(), "what is present needs none");
    }

    /// Whether a future waits when it is asked once.
    async fn futures_pending(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        tokio::select! {
            biased;
            () = future => false,
            () = std::future::ready(()) => true,
        }
    }
}
