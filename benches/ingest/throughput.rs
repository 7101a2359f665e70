//! Verified, durable, receipted bytes a second against a bare quinn sink and against the textbook way to use RocksDB.

use std::path::Path;
use std::time::Duration;

use aigaq::seal;
use aigaq::store::{Settings, Store};

use crate::textbook::Textbook;
use crate::{bare, figures, gateway, load};

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(3);

/// Bytes that this process has caused to be written to disks.
fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// Prints the ratios of throughput; returns the median of our own, bytes a second.
pub async fn run() -> f64 {
    let mut rows = Vec::new();
    for round in 0..ROUNDS {
        let sink = bare_round().await;
        let (ours, disk) = store_round(|dir| Store::open(&dir.join("store"), &Settings::default()).unwrap()).await;
        let (open, _) = store_round(unsealed).await;
        let (textbook, _) = store_round(|dir| Textbook::store(&dir.join("store"))).await;
        println!(
            "round {round}: bare {:.0} MB/s, ours {:.0} MB/s, unsealed {:.0} MB/s, textbook {:.0} MB/s, written/ingested {disk:.3}",
            sink / 1e6,
            ours / 1e6,
            open / 1e6,
            textbook / 1e6
        );
        rows.push((sink, ours, textbook, disk, open));
    }
    let median = |of: fn(&(f64, f64, f64, f64, f64)) -> f64| figures::median(&rows.iter().map(of).collect::<Vec<_>>());
    figures::print("ingest_over_bare_quic", median(|row| row.1 / row.0), "ratio");
    figures::print("ingest_over_textbook_store", median(|row| row.1 / row.2), "ratio");
    figures::print("ingest_sealed_over_unsealed", median(|row| row.1 / row.4), "ratio");
    figures::print("disk_bytes_per_byte", median(|row| row.3), "ratio");
    median(|row| row.1)
}

/// The same store, whose footage is not sealed.
fn unsealed(dir: &Path) -> Store {
    let seal = seal::Settings { footage: false, ..seal::Settings::default() };
    Store::open(&dir.join("store"), &Settings { seal, ..Settings::default() }).unwrap()
}

async fn bare_round() -> f64 {
    let data = tempfile::tempdir().unwrap();
    let identities = load::enrol(data.path(), load::RECORDERS);
    let (endpoint, address) = bare::start(data.path());
    let rate = bare::run(address, &identities, TIME).await;
    endpoint.close(0u32.into(), b"");
    rate
}

/// Bytes a second with a receipt, and bytes written to disk for each of them until the store is closed.
async fn store_round(open: impl FnOnce(&Path) -> Store) -> (f64, f64) {
    let data = tempfile::tempdir().unwrap();
    let identities = load::enrol(data.path(), load::RECORDERS);
    let gateway = gateway::start(open(data.path()), data.path());
    let before = written();
    let done = load::run(gateway.address, &identities, TIME, None).await;
    let links = done.latencies.len() as f64;
    gateway.stop().await;
    let disk = (written() - before) as f64 / (links * load::SEGMENT_BYTES as f64);
    (done.bytes as f64 / done.elapsed.as_secs_f64(), disk)
}
