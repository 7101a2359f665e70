//! A recorder on bad networks: the reference recorder and a server in this process, with a seeded relay between them. Whatever
//! the network does, nothing that has a receipt is missing, nothing is stored twice, and no fork comes about.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

#[path = "network/device.rs"]
mod device;
#[path = "network/scenes.rs"]
mod scenes;

use std::time::Duration;

use aigaq::Clock;
use aigaq::fleet::{Order, Ordered};
use aigaq::ingest::Settings;
use aigaq_proto::Digest;
use aigaq_proto::limits::RUNS_MAX;
use bytes::Bytes;
use device::{Device, SEGMENT_US, until};
use scenes::{KIB, live_beside_a_backlog, p95, resumes_after, site, went_without_a_break};
use support::chain::{Chain, sign};
use support::gateway::Gateway;
use support::relay::{Relay, Weather};
use support::session::{Session, endpoint};

/// Settings of a server that is soon back and soon notices that somebody is gone.
fn quick() -> Settings {
    Settings {
        idle_timeout: Duration::from_millis(600),
        reconnect_delay_min: Duration::from_millis(100),
        reconnect_delay_max: Duration::from_millis(300),
        ..Settings::default()
    }
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
    went_without_a_break(&gateway, &device);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_recorder_moves_to_another_network_the_connection_goes_on() {
    let (gateway, relay) = site(4).await;
    let socket = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = endpoint();
    let shared = endpoint.clone();
    let mut device = Device::start_with(&gateway, &[relay.address], |options| options.endpoint = Some(shared));
    for _ in 0..3 {
        device.film(2, 64 * KIB).await;
        device.has_receipts().await;
        endpoint.rebind(socket()).unwrap();
    }
    device.film(2, 64 * KIB).await;
    device.ends_whole(&gateway).await;
    went_without_a_break(&gateway, &device);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_path_takes_only_smaller_datagrams_the_connection_goes_on() {
    let (gateway, relay) = site(5).await;
    relay.set(Weather { delay: Duration::from_millis(2), ..Weather::FAIR });
    let mut device = Device::start(&gateway, &[relay.address]);
    device.film(4, 256 * KIB).await;
    device.has_receipts().await;
    relay.set(Weather { size_max: 1_250, delay: Duration::from_millis(2), ..Weather::FAIR });
    let before = relay.up().lost;
    device.film(4, 64 * KIB).await;
    device.ends_whole(&gateway).await;
    assert!(relay.up().lost > before, "datagrams had grown beyond what the path takes now");
    went_without_a_break(&gateway, &device);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_blackout_the_recorder_comes_back_and_nothing_is_missing() {
    let gateway = Gateway::start(quick()).await;
    let relay = Relay::start(gateway.address, 6).await;
    let mut device = Device::start(&gateway, &[relay.address]);
    device.film(2, 16 * KIB).await;
    device.has_receipts().await;
    relay.set(Weather::BLACKOUT);
    device.film(6, 16 * KIB).await;
    until("the recorder to notice", || {
        device.notes().iter().any(|note| note.contains("connecting again")).then_some(())
    })
    .await;
    relay.set(Weather::FAIR);
    let report = device.ends_whole(&gateway).await;
    assert!(report.reconnects >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_alone_may_be_lost_for_a_while() {
    let gateway = Gateway::start(quick()).await;
    let relay = Relay::start(gateway.address, 7).await;
    let mut device = Device::start(&gateway, &[relay.address]);
    device.film(1, 16 * KIB).await;
    device.has_receipts().await;
    relay.set_down(Weather::BLACKOUT);
    device.film(2, 4 * KIB).await;
    until("links without answers", || (gateway.durable(device.id).len() == 4).then_some(())).await;
    relay.set_down(Weather::FAIR);
    device.ends_whole(&gateway).await;
    assert_eq!(
        gateway.metric("aigaq_received_bytes_total", None),
        device.bytes(),
        "they are claimed and not sent again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_disconnect_at_most_one_link_is_sent_twice() {
    resumes_after(4, 8, 64 * KIB, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_does_not_delay_live_links() {
    let path = Weather { rate: Some(500_000), queue: 1_000_000, delay: Duration::from_millis(25), ..Weather::FAIR };
    let delays = live_beside_a_backlog(path, (120, 64 * KIB), (8, 32 * KIB, Duration::from_millis(250))).await;
    println!("live beside a backlog: {delays:?}");
    assert!(p95(&delays) < Duration::from_millis(1_500), "{delays:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_control_centre_asks_for_goes_before_everything_else() {
    let (gateway, relay) = site(11).await;
    let mut device = Device::start(&gateway, &[relay.address]);
    let begin = Clock::system().now() - 3_600_000_000;
    device.at(begin);
    device.film(1, KIB).await;
    device.has_receipts().await;
    relay.set(Weather { rate: Some(500_000), ..Weather::FAIR });
    device.film(60, 64 * KIB).await;
    let last = device.has_links().await;
    // The eleventh link from the end, and no more.
    let from = begin + (last - 11) * SEGMENT_US;
    let order = Order {
        recorder: device.id,
        from: from + SEGMENT_US / 4,
        to: from + SEGMENT_US / 2,
        expires_at: Clock::system().now() + 60_000_000,
        reason: "a fight at the station".to_owned(),
        key: None,
    };
    let Ordered::New(request) = gateway.fleet.order(order).unwrap() else { panic!("not taken") };
    let progress = until("the end of the request", || {
        let told = gateway.fleet.request(device.id, request.id).unwrap()?.progress?;
        (told.links_left == 0).then_some(told)
    })
    .await;
    assert_eq!((progress.links, progress.bytes), (1, 64 * 1024));
    let order = device.order();
    let place = order.iter().position(|sequence| *sequence == last - 10).unwrap();
    assert!(place < order.len() && order.len() < 50, "it came before the backlog: {order:?}");
    device.ends_whole(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_down_is_left_in_peace_and_found_again() {
    let gateway = Gateway::start(quick()).await;
    let mut device = Device::start(&gateway, &[gateway.address]);
    device.film(3, 64 * KIB).await;
    device.has_receipts().await;
    let gateway = gateway.stop().await.start(quick());
    device.film(3, 64 * KIB).await;
    let report = device.ends_whole(&gateway).await;
    assert!(report.reconnects >= 1);
    assert!(device.notes().iter().any(|note| note.contains("goes down or moves")), "{:?}", device.notes());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_gateway_is_gone_the_next_takes_over() {
    let (gateway, relay) = site(12).await;
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let second = Relay::start(gateway.address, 13).await;
    let towards = [relay.address, dead.local_addr().unwrap(), second.address];
    let mut device = Device::start(&gateway, &towards);
    device.film(2, 16 * KIB).await;
    device.has_receipts().await;
    relay.set(Weather::BLACKOUT);
    device.cut();
    device.film(2, 16 * KIB).await;
    device.ends_whole(&gateway).await;
    assert!(second.up().bytes > 32 * 1024 && device.connections() == 2, "{:?}", device.notes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_whose_clock_woke_up_in_1970_connects_and_records() {
    let (gateway, relay) = site(14).await;
    let clock = Clock::fixed(5_000_000);
    let mut device = Device::start_with(&gateway, &[relay.address], |options| options.clock = clock);
    device.film(2, 16 * KIB).await;
    device.ends_whole(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_the_server_will_never_take_is_named_and_the_rest_goes_on() {
    let gateway = Gateway::start(quick()).await;
    let mut device = Device::start(&gateway, &[gateway.address]);
    device.film(1, KIB).await;
    device.has_receipts().await;
    let ended = gateway.stop().await;
    device.film(1, 64 * KIB).await;
    device.film(1, 8 * KIB).await;
    device.has_links().await;
    let gateway = ended.start(Settings { payload_bytes_max: 16 * 1024, ..quick() });
    let report = device.end().await.unwrap();
    assert_eq!((report.links, report.receipts, report.lost.len()), (5, 4, 1), "{:?}", device.notes());
    assert!(report.lost[0].sequence == 2 && report.lost[0].why.starts_with("PayloadTooLarge"), "{:?}", report.lost);
    assert_eq!(gateway.durable(device.id), [0, 1, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_outlives_a_disconnect_and_ends_when_it_is_cancelled() {
    let (gateway, relay) = site(16).await;
    let mut device = Device::start(&gateway, &[relay.address]);
    let begin = Clock::system().now() - 3_600_000_000;
    device.at(begin);
    device.film(1, KIB).await;
    device.has_receipts().await;
    // Twenty links take three seconds: as long may a look at the progress be late.
    relay.set(Weather { rate: Some(220_000), ..Weather::FAIR });
    device.film(60, 32 * KIB).await;
    let last = device.has_links().await;
    // The last thirty links.
    let order = Order {
        recorder: device.id,
        from: begin + (last - 30) * SEGMENT_US,
        to: begin + last * SEGMENT_US,
        expires_at: Clock::system().now() + 60_000_000,
        reason: "a fight at the station".to_owned(),
        key: None,
    };
    let Ordered::New(request) = gateway.fleet.order(order).unwrap() else { panic!("not taken") };
    let left = |below: u64| {
        let told = gateway.fleet.request(device.id, request.id).unwrap()?.progress?;
        assert!(told.links >= 30, "the counts go on: {told:?}");
        (told.links_left < below).then_some(())
    };
    until("a part of the range", || left(28)).await;
    device.cut();
    until("the next connection", || (device.connections() == 2).then_some(())).await;
    until("more of the range", || left(22)).await;
    gateway.fleet.cancel(device.id, request.id).unwrap();
    device.ends_whole(&gateway).await;
    let order = device.order();
    let place = |sequence: u64| order.iter().position(|other| *other == sequence).unwrap();
    assert!(place(last - 29) < place(last - 40), "what was asked for went before the rest: {order:?}");
    assert!(place(last - 40) < place(last), "until nobody wanted it: {order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_the_server_misses_go_before_one_that_it_has_no_place_for() {
    let gateway = Gateway::start(quick()).await;
    let relay = Relay::start(gateway.address, 17).await;
    let identity = gateway.enrol("scattered");
    let mut device = Device::start_as(&identity.dir, &[relay.address], |_| {});
    device.at(Clock::system().now() - 3_600_000_000);
    device.film(1, KIB).await;
    device.has_receipts().await;
    relay.set(Weather::BLACKOUT);
    device.film(5, 8 * KIB).await;
    device.at(Clock::system().now());
    device.film(1, 8 * KIB).await;
    let live = device.has_links().await;
    // So many pieces of the chain are known that only a link beside one of them has a place.
    let session = Session::open(&endpoint(), gateway.address, &identity).await.unwrap();
    let mut chain = Chain::new(identity.id, Clock::system().now());
    let pieces = (0..RUNS_MAX as u64 - 1).map(|piece| {
        let mut header = chain.mark(&identity.signing, "piece").header;
        (header.sequence, header.previous) = (1_000 + 2 * piece, Digest([7; 32]));
        sign(&identity.signing, header, Bytes::new())
    });
    let pieces: Vec<_> = pieces.collect();
    for answer in futures_util::future::join_all(pieces.iter().map(|piece| session.send(piece))).await {
        answer.unwrap().receipt();
    }
    relay.set(Weather::FAIR);
    let report = device.end().await.unwrap();
    assert_eq!((report.links, report.lost.len()), (report.receipts, 0), "{:?}", device.notes());
    assert!(gateway.metric("aigaq_links_refused_total", Some("too_far_ahead")) >= 1, "{:?}", device.notes());
    let order = device.order();
    let place = order.iter().position(|sequence| *sequence == live).unwrap();
    assert!(order[..place].contains(&2), "it followed those that were missing: {order:?}");
}
