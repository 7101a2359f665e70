//! Recorders that send as fast as they are let, or at a rate, and the count of what was promised.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aigaq_proto::Digest;
use bytes::Bytes;
use rand::RngCore as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::Identity;
use crate::support::chain::{Chain, Link};
use crate::support::session::{Session, endpoint};

pub const RECORDERS: usize = 16;
pub const SEGMENT_BYTES: usize = 512 * 1024;
/// Links of one recorder that wait for their receipts at once.
const IN_FLIGHT: usize = 4;

/// Payload that does not compress, with its digest: hashing it is the recorder's work, not the server's.
pub fn payload(bytes: usize) -> (Bytes, Digest) {
    let mut payload = vec![0; bytes];
    rand::rng().fill_bytes(&mut payload);
    let payload = Bytes::from(payload);
    let digest = Digest::of(&payload);
    (payload, digest)
}

/// Enrols the recorders of a run.
pub fn enrol(data: &Path, count: usize) -> Vec<Arc<Identity>> {
    (0..count).map(|index| Arc::new(Identity::enrol(data, &data.join(format!("recorder-{index}"))))).collect()
}

/// What a run brought.
pub struct Done {
    /// Bytes of payload with a receipt.
    pub bytes: u64,
    pub elapsed: Duration,
    /// From the end of sending to the receipt, seconds, per link.
    pub latencies: Vec<f64>,
}

/// Runs every recorder for `time`: at `rate` bytes a second in all, or as fast as it goes.
pub async fn run(server: SocketAddr, identities: &[Arc<Identity>], time: Duration, rate: Option<f64>) -> Done {
    let (payload, digest) = payload(SEGMENT_BYTES);
    let stop = Arc::new(AtomicBool::new(false));
    let bytes = Arc::new(AtomicU64::new(0));
    let mut recorders = JoinSet::new();
    for (index, identity) in identities.iter().enumerate() {
        let session = Arc::new(Session::open(&endpoint(), server, identity).await.unwrap());
        let interval = rate.map(|rate| Duration::from_secs_f64((SEGMENT_BYTES * identities.len()) as f64 / rate));
        recorders.spawn(recorder(Recorder {
            session,
            identity: Arc::clone(identity),
            payload: payload.clone(),
            digest,
            interval,
            phase: index as f64 / identities.len() as f64,
            stop: Arc::clone(&stop),
            bytes: Arc::clone(&bytes),
        }));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (began, before) = (Instant::now(), bytes.load(Ordering::Relaxed));
    tokio::time::sleep(time).await;
    let (elapsed, after) = (began.elapsed(), bytes.load(Ordering::Relaxed));
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    while let Some(found) = recorders.join_next().await {
        latencies.append(&mut found.unwrap());
    }
    Done { bytes: after - before, elapsed, latencies }
}

struct Recorder {
    session: Arc<Session>,
    identity: Arc<Identity>,
    payload: Bytes,
    digest: Digest,
    interval: Option<Duration>,
    phase: f64,
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
}

async fn recorder(recorder: Recorder) -> Vec<f64> {
    let key = &recorder.identity.signing;
    let captured_at = aigaq::Clock::system().now();
    let mut chain = match recorder.session.welcome.newest {
        Some(newest) => Chain::after(recorder.identity.id, newest, captured_at),
        None => Chain::new(recorder.identity.id, captured_at),
    };
    recorder.session.send(&chain.start(key)).await.unwrap().receipt();
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut sent = JoinSet::new();
    let mut due = tokio::time::Instant::now() + recorder.interval.unwrap_or_default().mul_f64(recorder.phase);
    while !recorder.stop.load(Ordering::Relaxed) {
        if let Some(interval) = recorder.interval {
            tokio::time::sleep_until(due).await;
            due += interval;
        }
        let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
        let link = chain.media_hashed(key, recorder.payload.clone(), recorder.digest);
        let (session, bytes) = (Arc::clone(&recorder.session), Arc::clone(&recorder.bytes));
        sent.spawn(async move {
            let latency = send(&session, &link).await;
            bytes.fetch_add(link.payload.len() as u64, Ordering::Relaxed);
            drop(permit);
            latency
        });
    }
    let mut latencies = Vec::new();
    while let Some(latency) = sent.join_next().await {
        latencies.push(latency.unwrap());
    }
    latencies
}

async fn send(session: &Session, link: &Link) -> f64 {
    let (answer, sent_at) = session.send_timed(link).await.unwrap();
    let latency = sent_at.elapsed().as_secs_f64();
    assert_eq!(answer.receipt().digest, link.digest);
    latency
}
