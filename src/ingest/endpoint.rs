//! The UDP socket and the QUIC endpoint on it, with every setting that differs from quinn's defaults and why.
//!
//! What it promises: TLS 1.3 alone, one ALPN, a client certificate always, nothing that lets a session be resumed (a resumed
//! session would skip the certificate check), no early data, small windows, QUIC version 1 alone. Never
//! quinn's `ServerConfig::with_single_cert`, which means no client certificate and early data.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aigaq_proto::frame;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{EndpointConfig, IdleTimeout, NoneTokenLog, ServerConfig, TransportConfig, ValidationTokenConfig, VarInt};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use socket2::{Domain, Protocol, Socket, Type};

use super::keys::Keys;
use super::{Gateway, Settings};
use crate::enrol::{ServerTime, Verifier};
use crate::error::{Context as _, Error, Kind, Result};

/// Connection window of a session that uploads nothing: what one recorder may make the server hold unread. More than a stream may hold
/// by so much that footage of now begins beside a large link of backlog that waits for its turn.
pub(super) const WINDOW_IDLE: VarInt = VarInt::from_u32((256 + 64) * 1024);
/// Connection window while a large link has its room in memory: 80 Mbit/s at 200 ms.
pub(super) const WINDOW_UPLOAD: VarInt = VarInt::from_u32(2 * 1024 * 1024);
/// 20 Mbit/s at 100 ms.
const STREAM_WINDOW: VarInt = VarInt::from_u32(256 * 1024);
/// The server sends receipts alone.
const SEND_WINDOW: u64 = 256 * 1024;
const UNI_STREAMS: VarInt = VarInt::from_u32(8);
/// The control stream alone.
const BIDI_STREAMS: VarInt = VarInt::from_u32(1);
/// A dropped datagram looks like loss to the peer, so the socket should hold what arrives while all cores are busy.
const SOCKET_RECEIVE_BYTES: usize = 8 * 1024 * 1024;
const SOCKET_SEND_BYTES: usize = 2 * 1024 * 1024;
/// Connections that wait to be looked at; the rest is shed.
const INCOMING_MAX: usize = 1_024;
const INCOMING_BYTES: u64 = 16 * 1024;
const INCOMING_BYTES_ALL: u64 = 16 * 1024 * 1024;
/// A guess at the first round trip: what is lost of a handshake is sent again after three of them, and not after a second, of which
/// the deadline of a handshake allows few. A path that takes longer gets some datagrams twice.
const RTT_FIRST: Duration = Duration::from_millis(100);
const RETRY_TOKEN_LIFETIME: Duration = Duration::from_secs(10);
const RESET_INTERVAL: Duration = Duration::from_millis(50);
const QUIC_V1: u32 = 1;

/// Opens the UDP socket and the QUIC endpoint on it. Must be called within a tokio runtime.
///
/// # Errors
/// [`Kind::Invalid`] when the address cannot be bound, and whatever reading or writing the keys in `data` fails with.
pub fn bind(
    address: SocketAddr,
    certificate: Arc<dyn ResolvesServerCert>,
    gateway: &Gateway,
    data: &Path,
) -> Result<quinn::Endpoint> {
    let keys = Keys::load_or_create(data)?;
    let mut endpoint = EndpointConfig::new(keys.reset);
    endpoint.supported_versions(vec![QUIC_V1]);
    endpoint.min_reset_interval(RESET_INTERVAL);
    let connection_ids = keys.connection_ids;
    endpoint.cid_generator(move || Box::new(connection_ids.clone()));
    let mut server = ServerConfig::new(Arc::new(crypto(certificate, gateway)?), keys.token);
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0).log(Arc::new(NoneTokenLog));
    server
        .transport_config(Arc::new(transport(&gateway.settings)))
        .retry_token_lifetime(RETRY_TOKEN_LIFETIME)
        .validation_token_config(tokens)
        .migration(true)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_ALL);
    let socket = socket(address).context(Kind::Invalid, format!("cannot listen for recorders on {address}"))?;
    quinn::Endpoint::new(endpoint, Some(server), socket, Arc::new(quinn::TokioRuntime))
        .context(Kind::Internal, "cannot start the QUIC endpoint")
}

/// The transport settings of the server's side of every connection.
#[must_use]
pub fn transport(settings: &Settings) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(UNI_STREAMS)
        .max_concurrent_bidi_streams(BIDI_STREAMS)
        .stream_receive_window(STREAM_WINDOW)
        .receive_window(WINDOW_IDLE)
        .send_window(SEND_WINDOW)
        .initial_rtt(RTT_FIRST)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(settings.idle_timeout).ok())
        // The server sends acknowledgements and receipts, a datagram or two at a time; with segmentation offload every
        // connection would keep a send buffer of 13 KiB for ten.
        .enable_segmentation_offload(false)
        // And in datagrams of the size that every path takes, or it would keep a send buffer for two; what recorders send is
        // theirs to find out.
        .mtu_discovery_config(None)
        .allow_spin(false);
    transport
}

fn crypto(certificate: Arc<dyn ResolvesServerCert>, gateway: &Gateway) -> Result<QuicServerConfig> {
    let unusable = "the server's certificate cannot be used";
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let handshakes = gateway.metrics.handshakes.clone();
    let verifier = Verifier::new(Arc::clone(&gateway.trust), Arc::clone(&gateway.registry), handshakes, true);
    let mut tls = rustls::ServerConfig::builder_with_details(provider, Arc::new(ServerTime(gateway.clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context(Kind::Internal, unusable)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(certificate);
    tls.alpn_protocols = vec![frame::ALPN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    tls.send_half_rtt_data = false;
    QuicServerConfig::try_from(tls).context(Kind::Internal, unusable)
}

/// A socket with large buffers, as far as the system allows; `[::]` takes IPv4 as well.
fn socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(SOCKET_RECEIVE_BYTES)?;
    socket.set_send_buffer_size(SOCKET_SEND_BYTES)?;
    let granted = socket.recv_buffer_size()?;
    if granted < SOCKET_RECEIVE_BYTES {
        tracing::debug!(granted, wanted = SOCKET_RECEIVE_BYTES, "net.core.rmem_max keeps the receive buffer small");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Fails unless the handshake agreed on the one ALPN.
pub(super) fn check_alpn(connection: &quinn::Connection) -> Result<()> {
    let agreed = connection
        .handshake_data()
        .and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok())
        .and_then(|data| data.protocol);
    match agreed {
        Some(protocol) if protocol == frame::ALPN => Ok(()),
        _ => Err(Error::new(Kind::Invalid, "this server speaks aigaq/1")),
    }
}
