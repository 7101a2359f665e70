//! What a recorder makes of a path, measured: footage per second, how late live footage is, what it costs, what it leaves others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aigaq::Clock;
use aigaq_proto::Sequence;
use quinn::TransportConfig;
use tokio::sync::Semaphore;

use crate::device::{Device, until};
use crate::scenes::{KIB, p95, site};
use crate::support::chain::Chain;
use crate::support::gateway::Gateway;
use crate::support::relay::{Relay, Weather};
use crate::support::session::{Session, endpoint};

/// How long a path is watched.
const WATCH: Duration = Duration::from_secs(20);
/// Live footage beside the backlog: 200 kbit/s.
const LIVE: (usize, Duration) = (25_000, Duration::from_secs(1));
/// The first are small, so that a path that carries little shows how much.
const BACKLOG: [(u64, usize); 2] = [(100, 16 * KIB), (130, 150 * KIB)];
/// Links of another that shares the path, and how many it has under way.
const OTHER: (usize, usize, usize) = (400, 32 * KIB, 16);

/// What was seen of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Payload with a receipt, bytes per second.
    pub(crate) goodput: f64,
    /// From the making of live segments to their receipts, for those that have none until now.
    pub(crate) live_p95: Duration,
    /// Bytes of datagrams that were sent, the other's too, ÷ payload with a receipt.
    pub(crate) cost: f64,
    /// Links that the server refused.
    pub(crate) refused: u64,
    /// The goodput of the other.
    pub(crate) other: f64,
}

/// Brings in backlog and live footage over a path, if asked beside another that always has something to send, by quinn's defaults.
pub(crate) async fn measure(transport: TransportConfig, path: Weather, seed: u64, shared: bool) -> Figures {
    let (gateway, relay) = site(seed).await;
    relay.set(Weather { delay: path.delay, ..Weather::FAIR });
    let mut device = Device::start_with(&gateway, &[relay.address], |options| options.transport = transport.into());
    device.at(Clock::system().now() - 3_600_000_000);
    device.film(1, KIB).await;
    device.has_receipts().await;
    let other = Other::start(&gateway, &relay).await;
    relay.set(path);
    for (links, bytes) in BACKLOG {
        device.film(links, bytes).await;
    }
    device.has_links().await;
    let (sent, before, began) = (relay.up().bytes, device.received(), Instant::now());
    let (live, ()) = tokio::join!(film_live(&mut device, began), async {
        if shared {
            let _ = tokio::time::timeout(WATCH, other.send()).await;
        }
    });
    let delays = device.delays();
    let delay = |(sequence, made): &(Sequence, Instant)| delays.get(sequence).copied().unwrap_or(made.elapsed());
    let mut live: Vec<Duration> = live.iter().map(delay).collect();
    live.sort_unstable();
    let seconds = began.elapsed().as_secs_f64();
    let (own, others) = ((device.received() - before) as f64, other.received.load(Ordering::Relaxed) as f64);
    let cost = (relay.up().bytes - sent) as f64 / (own + others);
    device.abandon();
    let refused = gateway.metric("aigaq_links_refused_total", None);
    Figures { goodput: own / seconds, live_p95: p95(&live), cost, refused, other: others / seconds }
}

/// Makes live segments for as long as the path is watched; when each was made.
async fn film_live(device: &mut Device, began: Instant) -> Vec<(Sequence, Instant)> {
    let mut made = Vec::new();
    let mut tick = tokio::time::interval(LIVE.1);
    while began.elapsed() < WATCH - LIVE.1 {
        tick.tick().await;
        device.at(Clock::system().now());
        device.film(1, LIVE.0).await;
        made.push((device.has_links().await, Instant::now()));
    }
    tokio::time::sleep(WATCH.saturating_sub(began.elapsed())).await;
    made
}

/// Another on the same path.
struct Other {
    session: Session,
    links: Vec<crate::support::chain::Link>,
    received: AtomicU64,
}

impl Other {
    async fn start(gateway: &Gateway, relay: &Relay) -> Self {
        let identity = gateway.enrol("other");
        let session = Session::open(&endpoint(), relay.address, &identity).await.unwrap();
        let mut chain = Chain::new(identity.id, Clock::system().now());
        session.send(&chain.start(&identity.signing)).await.unwrap();
        let links = (0..OTHER.0).map(|_| chain.media(&identity.signing, vec![7; OTHER.1].into())).collect();
        Self { session, links, received: AtomicU64::new(0) }
    }

    async fn send(&self) {
        let places = Semaphore::new(OTHER.2);
        let each = self.links.iter().map(|link| async {
            let _place = places.acquire().await.unwrap();
            if self.session.send(link).await.is_ok() {
                self.received.fetch_add(OTHER.1 as u64, Ordering::Relaxed);
            }
        });
        futures_util::future::join_all(each).await;
    }
}

/// From its start to the server's welcome, over a path that has this weather from the first.
pub(crate) async fn time_to_connect(path: Weather, seed: u64) -> Duration {
    let (gateway, relay) = site(seed).await;
    relay.set(path);
    let began = Instant::now();
    let device = Device::start(&gateway, &[relay.address]);
    until("the welcome", || (device.connections() > 0).then_some(())).await;
    device.abandon();
    began.elapsed()
}
