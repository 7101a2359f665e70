//! How long a recorder waits for its receipt when the server runs at half its peak.

use std::time::Duration;

use aigaq::store::{Settings, Store};

use crate::{figures, gateway, load};

/// Prints the percentiles at half of `peak`, bytes a second.
pub async fn run(peak: f64) {
    let data = tempfile::tempdir().unwrap();
    let identities = load::enrol(data.path(), load::RECORDERS);
    let store = Store::open(&data.path().join("store"), &Settings::default()).unwrap();
    let gateway = gateway::start(store, data.path());
    let done = load::run(gateway.address, &identities, Duration::from_secs(8), Some(peak / 2.0)).await;
    gateway.stop().await;
    println!(
        "half load: {:.0} MB/s, {} links",
        done.bytes as f64 / done.elapsed.as_secs_f64() / 1e6,
        done.latencies.len()
    );
    figures::print("receipt_p50", figures::quantile(&done.latencies, 0.50) * 1e3, "ms");
    figures::print("receipt_p99", figures::quantile(&done.latencies, 0.99) * 1e3, "ms");
}
