//! Writes links to their streams in the order of the queue, whole one after the other, and no more than the path carries.
//!
//! **Order is made here**, by what is written, and not by the priorities of streams: QUIC would starve a stream of low priority
//! for as long as there is other data, and the server refuses a stream that makes no progress. A link of a greater class
//! goes before the one that is being written, at once; those that it overtakes get a few kilobytes now and then.
//!
//! **What has been written cannot be overtaken**, so little is: the send window follows the path, in such a way that what
//! is written waits in the network for [`WAIT_MAX`] and not longer, however deep its buffers are. Only marks and stops,
//! which are small, have a greater priority of their streams as well.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use quinn::{Connection, SendStream, VarInt, WriteError};
use tokio::time::Instant;

use super::session::Stopped;
use super::spool::Spool;
use super::spool::queue::{Class, Ticket};
use super::uplink::{End, Tally};

/// How long written data may wait in the network beyond the time that the empty path takes.
const WAIT_MAX: Duration = Duration::from_millis(400);
/// Bounds of the send window: some datagrams; what 320 Mbit/s hold at 100 ms.
const WINDOW_BYTES: std::ops::RangeInclusive<u64> = 16 * 1024..=4 * 1024 * 1024;
/// The window before anything is known of the path.
const WINDOW_FIRST_BYTES: u64 = 64 * 1024;
/// So many looks in a row at a path that is slow while the window is at its least say that it is slow without our doing, and so
/// long that is believed: then the window goes down again to see.
const SLOW_LOOKS: u32 = 4;
const LONGER_FOR: Duration = Duration::from_secs(30);
/// Bytes written at once.
const PIECE_BYTES: usize = 64 * 1024;
/// A link that was begun gets this much in this time whatever overtakes it: the server gives up a stream that stands still.
const CRUMBS_BYTES: usize = 12 * 1024;
const CRUMBS_AFTER: Duration = Duration::from_secs(4);
/// Priority of the control stream and of marks and stops; others have 0.
pub(super) const PRIORITY_CONTROL: i32 = 2;
const PRIORITY_URGENT: i32 = 1;

/// Sends links until the queue is closed and empty. Dropping the future resets the streams that are not at their end, so
/// that no server takes a part for a whole.
///
/// # Errors
/// The end of the connection, or that the spool failed.
pub(super) async fn send(
    connection: &Connection,
    spool: &Spool,
    tally: &Tally,
    in_flight_max: usize,
) -> Result<(), Stopped> {
    let mut begun: Vec<Begun> = Vec::new();
    let mut opening: Option<Opening<'_>> = None;
    let mut window = WINDOW_FIRST_BYTES;
    let mut empty = EmptyPath::default();
    connection.set_send_window(window);
    let mut adjusts = Instant::now() + WAIT_MAX;
    loop {
        let now = Instant::now();
        let best = begun.iter().map(|link| link.ticket.class).max();
        let turns = turns(&begun, now);
        let hungry = begun.iter().map(|link| link.fed_at + CRUMBS_AFTER).filter(|at| *at > now).min();
        tokio::select! {
            biased;
            ticket = spool.queue().next(best, in_flight_max), if opening.is_none() => match ticket {
                Some(ticket) => opening = Some(Box::pin(Begun::open(connection, spool, ticket))),
                None => return Ok(()),
            },
            opened = async { Some(opening.as_mut()?.await) }, if opening.is_some() => {
                opening = None;
                begun.extend(opened.transpose()?.flatten());
            }
            () = tokio::time::sleep_until(adjusts) => {
                let stats = connection.stats().path;
                let rtt_empty = empty.look(window, !turns.is_empty(), stats.rtt, stats.min_rtt, Instant::now());
                window = window_after(window, !turns.is_empty(), stats.rtt, rtt_empty, stats.cwnd);
                connection.set_send_window(window);
                adjusts = Instant::now() + stats.rtt.clamp(Duration::from_millis(20), Duration::from_secs(1));
            }
            () = tokio::time::sleep_until(hungry.unwrap_or(now)), if hungry.is_some() => {}
            (at, wrote) = write(&mut begun, &turns), if !turns.is_empty() => match wrote {
                Ok(count) => {
                    tally.count_sent(count);
                    if begun.get_mut(at).is_some_and(|link| link.fed(count, best)) {
                        spool.queue().sent(begun.swap_remove(at).ticket.sequence);
                    }
                }
                Err(WriteError::ConnectionLost(error)) => return Err(Stopped::Lost(error)),
                // The server stopped it: its refusal says more.
                Err(_) => drop(begun.swap_remove(at)),
            },
        }
    }
}

/// Which of the links may be written now: those that have got too little for too long, and the first of the greatest class.
fn turns(begun: &[Begun], now: Instant) -> Vec<usize> {
    let links = || begun.iter().enumerate();
    let hungry = links().filter(|(_, link)| link.fed_at + CRUMBS_AFTER <= now);
    let first = links().min_by_key(|(_, link)| (std::cmp::Reverse(link.ticket.class), link.ticket.sequence));
    hungry.chain(first).map(|(at, _)| at).collect()
}

/// Writes to the first of these links that takes anything. Cancel-safe.
async fn write(begun: &mut [Begun], turns: &[usize]) -> (usize, Result<usize, WriteError>) {
    std::future::poll_fn(|context| {
        for at in turns {
            let Some(link) = begun.get_mut(*at) else { continue };
            if let Poll::Ready(wrote) = std::pin::pin!(link.write()).poll(context) {
                return Poll::Ready((*at, wrote));
            }
        }
        Poll::Pending
    })
    .await
}

/// The window after another look at the path. It grows while it is what holds data back, so that a full window takes
/// `WAIT_MAX` longer than the fastest round trip, and little beyond the congestion window: enough for that to grow, and no
/// more, since what is written is lost with the connection.
fn window_after(window: u64, is_full: bool, rtt: Duration, rtt_min: Duration, congestion_window: u64) -> u64 {
    let wanted = (rtt_min + WAIT_MAX).as_secs_f64() / rtt.as_secs_f64().max(1e-3);
    let factor = wanted.clamp(0.5, if is_full { 2.0 } else { 1.0 });
    let scaled = (window as f64 * factor) as u64;
    let bound = congestion_window.saturating_add(congestion_window / 4).saturating_add(WINDOW_FIRST_BYTES / 2);
    scaled.min(bound).clamp(*WINDOW_BYTES.start(), *WINDOW_BYTES.end())
}

/// What a round trip takes on the path when nothing of ours waits in it: the fastest of the connection, as a rule. Where round trips
/// take much longer though next to nothing is written, the path has become another, or others keep it full; to hold back for
/// an emptier one would be to starve.
#[derive(Debug, Default)]
struct EmptyPath {
    /// Looks in a row at a path that is slow without our doing.
    slow: u32,
    /// What it takes instead, and until when that is believed.
    longer: Option<(Duration, Instant)>,
}

impl EmptyPath {
    /// One look at a path with this send window.
    fn look(&mut self, window: u64, is_full: bool, rtt: Duration, rtt_min: Duration, now: Instant) -> Duration {
        self.longer = match self.longer {
            Some((longer, until)) if now < until && longer.min(rtt) > rtt_min + WAIT_MAX => {
                Some((longer.min(rtt), until))
            }
            _ => None,
        };
        let slow = is_full && self.longer.is_none() && window <= *WINDOW_BYTES.start() && rtt > rtt_min + WAIT_MAX;
        self.slow = if slow { self.slow + 1 } else { 0 };
        if self.slow >= SLOW_LOOKS {
            self.longer = Some((rtt, now + LONGER_FOR));
        }
        self.longer.map_or(rtt_min, |(longer, _)| longer)
    }
}

/// A link that is being read and given a stream.
type Opening<'a> = Pin<Box<dyn Future<Output = Result<Option<Begun>, Stopped>> + Send + 'a>>;

/// A link that has a stream and is not yet written to its end.
struct Begun {
    ticket: Ticket,
    stream: SendStream,
    prelude: Bytes,
    payload: Bytes,
    /// When it last had enough.
    fed_at: Instant,
    /// What it has got since.
    crumbs: usize,
    ended: bool,
}

impl Begun {
    /// Reads the link and opens a stream for it; `None` if it has left meanwhile.
    async fn open(connection: &Connection, spool: &Spool, ticket: Ticket) -> Result<Option<Self>, Stopped> {
        let Some(link) = spool.load(ticket.sequence).await.map_err(End::Fatal)? else { return Ok(None) };
        let stream = connection.open_uni().await.map_err(Stopped::Lost)?;
        spool.queue().on_stream(ticket.sequence, stream.id().into(), link.digest);
        if ticket.class == Class::Urgent {
            let _ = stream.set_priority(PRIORITY_URGENT);
        }
        let (prelude, payload) = (link.prelude, link.payload);
        Ok(Some(Self { ticket, stream, prelude, payload, fed_at: Instant::now(), crumbs: 0, ended: false }))
    }

    /// Writes as much as there is room for, once there is some. Cancel-safe.
    async fn write(&mut self) -> Result<usize, WriteError> {
        let rest = if self.prelude.is_empty() { &mut self.payload } else { &mut self.prelude };
        let mut written = 0;
        if !rest.is_empty() {
            written = self.stream.write_chunks(&mut [rest.slice(..rest.len().min(PIECE_BYTES))]).await?.bytes;
            rest.advance(written);
        }
        if self.prelude.is_empty() && self.payload.is_empty() && !self.ended {
            let _ = self.stream.finish();
            self.ended = true;
        }
        Ok(written)
    }

    /// It got so many bytes, while `best` is the greatest class under way. Whether it is at its end.
    fn fed(&mut self, count: usize, best: Option<Class>) -> bool {
        self.crumbs += count;
        if self.crumbs >= CRUMBS_BYTES || Some(self.ticket.class) == best {
            self.crumbs = 0;
            self.fed_at = Instant::now();
        }
        self.ended
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.stream.reset(VarInt::from_u32(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// The window that it comes to on a path with this rate and time, whose buffer never overflows.
    fn comes_to(bytes_per_s: f64, rtt_min: Duration, congestion_window: u64) -> u64 {
        (0..100).fold(WINDOW_FIRST_BYTES, |window, _| {
            let rtt = rtt_min.max(Duration::from_secs_f64(window as f64 / bytes_per_s));
            window_after(window, true, rtt, rtt_min, congestion_window)
        })
    }

    #[test]
    fn on_a_narrow_path_with_a_deep_buffer_written_data_waits_no_longer_than_it_may() {
        for (rate, rtt_min) in [(125_000.0, ms(40)), (125_000.0, ms(300)), (1_250_000.0, ms(20))] {
            let waits = comes_to(rate, rtt_min, 1 << 40) as f64 / rate - rtt_min.as_secs_f64();
            assert!((0.3..0.45).contains(&waits), "{rate} {rtt_min:?}: {waits}");
        }
    }

    /// The windows of so many looks, a second each, at a path that takes `trip` of the window.
    fn windows(looks: u64, empty: &mut EmptyPath, rtt_min: Duration, trip: impl Fn(u64) -> Duration) -> Vec<u64> {
        let begin = Instant::now();
        let mut window = WINDOW_FIRST_BYTES;
        let look = |look| {
            let rtt = trip(window);
            let rtt_empty = empty.look(window, true, rtt, rtt_min, begin + Duration::from_secs(look));
            window = window_after(window, true, rtt, rtt_empty, 1 << 40);
            window
        };
        (0..looks).map(look).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_that_became_long_is_used() {
        let windows = windows(29, &mut EmptyPath::default(), ms(20), |window| ms(600) + ms(window / 1_000));
        let seconds = windows.last().map_or(0, |window| window / 1_000);
        assert!((300..450).contains(&seconds), "as much as waits 400 ms at a megabyte a second: {windows:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_path_that_is_slow_by_itself_little_more_is_written() {
        let own = |window: u64| ms(40) + ms(window / 10);
        let windows = windows(100, &mut EmptyPath::default(), ms(40), own);
        assert!(windows.iter().skip(4).all(|window| *window <= 21 * KIB), "400 ms more: {windows:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_that_others_have_left_is_held_no_fuller_than_before() {
        let mut empty = EmptyPath::default();
        let kept_full = windows(20, &mut empty, ms(40), |window| ms(2_000) + ms(window / 125));
        assert!(kept_full.last().is_some_and(|window| *window > 40 * KIB), "{kept_full:?}");
        let alone = windows(100, &mut empty, ms(40), |window| ms(40) + ms(window / 125));
        assert!(alone.iter().skip(60).all(|window| *window < 60 * KIB), "{alone:?}");
    }

    #[test]
    fn a_wide_path_is_filled_and_memory_is_bounded() {
        assert_eq!(comes_to(1e9, ms(50), 1 << 40), *WINDOW_BYTES.end());
        assert_eq!(
            comes_to(1e9, ms(50), 100 * KIB),
            157 * KIB,
            "little beyond what the congestion window lets through"
        );
    }

    #[test]
    fn a_window_that_is_not_full_does_not_grow() {
        assert_eq!(window_after(64 * KIB, false, ms(40), ms(40), 1 << 40), 64 * KIB);
        assert_eq!(
            window_after(64 * KIB, false, ms(4_000), ms(40), 1 << 40),
            32 * KIB,
            "but it shrinks, by half at most"
        );
        assert_eq!(window_after(16 * KIB, true, ms(4_000), ms(40), 1 << 40), 16 * KIB);
    }
}
