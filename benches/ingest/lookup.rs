//! How long a control centre waits while the server takes all the footage it can.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aigaq::Clock;
use aigaq::config::Config;
use aigaq::server::Server;
use bytes::Bytes;

use crate::support::Identity;
use crate::support::chain::Chain;
use crate::support::session::{Session, endpoint};
use crate::{figures, load};

const HOUR_SEGMENTS: u64 = 1_800;
const SEGMENT_BYTES: usize = 64 * 1024;
const ASKED: usize = 200;
/// 2026-01-01T00:00:00Z.
const BEGIN: u64 = 1_767_225_600_000_000;

/// Prints the 99th percentiles of both questions under full ingest.
pub async fn run() {
    let data = tempfile::tempdir().unwrap();
    let identities = load::enrol(data.path(), load::RECORDERS);
    let watched = Identity::enrol(data.path(), &data.path().join("watched"));
    let mut config = Config::default();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    (config.quic.listen, config.api.listen, config.ops.listen) = (any, any, any);
    config.store.dir = data.path().to_owned();
    let server = Server::start(config, Clock::system()).await.unwrap();
    let (quic, api, token) = (server.quic_addr, server.api_addr, server.owner_token().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run_until(async {
        let _ = stopped.await;
    }));
    fill_hour(quic, &watched).await;
    let asking = tokio::spawn(ask(api, token, watched.id.to_string()));
    let done = load::run(quic, &identities, Duration::from_secs(15), None).await;
    let (playlists, segments) = asking.await.unwrap();
    println!("full ingest: {:.0} MB/s", done.bytes as f64 / done.elapsed.as_secs_f64() / 1e6);
    figures::print("playlist_1h_p99", figures::quantile(&playlists, 0.99) * 1e3, "ms");
    figures::print("playlist_1h_p50", figures::quantile(&playlists, 0.50) * 1e3, "ms");
    figures::print("segment_first_byte_p99", figures::quantile(&segments, 0.99) * 1e3, "ms");
    figures::print("segment_first_byte_p50", figures::quantile(&segments, 0.50) * 1e3, "ms");
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

async fn fill_hour(server: SocketAddr, identity: &Identity) {
    let session = Arc::new(Session::open(&endpoint(), server, identity).await.unwrap());
    let mut chain = Chain::new(identity.id, BEGIN);
    session.send(&chain.start(&identity.signing)).await.unwrap().receipt();
    let mut sent = tokio::task::JoinSet::new();
    for number in 0..HOUR_SEGMENTS {
        let mut payload = vec![0; SEGMENT_BYTES];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        let link = chain.media(&identity.signing, Bytes::from(payload));
        let session = Arc::clone(&session);
        sent.spawn(async move { session.send(&link).await.unwrap().receipt() });
        if sent.len() >= 8 {
            sent.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(receipt) = sent.join_next().await {
        receipt.unwrap();
    }
}

/// Asks for the playlist of the hour and for segments all over it, one after another; seconds for each.
async fn ask(api: SocketAddr, token: String, recorder: String) -> (Vec<f64>, Vec<f64>) {
    let client = reqwest::Client::new();
    let base = format!("http://{api}/v1/recorders/{recorder}/hls/2026-01-01T00:00:00Z/2026-01-01T01:00:00Z");
    let (mut playlists, mut segments) = (Vec::new(), Vec::new());
    for asked in 0..ASKED {
        let began = Instant::now();
        let answer = client.get(format!("{base}/index.m3u8")).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let playlist = answer.text().await.unwrap();
        playlists.push(began.elapsed().as_secs_f64());
        assert_eq!(playlist.matches("#EXTINF").count() as u64, HOUR_SEGMENTS);
        let sequence = 1 + (asked as u64 * 7) % HOUR_SEGMENTS;
        let began = Instant::now();
        let url = format!("{base}/seg-{sequence}.m4s");
        let mut answer = client.get(url).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.chunk().await.unwrap().unwrap();
        segments.push(began.elapsed().as_secs_f64());
        while answer.chunk().await.unwrap().is_some() {}
    }
    (playlists, segments)
}
