//! The transport settings of the recorder's side of a connection, and why each differs from quinn's defaults.

use std::sync::Arc;
use std::time::Duration;

use quinn::{TransportConfig, VarInt};

use super::congestion::FloorConfig;

/// Often enough for a NAT of a mobile network to keep the port.
const KEEP_ALIVE: Duration = Duration::from_secs(6);
/// Silence after which the server is given up, milliseconds.
const IDLE_MAX_MS: VarInt = VarInt::from_u32(20_000);

/// A guess at the first round trip, from which follows how soon a lost handshake is sent again: after three of them, not after a
/// second. A path that takes longer gets some datagrams twice.
const RTT_FIRST: Duration = Duration::from_millis(100);

/// What a recorder uses; a measurement may change it.
#[must_use]
pub fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IDLE_MAX_MS.into()))
        .max_concurrent_bidi_streams(0u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .initial_rtt(RTT_FIRST)
        // The sender makes the order: what was written first goes first.
        .send_fairness(false)
        .congestion_controller_factory(Arc::new(FloorConfig::default()))
        .datagram_receive_buffer_size(None)
        .allow_spin(false);
    transport
}
