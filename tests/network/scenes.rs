//! Scenes that are played for a short time in every run and for long in a campaign.
#![allow(dead_code, reason = "shared by tests that each use a part")]

use std::time::Duration;

use aigaq::Clock;
use aigaq::ingest::Settings;

use crate::device::{Device, until};
use crate::support::gateway::Gateway;
use crate::support::relay::{Relay, Weather};

pub(crate) const KIB: usize = 1024;

/// A server, and a relay before it.
pub(crate) async fn site(seed: u64) -> (Gateway, Relay) {
    let gateway = Gateway::start(Settings::default()).await;
    let relay = Relay::start(gateway.address, seed).await;
    (gateway, relay)
}

/// One handshake was enough, and no byte of payload came twice.
pub(crate) fn went_without_a_break(gateway: &Gateway, device: &Device) {
    assert_eq!(gateway.metric("aigaq_handshakes_total", Some("ok")), 1, "no new handshake");
    assert_eq!(gateway.metric("aigaq_received_bytes_total", None), device.bytes(), "no resend");
}

/// Cuts the connection off `cuts` times while links are under way: at most one link is sent twice each time.
pub(crate) async fn resumes_after(cuts: u64, segments_between: u64, bytes: usize, seed: u64) -> f64 {
    let (gateway, relay) = site(seed).await;
    let network = Weather { delay: Duration::from_millis(10), rate: Some(4 << 20), queue: 128 << 10, ..Weather::FAIR };
    relay.set(network);
    let mut device = Device::start(&gateway, &[relay.address]);
    for cut in 0..cuts {
        device.film(segments_between, bytes).await;
        // Somewhere in a link, another place each time.
        let at = relay.up().bytes + (cut * 7_919) % (2 * bytes as u64);
        until("some bytes of a link", || (relay.up().bytes >= at).then_some(())).await;
        device.cut();
        until("the next connection", || (device.connections() as u64 > cut + 1).then_some(())).await;
    }
    let report = device.ends_whole(&gateway).await;
    let (needed, received) = (device.bytes(), gateway.metric("aigaq_received_bytes_total", None));
    let ratio = report.sent_bytes as f64 / needed as f64;
    println!("{cuts} cuts: sent {} of {needed}: {ratio:.4}; on the wire {}", report.sent_bytes, relay.up().bytes);
    assert!(received - needed <= cuts * bytes as u64, "{received} of {needed}");
    assert!(report.sent_bytes - needed <= (cuts + 1) * (bytes as u64 + 512), "{} of {needed}", report.sent_bytes);
    assert_eq!(report.reconnects, cuts);
    ratio
}

/// Films live segments over a path while a backlog waits; the delay of each from its making to its receipt.
pub(crate) async fn live_beside_a_backlog(
    path: Weather,
    backlog: (u64, usize),
    live: (u64, usize, Duration),
) -> Vec<Duration> {
    let (gateway, relay) = site(10).await;
    let mut device = Device::start(&gateway, &[relay.address]);
    let hour = 3_600_000_000;
    device.at(Clock::system().now() - hour);
    device.film(1, KIB).await;
    device.has_receipts().await;
    relay.set(path);
    device.film(backlog.0, backlog.1).await;
    let last = device.has_links().await;
    let sent = relay.up().bytes + 2 * path.queue;
    let deep = || (relay.up().bytes > sent || device.order().len() as u64 > last).then_some(());
    until("the path to be full", deep).await;
    for _ in 0..live.0 {
        device.at(Clock::system().now());
        device.film(1, live.1).await;
        tokio::time::sleep(live.2).await;
    }
    let wanted = device.has_links().await;
    until("the live links", || device.delays().contains_key(&wanted).then_some(())).await;
    let durable = device.order().len() as u64;
    assert!(durable < wanted, "the backlog still waits: {durable} receipts of {wanted}");
    assert_eq!(gateway.metric("aigaq_links_refused_total", None), 0, "no stream stalls");
    let mut delays: Vec<_> = device.delays().split_off(&(last + 1)).into_values().collect();
    delays.sort_unstable();
    delays
}

/// The 95th percentile.
pub(crate) fn p95(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() * 95).div_ceil(100) - 1]
}
