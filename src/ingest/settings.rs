//! What ingest may use up: connections, handshakes, memory, time. Plain values; `config` has the keys and their ranges.

use std::time::Duration;

use aigaq_proto::limits::PAYLOAD_BYTES_MAX;

/// So many backlog links at once use most of a core, since most of them wait for the commit; benches/README.md compares other numbers.
const HANDS_EACH_CORE: usize = 6;

/// The limits of the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Silence after which a connection is given up.
    pub idle_timeout: Duration,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections of one recorder at once; one more closes the oldest.
    pub recorder_connections_max: usize,
    /// Handshakes under way at once.
    pub handshakes_max: usize,
    /// Handshakes that may begin in a second: what a fleet that comes back leaves of the processor to those that are here.
    pub handshakes_per_s_max: u32,
    /// Time that a handshake may take.
    pub handshake_timeout: Duration,
    /// Time from the end of the handshake to the end of `Hello`.
    pub hello_timeout: Duration,
    /// Bytes of payload held at once, over all recorders. Not below `payload_bytes_max`.
    pub memory_bytes_max: usize,
    /// Largest payload of one link, bytes; also all that one recorder may hold of the memory at once.
    pub payload_bytes_max: u32,
    /// Links of one recorder under way at once, from the opening of the stream to the answer.
    pub links_in_flight_max: u32,
    /// Backlog links of all recorders that are worked on at once while footage of now comes, 1 to 1024. More bring backlog in sooner
    /// and give what is of now later receipts.
    pub hands: usize,
    /// How long after the last footage of now backlog has the machine to itself.
    pub present_lasts: Duration,
    /// A link stream that makes too little progress for this long is refused.
    pub stall_timeout: Duration,
    /// How long a link may wait for room in memory before its recorder is told to come back later.
    pub room_timeout: Duration,
    /// How often live sessions are checked for an expired certificate.
    pub sweep_interval: Duration,
    /// How long sessions may take to finish when the server stops.
    pub drain_deadline: Duration,
    /// Least delay that a recorder is told to wait before it connects again after a stop: what a restart takes.
    pub reconnect_delay_min: Duration,
    /// Greatest such delay; each recorder's is drawn between the two.
    pub reconnect_delay_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(20),
            connections_max: 12_000,
            recorder_connections_max: 2,
            handshakes_max: 1_024,
            handshakes_per_s_max: 500,
            handshake_timeout: Duration::from_secs(5),
            hello_timeout: Duration::from_secs(5),
            memory_bytes_max: 256 << 20,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            links_in_flight_max: 32,
            hands: HANDS_EACH_CORE * std::thread::available_parallelism().map_or(1, usize::from),
            present_lasts: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(10),
            room_timeout: Duration::from_secs(10),
            sweep_interval: Duration::from_secs(5),
            drain_deadline: Duration::from_secs(10),
            reconnect_delay_min: Duration::from_secs(3),
            reconnect_delay_max: Duration::from_secs(10),
        }
    }
}
