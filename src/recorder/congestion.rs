//! How much may be under way at once: Cubic (RFC 9438), but never less than a new connection may send, for as long as nothing waits
//! in the network.
//!
//! On a path that loses datagrams without being full, Cubic ends at two under way. Then all of them are often lost, nothing comes
//! back, and the sender waits for a timeout that doubles each time: seconds of silence, though the path would carry more.
//! Ten datagrams are what any connection may send before it knows anything of its path (RFC 9002 section 7.2); among
//! ten some arrive. Where round trips take longer than the empty path's, a queue is full: then loss is congestion,
//! and Cubic alone decides, so that many recorders behind one narrow line do not hold it full.
//!
//! Pure: handed `now` and what was acknowledged.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;

/// The least window of a path without a queue, datagrams.
const FLOOR_DATAGRAMS: u64 = 10;
/// A round trip that takes so much longer than the fastest, and a quarter of that, has waited in a queue. An
/// acknowledgement alone may take 25 ms longer.
const QUEUE_MIN: Duration = Duration::from_millis(50);
/// How long a round trip counts as recent, at least.
const RECENT_MIN: Duration = Duration::from_millis(100);

/// Makes the controller of each path.
#[derive(Debug, Clone, Default)]
pub(super) struct FloorConfig {
    cubic: Arc<CubicConfig>,
}

impl ControllerFactory for FloorConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = self.cubic.clone().build(now, current_mtu);
        Box::new(Floor { cubic, mtu: current_mtu.into(), recent: Recent::default(), queued: false })
    }
}

/// Cubic with a floor. `benches/README.md` has what else was measured.
struct Floor {
    cubic: Box<dyn Controller>,
    mtu: u64,
    recent: Recent,
    /// Whether the newest round trips say that a queue has built up.
    queued: bool,
}

/// The fastest of the recent round trips. Each is measured by its own datagram, so that one whose acknowledgement was lost, which
/// looks slow, hides nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    since: Option<Instant>,
    now: Option<Duration>,
    before: Option<Duration>,
}

impl Recent {
    fn saw(&mut self, trip: Duration, now: Instant, fastest: Duration) -> Duration {
        let period = RECENT_MIN.max(fastest * 2);
        if self.since.is_none_or(|since| now.saturating_duration_since(since) > period) {
            *self = Self { since: Some(now), before: self.now, now: None };
        }
        let least = self.now.map_or(trip, |other| other.min(trip));
        self.now = Some(least);
        self.before.map_or(least, |before| before.min(least))
    }
}

/// Whether a round trip has waited in a queue, the fastest one being as it is.
fn is_queue(trip: Duration, fastest: Duration) -> bool {
    trip > fastest + QUEUE_MIN + fastest / 4
}

impl Floor {
    fn floor(&self) -> u64 {
        FLOOR_DATAGRAMS * self.mtu
    }
}

impl Controller for Floor {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        let fastest = rtt.min();
        let recent = self.recent.saw(now.saturating_duration_since(sent), now, fastest);
        self.queued = is_queue(recent, fastest);
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        let window = self.cubic.window();
        if self.queued { window } else { window.max(self.floor()) }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), ..*self })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1_200;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// What it allows on a path whose fastest round trip takes 20 ms after a second in which each takes `trip` and datagrams are lost.
    fn window_after_losses(trip: Duration) -> u64 {
        let begin = Instant::now();
        let cubic = Arc::new(CubicConfig::default()).build(begin, 1_200);
        let mut floor = Floor { cubic, mtu: MTU, recent: Recent::default(), queued: false };
        for step in 0..50 {
            let now = begin + ms(20 * step);
            floor.queued = is_queue(floor.recent.saw(trip, now, ms(20)), ms(20));
            floor.on_congestion_event(now, now, false, MTU);
        }
        floor.window()
    }

    #[test]
    fn loss_alone_does_not_take_the_window_below_that_of_a_new_connection() {
        assert_eq!(window_after_losses(ms(45)), FLOOR_DATAGRAMS * MTU);
    }

    #[test]
    fn where_a_queue_has_built_up_loss_is_congestion() {
        assert_eq!(window_after_losses(ms(90)), 2 * MTU);
    }

    #[test]
    fn the_fastest_recent_round_trip_counts() {
        let (mut recent, begin) = (Recent::default(), Instant::now());
        assert_eq!(recent.saw(ms(30), begin, ms(20)), ms(30));
        assert_eq!(recent.saw(ms(400), begin + ms(50), ms(20)), ms(30), "one that looks slow hides nothing");
        assert_eq!(recent.saw(ms(400), begin + ms(120), ms(20)), ms(30));
        assert_eq!(recent.saw(ms(400), begin + ms(240), ms(20)), ms(400), "what was long ago is forgotten");
    }
}
