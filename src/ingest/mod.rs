//! QUIC in: what a recorder sends becomes a [`Submission`](crate::commit::Submission), and what the writer answers goes back.
//!
//! The path of a link: [`endpoint`] (socket, TLS, settings) → `identity` (who connects) → `admission` (what may come in at once) →
//! `session` (one connection) → `order` (what goes first) → `upload` (one link). This room acknowledges nothing by itself: a receipt comes from
//! [`commit`](crate::commit) or not at all. Whatever a recorder sends, it costs that recorder alone.

use std::sync::Arc;
use std::time::Duration;

use aigaq_proto::close::Code;
use quinn::{ConnectionError, Incoming, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::commit::Queue;
use crate::enrol::{Registry, Trust};
use crate::error::{Error, Kind, Result};
use crate::fleet::Fleet;
use crate::log::Reader;
use crate::store::Store;

mod admission;
mod claim;
mod connection_id;
pub mod endpoint;
mod identity;
mod keys;
mod metrics;
mod order;
mod promise;
mod session;
mod settings;
mod upload;

pub use endpoint::{bind, transport};
pub use metrics::Metrics;
pub use settings::Settings;

/// How long closing packets may take to go out at the end.
const CLOSING: Duration = Duration::from_secs(1);

/// What a session needs of the rest of the server.
#[derive(Clone)]
pub struct Gateway {
    /// Where durable links are.
    pub store: Store,
    /// The way to the writer.
    pub queue: Queue,
    /// Whose receipts are promises of this server, and where those of durable links come from.
    pub log: Reader,
    /// What is known of recorders in the field.
    pub fleet: Fleet,
    /// Who is enrolled.
    pub registry: Arc<Registry>,
    /// Where their certificates lead.
    pub trust: Arc<Trust>,
    /// The server's time.
    pub clock: Clock,
    /// Limits.
    pub settings: Settings,
    /// Counters of this room.
    pub metrics: Metrics,
}

/// What all sessions share.
struct Core {
    gateway: Gateway,
    room: admission::Room,
    hands: order::Hands,
    sessions: Arc<admission::Sessions>,
    handshakes: Arc<Semaphore>,
    handshake_rate: admission::Rate,
    /// One permit for each part of a claim that is looked up.
    claims: Semaphore,
    /// Every task of every connection.
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Serves recorders until `shutdown` is cancelled, then drains: new connections are refused at once, no more links are taken;
/// those under way are finished or given up at the deadline. When it returns, no task of the room is left that could still
/// hand over a link, except those that were given up.
///
/// # Errors
/// [`Kind::Internal`] when the endpoint ended by itself.
pub async fn run(endpoint: quinn::Endpoint, gateway: Gateway, shutdown: CancellationToken) -> Result<()> {
    let settings = &gateway.settings;
    let core = Arc::new(Core {
        room: admission::Room::new(settings, gateway.metrics.memory_bytes.clone()),
        hands: order::Hands::new(settings),
        sessions: Arc::new(admission::Sessions::new(settings.recorder_connections_max)),
        handshakes: Arc::new(Semaphore::new(settings.handshakes_max.clamp(1, Semaphore::MAX_PERMITS))),
        claims: Semaphore::new(claim::LOOK_UPS_MAX),
        handshake_rate: admission::Rate::new(settings.handshakes_per_s_max, Instant::now()),
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
        gateway: gateway.clone(),
    });
    let (mut revocations, mut lists) = (gateway.registry.revocations(), gateway.trust.changes());
    let mut sweep = tokio::time::interval(settings.sweep_interval);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => core.admit(incoming, endpoint.open_connections()),
                None => return Err(Error::new(Kind::Internal, "the QUIC endpoint ended")),
            },
            Ok(()) = revocations.changed() => {
                core.sessions.close_revoked(|recorder| core.gateway.registry.is_revoked(recorder));
            }
            Ok(()) = lists.changed() => {
                let of_task = Arc::clone(&core);
                core.tasks.spawn_blocking(move || of_task.sessions.close_listed(|connection| of_task.is_listed(connection)));
            }
            _ = sweep.tick() => {
                let now = core.gateway.clock.now();
                core.sessions.close_expired(now, |recorder| core.gateway.registry.has_certificate(recorder, now));
            }
        }
    }
    core.tasks.close();
    if tokio::time::timeout(settings.drain_deadline + CLOSING, core.finish(&endpoint)).await.is_err() {
        tracing::info!(
            left = core.tasks.len(),
            "the drain deadline passed with links under way; they will be sent again"
        );
    }
    endpoint.close(VarInt::from_u32(Code::Draining.value()), b"the server is going down");
    let _ = tokio::time::timeout(CLOSING, endpoint.wait_idle()).await;
    Ok(())
}

impl Core {
    /// Whether an existing CA has revoked the certificate of this connection.
    fn is_listed(&self, connection: &quinn::Connection) -> bool {
        let chain = identity::chain(connection);
        chain.is_some_and(|chain| self.gateway.trust.is_listed(&chain, self.gateway.clock.now()))
    }

    /// Decides about a client that knocks. Nothing is kept of one that has not proven its address.
    fn admit(self: &Arc<Self>, incoming: Incoming, open: usize) {
        let metrics = &self.gateway.metrics;
        if !incoming.remote_address_validated() {
            metrics.retries.inc();
            // Fails only for an address that is validated, which this one is not.
            let _ = incoming.retry();
            return;
        }
        let slot = Arc::clone(&self.handshakes).try_acquire_owned();
        match slot {
            Ok(slot) if open <= self.gateway.settings.connections_max && self.handshake_rate.take(Instant::now()) => {
                self.tasks.spawn(Arc::clone(self).connect(incoming, slot));
            }
            _ => {
                self.count_handshake("busy");
                incoming.refuse();
            }
        }
    }

    /// Waits for the last task. Who knocks meanwhile is refused, and so comes back sooner than after an unanswered handshake.
    async fn finish(&self, endpoint: &quinn::Endpoint) {
        loop {
            tokio::select! {
                biased;
                () = self.tasks.wait() => return,
                Some(incoming) = endpoint.accept() => {
                    self.count_handshake("draining");
                    incoming.refuse();
                }
            }
        }
    }

    async fn connect(self: Arc<Self>, incoming: Incoming, slot: OwnedSemaphorePermit) {
        let limit = self.gateway.settings.handshake_timeout;
        let connection = match Box::pin(tokio::time::timeout(limit, incoming.into_future())).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a handshake failed");
                if let Some(result) = failed_handshake(&error) {
                    self.count_handshake(result);
                }
                return;
            }
            Err(_) => return self.count_handshake("timeout"),
        };
        drop(slot);
        self.count_handshake("ok");
        session::serve(self, connection).await;
    }

    fn count_handshake(&self, result: &str) {
        self.gateway.metrics.handshakes.with_label_values(&[result]).inc();
    }
}

/// The label of a failed handshake; `None` where the certificate check has counted it already. TLS alerts arrive as
/// 0x100 + alert (RFC 9001 section 4.8).
fn failed_handshake(error: &ConnectionError) -> Option<&'static str> {
    const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
    const CERTIFICATE_REQUIRED: u64 = 0x100 + 116;
    const BAD_CERTIFICATE: u64 = 0x100 + 42;
    const ACCESS_DENIED: u64 = 0x100 + 49;
    match error {
        ConnectionError::TransportError(error) => match u64::from(error.code) {
            NO_APPLICATION_PROTOCOL => Some("alpn"),
            CERTIFICATE_REQUIRED => Some("no_certificate"),
            BAD_CERTIFICATE..=ACCESS_DENIED => None,
            _ => Some("tls"),
        },
        ConnectionError::TimedOut => Some("timeout"),
        ConnectionError::VersionMismatch => Some("version"),
        _ => Some("peer"),
    }
}

/// Closes a connection with a code and a text that a person can read.
fn close(connection: &quinn::Connection, code: Code, text: &str) {
    connection.close(VarInt::from_u32(code.value()), text.as_bytes());
}

/// Logs an error where it is consumed, at the level of its kind.
fn report(error: &Error, what: &str) {
    match error.kind().level() {
        tracing::Level::ERROR => tracing::error!(%error, "{what}"),
        tracing::Level::WARN => tracing::warn!(%error, "{what}"),
        tracing::Level::INFO => tracing::info!(%error, "{what}"),
        _ => tracing::debug!(%error, "{what}"),
    }
}
