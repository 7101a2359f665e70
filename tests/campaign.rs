//! Figures and patience on bad networks that take minutes: what `make campaign` runs, and no other run does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

#[path = "network/device.rs"]
mod device;
#[path = "network/scenes.rs"]
mod scenes;

use std::time::Duration;

use aigaq::Clock;
use aigaq::ingest::Settings;
use device::{Device, until};
use scenes::{KIB, live_beside_a_backlog, p95, resumes_after, went_without_a_break};
use support::gateway::Gateway;
use support::relay::{Relay, Weather};

/// One megabit a second with a buffer that holds four seconds, as mobile networks have them.
const NARROW: Weather =
    Weather { rate: Some(125_000), queue: 500_000, delay: Duration::from_millis(25), ..Weather::FAIR };

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_disconnects_cost_a_twentieth_at_most() {
    let ratio = resumes_after(100, 24, 256 * KIB, 9).await;
    assert!(ratio <= 1.05, "{ratio}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_megabit_a_live_segment_is_durable_within_seconds_whatever_waits() {
    let delays = live_beside_a_backlog(NARROW, (200, 256 * KIB), (100, 100 * KIB, Duration::from_secs(2))).await;
    println!(
        "live beside a backlog of 50 MiB at 1 Mbit/s: p50 {:?}, p95 {:?}, max {:?}",
        delays[50],
        p95(&delays),
        delays[99]
    );
    assert!(p95(&delays) < Duration::from_secs(5), "{delays:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_overtaken_for_long_is_not_given_up_as_stalled() {
    let gateway = Gateway::start(Settings { stall_timeout: Duration::from_secs(6), ..Settings::default() }).await;
    let relay = Relay::start(gateway.address, 18).await;
    let mut device = Device::start(&gateway, &[relay.address]);
    device.at(Clock::system().now() - 3_600_000_000);
    device.film(1, KIB).await;
    device.has_receipts().await;
    relay.set(Weather { rate: Some(128_000), queue: 128_000, delay: Duration::from_millis(25), ..Weather::FAIR });
    device.film(1, 512 * KIB).await;
    let begun = relay.up().bytes + 100_000;
    until("a part of the old link", || (relay.up().bytes >= begun).then_some(())).await;
    // More than the path carries, for two windows of the server.
    for _ in 0..33 {
        device.at(Clock::system().now());
        device.film(1, 64 * KIB).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert!(!device.order().contains(&2), "it was overtaken all the time: {:?}", device.order());
    device.ends_whole(&gateway).await;
    assert_eq!(gateway.metric("aigaq_links_refused_total", None), 0, "nothing stalled");
    went_without_a_break(&gateway, &device);
}
