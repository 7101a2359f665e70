//! A recorder on bad networks: the reference recorder and a server in this process, with a seeded relay between them. Whatever
//! the network does, nothing that has a receipt is missing, nothing is stored twice, and no fork comes about.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

#[path = "network/device.rs"]
mod device;

use std::time::Duration;

use aigaq::ingest::Settings;
use device::Device;
use support::gateway::Gateway;
use support::relay::{Relay, Weather};

const KIB: usize = 1024;

/// A server, and a relay before it.
async fn site(seed: u64) -> (Gateway, Relay) {
    let gateway = Gateway::start(Settings::default()).await;
    let relay = Relay::start(gateway.address, seed).await;
    (gateway, relay)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_path_that_loses_doubles_and_reorders_every_link_arrives_once() {
    let (gateway, relay) = site(1).await;
    relay.set(Weather {
        loss: 0.05,
        duplication: 0.05,
        reordering: 0.1,
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(5),
        ..Weather::FAIR
    });
    let mut device = Device::start(&gateway, &[relay.address]);
    device.film(20, 64 * KIB).await;
    device.ends_whole(&gateway).await;
    assert!(relay.up().lost > 0 && relay.up().bytes > 20 * 64 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_of_all_datagrams_may_be_lost() {
    let (gateway, relay) = site(2).await;
    relay.set(Weather { loss: 0.3, delay: Duration::from_millis(5), ..Weather::FAIR });
    let mut device = Device::start(&gateway, &[relay.address]);
    device.film(8, 32 * KIB).await;
    device.ends_whole(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_nat_takes_another_port_the_connection_goes_on() {
    let (gateway, relay) = site(3).await;
    let mut device = Device::start(&gateway, &[relay.address]);
    for _ in 0..4 {
        device.film(2, 64 * KIB).await;
        device.has_receipts().await;
        relay.rebind();
    }
    device.film(2, 64 * KIB).await;
    device.ends_whole(&gateway).await;
    assert_eq!(gateway.metric("aigaq_handshakes_total", Some("ok")), 1, "no new handshake");
    assert_eq!(gateway.metric("aigaq_received_bytes_total", None), device.bytes(), "no resend");
}
