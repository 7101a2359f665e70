//! The order between recorders: what is of now goes in at once, a backlog when its turn comes (SPEC.md section 11.2).
//!
//! A recorder orders its own links; only the server can order those of many. A link is **present** if it is about now, or the control
//! centre asked for it; all other footage is **backlog**. Present links pass as if there were no backlog. A backlog link
//! waits, unread, so that QUIC holds its recorder back, until one of a few [`Hands`] is free for it and there is room in the backlog's
//! part of the memory ([`Room`](super::admission::Room)). It keeps the hand while its bytes are read and until it
//! has its answer, and gives it back while it waits for room or for the network: a slow path, or a recorder that stalls, holds up nobody.
//! So the work that backlog causes at one time is bounded, whoever brings it, and a present link finds at most that before
//! it: in the queue of tasks, of the writer, of the disk. Hands are given first come, first served, and a recorder waits with
//! few links, so that every backlog moves on. While no present footage comes, the machine is theirs.
//!
//! What is present is what a recorder says and signs. One that calls old footage new has put false times under its name, beside the
//! server's own, and gains no more than a place among the live ones. Nothing is refused here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aigaq_proto::{LinkHeader, Micros};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::Settings;

/// Footage that ended no longer ago than this is of now, microseconds: twice what a recorder calls live itself, for the way and for
/// a clock that is not quite right.
const NOW_US: i128 = 20_000_000;
/// How many links of backlog are worked on at once while nothing present is about. Memory bounds them before.
const PARTS: u32 = 1024;
/// Nothing present is about yet.
const NEVER: u64 = u64::MAX;

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

/// Whether a span is of now. What a clock that runs ahead puts into the future is.
pub(super) fn is_of_now((_, end): Span, now: Micros) -> bool {
    end >= i128::from(now) - NOW_US
}

/// What bounds the work for backlog.
#[derive(Debug)]
pub(super) struct Hands {
    parts: Semaphore,
    /// Parts that one link takes while something present is about.
    hand: u32,
    /// How long something present is about after it came, milliseconds.
    lasts_ms: u64,
    began: Instant,
    /// When the last present footage came, milliseconds after `began`.
    present_ms: AtomicU64,
}

impl Hands {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            parts: Semaphore::new(PARTS as usize),
            hand: PARTS / u32::try_from(settings.hands).unwrap_or(PARTS).clamp(1, PARTS),
            lasts_ms: milliseconds(settings.present_lasts),
            began: Instant::now(),
            present_ms: AtomicU64::new(NEVER),
        }
    }

    /// Present footage comes.
    pub(super) fn present(&self, now: Instant) {
        let now_ms = milliseconds(now.saturating_duration_since(self.began)).min(NEVER - 1);
        self.present_ms.store(now_ms, Ordering::Relaxed);
    }

    /// What a link takes of the parts now.
    fn share(&self, now: Instant) -> u32 {
        let present_ms = self.present_ms.load(Ordering::Relaxed);
        let now_ms = milliseconds(now.saturating_duration_since(self.began));
        let about = present_ms != NEVER && now_ms.saturating_sub(present_ms) < self.lasts_ms;
        if about { self.hand } else { 1 }
    }

    /// The turn of one link, without a hand yet.
    pub(super) fn turn(&self, class: Class) -> Turn<'_> {
        Turn { hands: (class == Class::Backlog).then_some(self), hand: None }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The turn of one link.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// Where its hand comes from, if it needs one.
    hands: Option<&'a Hands>,
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
            self.hand = hands.parts.acquire_many(hands.share(Instant::now())).await.ok();
        }
    }

    /// Gives the hand back, where there is one.
    pub(super) fn rest(&mut self) {
        self.hand = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn footage_is_of_now_by_the_servers_clock_whatever_a_clock_says() {
        let now: Micros = 1_768_641_240_000_000;
        let at = |begin: i128, length: i128| is_of_now((begin, begin + length), now);
        let theirs = i128::from(now);
        assert!(at(theirs, 2_000_000) && at(theirs - NOW_US - 2_000_000, 2_000_000) && at(theirs + NOW_US * 100, 1));
        assert!(!at(theirs - NOW_US - 2_000_001, 2_000_000));
        assert!(!at(-i128::from(i64::MAX), 0) && at(i128::from(u64::MAX) - i128::from(i64::MIN), 0));
    }

    fn hands(hands: usize) -> Hands {
        Hands::new(&Settings { hands, present_lasts: Duration::from_secs(1), ..Settings::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_hand_that_was_given_back_goes_to_who_waited_first() {
        let hands = hands(1);
        hands.present(Instant::now());
        let (mut first, mut second, mut third) =
            (hands.turn(Class::Backlog), hands.turn(Class::Backlog), hands.turn(Class::Backlog));
        first.take().await;
        let mut waiting = Box::pin(second.take());
        assert!(is_pending(waiting.as_mut()).await);
        first.rest();
        assert!(first.waits() && is_pending(std::pin::pin!(third.take())).await, "the second's turn");
        waiting.await;
        assert!(second.has_hand());
        let present = hands.turn(Class::Present);
        assert!(!present.waits() && !present.has_hand(), "what is present needs none");
    }

    /// How many turns get a hand at once.
    async fn at_once(hands: &Hands) -> usize {
        let mut turns: Vec<_> = (0..2_000).map(|_| hands.turn(Class::Backlog)).collect();
        let mut taken = 0;
        for turn in &mut turns {
            taken += usize::from(!is_pending(std::pin::pin!(turn.take())).await);
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn while_nothing_present_is_about_backlog_has_the_machine_to_itself() {
        let hands = hands(16);
        assert_eq!(at_once(&hands).await, PARTS as usize, "nothing has come yet");
        hands.present(Instant::now());
        assert_eq!(at_once(&hands).await, 16);
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(at_once(&hands).await, 16);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(at_once(&hands).await, PARTS as usize);
    }

    /// Whether a future waits when it is asked once.
    async fn is_pending(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        tokio::select! {
            biased;
            () = future => false,
            () = std::future::ready(()) => true,
        }
    }
}
