//! Figures and patience on bad networks that take minutes: what `make campaign` runs, and no other run does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

#[path = "network/device.rs"]
mod device;
#[path = "network/paths.rs"]
mod paths;
#[path = "network/scenes.rs"]
mod scenes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aigaq::Clock;
use aigaq::fleet::{Order, Ordered};
use aigaq::ingest::Settings;
use aigaq::recorder::transport;
use aigaq_proto::Sequence;
use device::{Device, SEGMENT_US, until};
use futures_util::StreamExt as _;
use paths::{Figures, measure, time_to_connect};
use quinn::TransportConfig;
use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
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

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_beside_a_gigabyte_on_disk_is_durable_within_seconds_at_a_megabit() {
    const BACKLOG: u64 = 10_240;
    const SEGMENT: usize = 100 * KIB;
    let (gateway, relay) = scenes::site(20).await;
    let identity = gateway.enrol("device");
    let state = identity.dir.clone();
    let mut device = Device::start_as(&identity.dir, &[relay.address], |options| options.state = Some(state));
    let begin = Clock::system().now() - 24 * 3_600_000_000;
    device.at(begin);
    device.film(1, KIB).await;
    device.has_receipts().await;
    relay.set(Weather::BLACKOUT);
    let filling = Instant::now();
    device.film(BACKLOG, SEGMENT).await;
    device.has_links().await;
    println!("a spool of {} MiB was filled in {:?}", BACKLOG * SEGMENT as u64 >> 20, filling.elapsed());
    relay.set(NARROW);
    device.cut();
    let deep = relay.up().bytes + 2 * NARROW.queue;
    until("the path to be full", || (relay.up().bytes > deep).then_some(())).await;

    // Ten seconds of footage from the middle of the backlog are asked for while the camera runs and marks are raised.
    let (mut live, mut beside, mut marks) = (Vec::new(), Vec::new(), Vec::new());
    let mut asked = None;
    let from = BACKLOG / 2;
    for segment in 0..50 {
        if segment % 5 == 4 {
            marks.push(device.mark().await);
        }
        if segment == 20 {
            let order = Order {
                recorder: device.id,
                // Within the first and the last of them, since clocks do not agree to the microsecond.
                from: begin + from * SEGMENT_US + SEGMENT_US / 2,
                to: begin + (from + 5) * SEGMENT_US - SEGMENT_US / 2,
                expires_at: Clock::system().now() + 600_000_000,
                reason: "a fight at the station".to_owned(),
                key: None,
            };
            let Ordered::New(request) = gateway.fleet.order(order).unwrap() else { panic!("not taken") };
            asked = Some((request.id, Instant::now()));
        }
        device.at(Clock::system().now());
        device.film(1, SEGMENT).await;
        let at = device.has_links().await;
        if (20..25).contains(&segment) {
            beside.push(at)
        } else {
            live.push(at)
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let (request, ordered) = asked.unwrap();
    let told = gateway.fleet.request(device.id, request).unwrap().unwrap().progress.unwrap();
    assert_eq!((told.links, told.links_left), (5, 0));
    let delays = |of: &[Sequence]| {
        let delays = device.delays();
        let mut delays: Vec<_> = of.iter().map(|at| delays[at]).collect();
        delays.sort_unstable();
        delays
    };
    // The first segment of the recording is the link after its start.
    let mut answered: Vec<_> =
        (from + 1..from + 6).filter_map(|at| Some(device.receipt_of(at)?.duration_since(ordered))).collect();
    answered.sort_unstable();
    let all = delays(&[&live[..], &beside[..]].concat());
    for (what, delays) in [
        ("live segments", &all),
        ("those made while what was asked for was sent", &delays(&beside)),
        ("marks", &delays(&marks)),
        ("what the centre asked for, from the asking", &answered),
    ] {
        println!(
            "{what}: {} p50 {:?}, p95 {:?}, max {:?}",
            delays.len(),
            delays[delays.len() / 2],
            p95(delays),
            delays.last()
        );
    }
    device.abandon();
    assert!(device.order().len() < 1_000, "the backlog still waits");
    assert!(p95(&all) < Duration::from_secs(5) && p95(&delays(&marks)) < Duration::from_secs(5));
    assert_eq!(answered.len(), 5);
    assert!(p95(&answered) < Duration::from_secs(10));
}

/// A recorder's transport with another congestion controller.
fn with(controller: Option<Arc<dyn ControllerFactory + Send + Sync>>) -> TransportConfig {
    let mut transport = transport();
    if let Some(controller) = controller {
        transport.congestion_controller_factory(controller);
    }
    transport
}

/// Watches a recorder with each controller on each path, some at once; prints a line for each.
async fn compared(paths: &[Weather], shared: bool) -> Vec<[Figures; 4]> {
    let each = paths.iter().map(|path| async move {
        let runs = [
            with(None),
            with(Some(Arc::new(CubicConfig::default()))),
            with(Some(Arc::new(NewRenoConfig::default()))),
            with(Some(Arc::new(BbrConfig::default()))),
        ];
        let runs = runs.map(|transport| tokio::spawn(measure(transport, *path, 21, shared)));
        let mut figures = futures_util::future::join_all(runs).await.into_iter().map(Result::unwrap);
        let figures: [Figures; 4] = std::array::from_fn(|_| figures.next().unwrap());
        let rate = path.rate.unwrap_or_default() / 1_000;
        println!("{rate} kB/s, buffer {} kB, {:?} each way, loss {} %:", path.queue / 1_000, path.delay, path.loss * 100.0);
        for (name, seen) in ["ours", "Cubic", "NewReno", "BBR"].into_iter().zip(&figures) {
            let Figures { goodput, live_p95, cost, refused, other } = seen;
            let (goodput, other) = (goodput / 1_000.0, other / 1_000.0);
            println!("  {name:8} {goodput:6.1} kB/s, live p95 {live_p95:.2?}, cost {cost:.3}, refused {refused}, the other {other:.1}");
        }
        figures
    });
    futures_util::stream::iter(each).buffered(3).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn on_paths_that_lose_footage_goes_on_where_cubic_alone_stands() {
    let mut paths = Vec::new();
    for delay in [5, 50, 300] {
        for loss in [0.0, 0.01, 0.05, 0.1, 0.3] {
            let delay = Duration::from_millis(delay);
            paths.push(Weather { rate: Some(1_000_000), queue: 125_000, delay, loss, ..Weather::FAIR });
        }
    }
    for (path, [ours, cubic, ..]) in paths.iter().zip(compared(&paths, false).await) {
        assert_eq!(ours.refused, 0, "{path:?}");
        assert!(ours.goodput > cubic.goodput * if path.loss >= 0.3 { 1.5 } else { 0.6 }, "{path:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_on_the_same_path_keeps_what_cubic_would_leave_it() {
    let mut paths = Vec::new();
    for (rate, queue) in [(125_000, 16_000), (125_000, 250_000), (625_000, 16_000), (625_000, 250_000)] {
        for delay in [10, 50] {
            paths.push(Weather { rate: Some(rate), queue, delay: Duration::from_millis(delay), ..Weather::FAIR });
        }
    }
    for (path, [ours, cubic, ..]) in paths.iter().zip(compared(&paths, true).await) {
        assert!(ours.other > cubic.other * 0.6, "{path:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_connects_over_a_path_that_loses_a_third() {
    for delay in [5, 50, 300].map(Duration::from_millis) {
        let path = Weather { loss: 0.3, delay, ..Weather::FAIR };
        let mut took = futures_util::future::join_all((0..40).map(|seed| time_to_connect(path, seed))).await;
        took.sort_unstable();
        println!("connected at {delay:?} each way: p50 {:?}, p95 {:?}, max {:?}", took[20], p95(&took), took[39]);
        assert!(p95(&took) < Duration::from_secs(20));
    }
}
