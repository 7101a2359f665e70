//! The uplink: keeps a connection to the server, across failures, until the spool is closed and empty.
//!
//! Connecting again waits a delay that doubles up to half a minute and differs between devices, so that a fleet does not
//! return all at once. Only what cannot get better by trying again ends the uplink: a refused identity, a server that breaks
//! the protocol, a receipt that does not verify.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use aigaq_proto::close::Code;
use aigaq_proto::message::{ChainEnd, Receipt};
use aigaq_proto::{Digest, RecorderId, Sequence, SequenceRange};

pub(super) use super::ending::End;
use super::ending::{self, AWAY};
use super::gateways::Gateways;
use super::session::{self, Session};
use super::spool::Spool;
use super::state::StateDir;
use super::{Identity, Lost, Observer};
use crate::clock::Clock;
use crate::error::{Context, Kind, Result};

/// The first delay before connecting again.
const DELAY_MIN: Duration = Duration::from_secs(1);
/// The longest.
const DELAY_MAX: Duration = Duration::from_secs(30);
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long the last words to the server may take.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// What the server said first.
#[derive(Debug, Clone)]
pub(super) struct Greeting {
    /// The newest link that it has of this recorder.
    pub(super) newest: Option<ChainEnd>,
    /// The greatest sequence that it has heard of.
    pub(super) reserved: Option<Sequence>,
    /// The sequences that it has.
    pub(super) durable: Vec<SequenceRange>,
    /// Greatest payload that it takes, bytes.
    pub(super) payload_bytes_max: u32,
}

/// Brings the links of a spool to the server.
pub(super) struct Uplink {
    pub(super) identity: Arc<Identity>,
    pub(super) gateways: Gateways,
    pub(super) shared: Option<quinn::Endpoint>,
    /// Nothing is sent until this is cancelled, where there is one.
    pub(super) opens: Option<CancellationToken>,
    pub(super) transport: Arc<quinn::TransportConfig>,
    pub(super) spool: Arc<Spool>,
    pub(super) state: Option<Arc<StateDir>>,
    pub(super) clock: Clock,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) greeting: watch::Sender<Option<Greeting>>,
    pub(super) tally: Arc<Tally>,
}

/// What an uplink counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) receipts: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) lost: std::sync::Mutex<Vec<Lost>>,
}

impl Tally {
    /// So many bytes of links were handed to QUIC.
    pub(super) fn count_sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Uplink {
    /// Runs until the spool is closed and empty. Dropping the future closes the connection; what has no receipt stays in
    /// the spool.
    ///
    /// # Errors
    /// What cannot get better by trying again.
    pub(super) async fn run(mut self, mut last_receipt: Option<Receipt>) -> Result<()> {
        loop {
            let (end, welcomed) = self.attempt(&mut last_receipt).await;
            self.spool.queue().disconnected();
            let rounds = self.gateways.rounds();
            self.gateways.ended(welcomed);
            let (why, delay) = match end {
                End::Done => return self.keep(last_receipt.as_ref()),
                End::Fatal(error) => return Err(error),
                End::After(delay) => ("the server goes down or moves".to_owned(), delay.min(DELAY_MAX * 10)),
                End::Broken(why) => (why, delay(self.identity.id, rounds)),
                End::Away(why) => (why, AWAY + delay(self.identity.id, rounds)),
            };
            self.observer.note(&format!("{why}; connecting again in {:.1} s", delay.as_secs_f32()));
            tokio::time::sleep(delay).await;
            self.tally.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn keep(&self, last: Option<&Receipt>) -> Result<()> {
        match (&self.state, last) {
            (Some(state), Some(receipt)) => state.save_receipt(receipt, true),
            _ => Ok(()),
        }
    }

    /// One connection, from its handshake to its end, and whether the server said its welcome.
    async fn attempt(&mut self, last_receipt: &mut Option<Receipt>) -> (End, bool) {
        let (address, endpoint, connecting) = match self.connect().await {
            Ok(connecting) => connecting,
            Err(error) if error.kind() == Kind::Invalid => return (End::Fatal(error), false),
            Err(error) => return (End::Broken(error.to_string()), false),
        };
        let connection = match tokio::time::timeout(HANDSHAKE_MAX, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return (self.ended(&error), false),
            Err(_) => return (End::Broken(format!("no answer from {}", self.gateways.name())), false),
        };
        let (stopped, welcomed) = Session::new(self, connection.clone(), last_receipt).run().await;
        if welcomed {
            self.gateways.welcomed(address);
        }
        let end = match stopped {
            session::Stopped::End(end) => end,
            session::Stopped::Lost(error) => self.ended(&error),
        };
        let code = match end {
            End::Fatal(_) => Code::Protocol,
            _ => Code::Done,
        };
        connection.close(code.value().into(), b"");
        if self.shared.is_none() {
            let _ = tokio::time::timeout(GOODBYE_MAX, endpoint.wait_idle()).await;
        }
        (end, welcomed)
    }

    async fn connect(&self) -> Result<(SocketAddr, quinn::Endpoint, quinn::Connecting)> {
        let address = self.gateways.address().await?;
        let endpoint = match &self.shared {
            Some(endpoint) => endpoint.clone(),
            None => {
                let local = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                quinn::Endpoint::client(SocketAddr::new(local, 0)).context(Kind::Busy, "cannot open a UDP socket")?
            }
        };
        let connecting = endpoint
            .connect_with(
                self.identity.client(&self.clock, self.transport.clone())?,
                address,
                &self.identity.server_name,
            )
            .context(Kind::Invalid, format!("cannot connect to {}", self.gateways.name()))?;
        Ok((address, endpoint, connecting))
    }

    /// What the end of a connection means now.
    fn ended(&self, error: &quinn::ConnectionError) -> End {
        ending::of(error, self.gateways.name(), self.identity.dates().at(self.clock.now()))
    }
}

/// The delay before connecting again: doubling, capped, and between half and all of that by device and attempt.
fn delay(id: RecorderId, attempt: u32) -> Duration {
    let full = DELAY_MIN.saturating_mul(2_u32.saturating_pow(attempt.min(16))).min(DELAY_MAX);
    let [draw, ..] = Digest::of(&[&id.0[..], &attempt.to_be_bytes()].concat()).0;
    full / 2 + full / 2 * u32::from(draw) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_half_a_minute_and_differ_between_devices() {
        let of = |device: u8| (0..12).map(|attempt| delay(RecorderId([device; 16]), attempt)).collect::<Vec<_>>();
        let (one, other) = (of(1), of(2));
        assert_ne!(one, other);
        for (attempt, delay) in one.iter().enumerate() {
            let full = DELAY_MIN.saturating_mul(1 << attempt).min(DELAY_MAX);
            assert!(*delay >= full / 2 && *delay <= full, "attempt {attempt}: {delay:?}");
        }
        assert!(delay(RecorderId([1; 16]), u32::MAX) <= DELAY_MAX);
    }
}
