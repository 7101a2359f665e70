//! The baseline of the transport: a bare quinn server with the same settings that only counts bytes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aigaq::Clock;
use aigaq::enrol::Authority;
use aigaq::ingest;
use aigaq_proto::frame::ALPN;
use quinn::VarInt;
use quinn::crypto::rustls::QuicServerConfig;
use tokio::task::JoinSet;

use crate::load::{self, SEGMENT_BYTES};
use crate::support::Identity;
use crate::support::session::{client_config, endpoint};

/// Streams of one connection under way at once, as many as links in the load.
const IN_FLIGHT: usize = 4;
/// As large as the server's.
const SOCKET_RECEIVE_BYTES: usize = 8 * 1024 * 1024;

/// Starts the sink; it lives as long as the runtime does or until the endpoint is dropped.
pub fn start(data: &Path) -> (quinn::Endpoint, SocketAddr) {
    let clock = Clock::system();
    let identity = Authority::load_or_create(data, &clock).unwrap().server_identity(data, &[], &clock).unwrap();
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)
        .unwrap();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let mut transport = ingest::transport(&ingest::Settings::default());
    transport.receive_window(VarInt::from_u32(2 * 1024 * 1024));
    config.transport_config(Arc::new(transport));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_recv_buffer_size(SOCKET_RECEIVE_BYTES).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let endpoint = quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        Some(config),
        socket.into(),
        Arc::new(quinn::TokioRuntime),
    )
    .unwrap();
    let address = endpoint.local_addr().unwrap();
    tokio::spawn(accept(endpoint.clone()));
    (endpoint, address)
}

async fn accept(endpoint: quinn::Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok(stream) = connection.accept_uni().await {
                tokio::spawn(count(stream));
            }
        });
    }
}

async fn count(mut stream: quinn::RecvStream) -> usize {
    let mut bytes = 0;
    while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, true).await {
        bytes += chunk.bytes.len();
    }
    bytes
}

/// Bytes a second that reach the sink from the same senders; a stream counts when all of it is acknowledged.
pub async fn run(server: SocketAddr, identities: &[Arc<Identity>], time: Duration) -> f64 {
    let (payload, _) = load::payload(SEGMENT_BYTES);
    let stop = Arc::new(AtomicBool::new(false));
    let bytes = Arc::new(AtomicU64::new(0));
    let mut senders = JoinSet::new();
    for identity in identities {
        let client = endpoint();
        let connection =
            client.connect_with(client_config(identity), server, aigaq::enrol::SERVER_NAME).unwrap().await.unwrap();
        for _ in 0..IN_FLIGHT {
            let (connection, payload) = (connection.clone(), payload.clone());
            let (stop, bytes) = (Arc::clone(&stop), Arc::clone(&bytes));
            senders.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = connection.open_uni().await.unwrap();
                    stream.write_chunk(payload.clone()).await.unwrap();
                    stream.finish().unwrap();
                    stream.stopped().await.unwrap();
                    bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
                }
            });
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (began, before) = (Instant::now(), bytes.load(Ordering::Relaxed));
    tokio::time::sleep(time).await;
    let rate = (bytes.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while senders.join_next().await.is_some() {}
    rate
}
