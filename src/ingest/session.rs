//! One recorder's connection: the control stream, the links it brings, and how it ends.
//!
//! One task per connection and one per link under way. Answers are written to the control stream by the task of their link, one at
//! a time; at most `links_in_flight_max` of them exist, so nothing here is unbounded. A recorder that breaks the protocol of the
//! control stream loses its connection; a bad link never costs more than itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aigaq_proto::close::Code;
use aigaq_proto::frame::Control;
use aigaq_proto::limits::RANGES_MAX;
use aigaq_proto::message::{Advice, Claim, Drain, Hello, Receipt, Refusal, RefusalReason, Status, Succession, Welcome};
use aigaq_proto::{Error as WireError, LinkHeader, Micros, RecorderId, Sequence};
use quinn::{RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::admission::{Room, Share, Uploading};
use super::identity::{self, Identity, REVOKED};
use super::order::{self, Class};
use super::promise::{self, Promise};
use super::{Core, Gateway, claim, close, endpoint, metrics, upload};
use crate::error::{Context as _, Error, Kind, Result};
use crate::fleet::{self, Live, Seat};
use crate::store::Store;
use crate::store::records::{AuditRecord, ClockOffset, Event, Occurrence};

/// Read from the control stream at a time.
const CONTROL_READ_BYTES: usize = 4 * 1024;
/// How long a recorder that is told to leave may take to take in its last receipts.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the tasks of one connection share.
pub(super) struct Session {
    pub(super) core: Arc<Core>,
    pub(super) connection: quinn::Connection,
    pub(super) identity: Identity,
    /// The recorder's share of the room in memory.
    pub(super) share: Share,
    pub(super) uploading: Uploading,
    answers: tokio::sync::Mutex<SendStream>,
    /// One permit for each link that may be under way.
    slots: Arc<Semaphore>,
    /// One permit: at most one claim is under way.
    claiming: Arc<Semaphore>,
    /// What is known of the recorder beside its chain.
    live: Arc<Live>,
    clock: Mutex<ClockOffset>,
}

/// Serves an established connection to its end. What is not needed while the recorder is silent is boxed, so that a silent session
/// is small.
pub(super) async fn serve(core: Arc<Core>, connection: quinn::Connection) {
    let ended = async {
        endpoint::check_alpn(&connection)?;
        let identity = Identity::of(&connection, &core.gateway.registry)?;
        let _seat = core.sessions.enter(identity.record.id, identity.not_after, &connection);
        // Whoever was revoked between the handshake and the seat was not among those that were closed.
        if core.gateway.registry.is_revoked(identity.record.id) || core.is_listed(&connection) {
            return Err(Error::new(Kind::Unauthorised, REVOKED));
        }
        let _counted = metrics::Counted::new(&core.gateway.metrics.connections, identity.record.kind);
        let (session, control, seat) = Box::pin(greet(&core, &connection, identity)).await?;
        session.run(control, seat).await
    };
    match ended.await {
        Ok(code) => close(&connection, code, ""),
        Err(error) => {
            crate::ingest::report(&error, "a session ended");
            close(&connection, error.kind().close_code(), error.context());
        }
    }
}

/// Opens the session: waits for `Hello` and answers `Welcome`.
async fn greet(
    core: &Arc<Core>,
    connection: &quinn::Connection,
    identity: Identity,
) -> Result<(Arc<Session>, Reader, Seat)> {
    let late = || Error::new(Kind::Invalid, "no Hello in time");
    let (answers, reader, hello) = tokio::time::timeout(core.gateway.settings.hello_timeout, async {
        let (answers, stream) = connection.accept_bi().await.context(Kind::Invalid, "gone before Hello")?;
        let mut reader = Reader { stream, pending: Vec::new() };
        loop {
            match reader.next().await? {
                Some(Control::Hello(hello)) => return Ok((answers, reader, hello)),
                Some(Control::Ignorable(_)) => {}
                _ => return Err(Error::new(Kind::Invalid, "the first message is not Hello")),
            }
        }
    })
    .await
    .map_err(|_| late())??;
    let clock = measure_clock(&core.gateway, connection, hello.clock);
    let (seat, welcome) = open(&core.gateway, connection, identity.record.id, hello, clock).await?;
    let settings = &core.gateway.settings;
    let session = Arc::new(Session {
        core: Arc::clone(core),
        connection: connection.clone(),
        identity,
        share: Room::share(settings),
        uploading: Uploading::default(),
        answers: tokio::sync::Mutex::new(answers),
        slots: Arc::new(Semaphore::new(settings.links_in_flight_max.max(1) as usize)),
        claiming: Arc::new(Semaphore::new(1)),
        live: Arc::clone(seat.live()),
        clock: Mutex::new(clock),
    });
    session.send(&Control::Welcome(welcome)).await?;
    let notes = core.gateway.log.succession();
    if !notes.is_empty() {
        session.send(&Control::Succession(Succession { notes: notes.to_owned() })).await?;
    }
    Ok((session, reader, seat))
}

/// What the server knows of a recorder that says hello, and whether it has lost what it promised. The sequences that the recorder
/// announces are reserved, and the certificates that it has shown are kept, before this returns.
async fn open(
    gateway: &Gateway,
    connection: &quinn::Connection,
    id: RecorderId,
    hello: Hello,
    clock: ClockOffset,
) -> Result<(Seat, Welcome)> {
    let (certificates, now) = (identity::chain(connection).unwrap_or_default(), gateway.clock.now());
    let (store, log, fleet) = (gateway.store.clone(), gateway.log.clone(), gateway.fleet.clone());
    let look = move || -> Result<_> {
        let shown: Vec<&[u8]> = certificates.iter().map(|certificate| &**certificate).collect();
        store.keep_certificates(id, &shown, now)?;
        let chain = store.head(id)?.unwrap_or_default().chain;
        let judged = hello.last_receipt.as_ref().map(|shown| promise::judge(&store, &log, id, shown)).transpose()?;
        let (newest, before) = (chain.newest().map(|end| end.sequence), fleet.announcement(id)?);
        let seat = fleet.enter(id, newest, &hello.spool, Some(clock))?;
        let mut is_new = false;
        if let (Some(shown), Some(Promise::Lost | Promise::Forgotten)) = (&hello.last_receipt, judged) {
            let shown = fleet::Shown { sequence: shown.sequence, log_index: shown.log_index };
            is_new = fleet.forgot(&seat, before.as_ref(), newest, shown)?;
            if is_new {
                write_down(&store, id, shown, now)?;
            }
        }
        fleet.forgot_up_to(&seat, &chain.known())?;
        Ok((seat, chain, judged, is_new))
    };
    let (seat, chain, judged, is_new) =
        tokio::task::spawn_blocking(look).await.context(Kind::Internal, "cannot look up the chain")??;
    note_promise(gateway, id, judged, is_new);
    let mut durable = chain.known();
    durable.truncate(RANGES_MAX);
    let welcome = Welcome {
        recorder: id,
        clock: gateway.clock.now(),
        durable,
        newest: chain.newest(),
        payload_bytes_max: gateway.settings.payload_bytes_max,
        links_in_flight_max: gateway.settings.links_in_flight_max.max(1),
        reserved: seat.live().reserved(),
    };
    Ok((seat, welcome))
}

/// Says in the audit trail and in the feed that a recorder has shown a receipt for what is lost.
fn write_down(store: &Store, id: RecorderId, shown: fleet::Shown, now: Micros) -> Result<()> {
    let text = format!(
        "a receipt for link {}, entry {} of the log, which the store does not have",
        shown.sequence, shown.log_index
    );
    let entry = AuditRecord::new(now, Event::Restore, "server", "server", text).about(id.to_string());
    store.audit(&entry.ended("lost"))?;
    store.happen(&[(now, Some(id), Occurrence::Forgotten { sequence: shown.sequence })])
}

/// `is_new` if this receipt was not shown before.
fn note_promise(gateway: &Gateway, id: RecorderId, judged: Option<Promise>, is_new: bool) {
    match judged {
        Some(Promise::Lost | Promise::Forgotten) if !is_new => {}
        Some(Promise::Lost | Promise::Forgotten) => {
            gateway.metrics.receipts_missing.inc();
            tracing::error!(
                "a recorder holds a receipt for a link that the store does not have: acknowledged data was lost"
            );
            tracing::debug!(recorder = %id, "the recorder of the lost link");
        }
        Some(Promise::Unproven) => {
            gateway.metrics.receipts_unproven.inc();
            tracing::debug!(recorder = %id, "ignored a receipt that this log did not give to this recorder");
        }
        Some(Promise::Kept) | None => {}
    }
}

/// Compares the recorder's clock, as it was when it wrote a message, with the server's. The message took between nothing and one
/// round trip, so half of it is added and is the error.
fn measure_clock(gateway: &Gateway, connection: &quinn::Connection, recorder_clock: Micros) -> ClockOffset {
    let half = connection.rtt() / 2;
    let half_us = u32::try_from(half.as_micros()).unwrap_or(u32::MAX);
    let there = i128::from(recorder_clock) + i128::from(half_us);
    let offset = (there - i128::from(gateway.clock.now())).clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    let offset_us = i64::try_from(offset).unwrap_or_default();
    gateway.metrics.clock_offset.observe(Duration::from_micros(offset_us.unsigned_abs()).as_secs_f64());
    ClockOffset { offset_us, error_us: half_us }
}

impl Session {
    /// Takes links and status messages until the recorder leaves or the server drains.
    async fn run(self: &Arc<Self>, mut control: Reader, mut seat: Seat) -> Result<Code> {
        let mut listening = true;
        // Resolves at once when the recorder will hear no more answers, also while there are none to send.
        let mut deaf = std::pin::pin!(self.answers.lock().await.stopped());
        loop {
            tokio::select! {
                biased;
                () = self.core.shutdown.cancelled() => return Box::pin(self.drain()).await,
                // Whatever it resolves to, it must not be polled again.
                stopped = &mut deaf => return match stopped {
                    Ok(Some(_)) => Err(Error::new(Kind::Invalid, "the recorder stopped the control stream")),
                    Ok(None) | Err(_) => Ok(Code::Done),
                },
                () = seat.changed() => Box::pin(self.tell(&mut seat)).await?,
                opened = self.next_link() => {
                    let Some((slot, stream)) = opened else { return Ok(Code::Done) };
                    let session = Arc::clone(self);
                    self.core.tasks.spawn(async move {
                        upload::receive(session, stream).await;
                        drop(slot);
                    });
                }
                message = control.next(), if listening => match message? {
                    Some(Control::Status(status)) => {
                        self.status(&status);
                        Box::pin(self.tell(&mut seat)).await?;
                    }
                    Some(Control::Claim(claim)) => self.claim(claim)?,
                    Some(Control::Progress(progress)) => seat.progress(&progress),
                    Some(Control::Ignorable(_)) => {}
                    Some(_) => return Err(Error::new(Kind::Invalid, "a message that a recorder does not send here")),
                    None => listening = false,
                },
            }
        }
    }

    /// The next link stream, as soon as one more link may be under way; `None` when the connection is gone. Cancel-safe.
    async fn next_link(&self) -> Option<(OwnedSemaphorePermit, RecvStream)> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let stream = self.connection.accept_uni().await.ok()?;
        Some((slot, stream))
    }

    /// Tells the recorder to come back later, finishes the links under way, and sees that their receipts arrive.
    async fn drain(&self) -> Result<Code> {
        let settings = &self.core.gateway.settings;
        let reconnect_after_ms = delay_ms(settings.reconnect_delay_min, settings.reconnect_delay_max);
        self.send(&Control::Drain(Drain { reconnect_after_ms })).await?;
        let finished = async {
            let _ = self.slots.acquire_many(settings.links_in_flight_max.max(1)).await;
            let _ = self.claiming.acquire().await;
            let mut answers = self.answers.lock().await;
            let _ = answers.finish();
            let _ = tokio::time::timeout(FAREWELL, answers.stopped()).await;
        };
        tokio::select! {
            _ = tokio::time::timeout(settings.drain_deadline, finished) => {}
            _ = self.connection.closed() => {}
        }
        Ok(Code::Draining)
    }

    /// Answers a claim beside everything else. A recorder has at most one without all of its answers.
    fn claim(self: &Arc<Self>, claim: Claim) -> Result<()> {
        let under_way = Arc::clone(&self.claiming).try_acquire_owned();
        let under_way = under_way.context(Kind::Invalid, "a Claim before the one before it was answered")?;
        let session = Arc::clone(self);
        self.core.tasks.spawn(async move {
            if let Err(error) = claim::answer(&session, claim, under_way).await {
                session.fail(&error);
            }
        });
        Ok(())
    }

    /// Whether a link that comes in goes at once.
    pub(super) fn class(&self, header: &LinkHeader) -> Class {
        if header.payload_length == 0 {
            return Class::Present;
        }
        let gateway = &self.core.gateway;
        let span = order::span(header, self.clock_offset().offset_us);
        if !order::is_of_now(span, gateway.clock.now()) && !gateway.fleet.wants(self.identity.record.id, span) {
            return Class::Backlog;
        }
        self.core.hands.present(Instant::now());
        Class::Present
    }

    /// A link with this sequence comes in.
    pub(super) fn offered(&self, sequence: Sequence) {
        self.live.offered(sequence);
    }

    pub(super) async fn send_receipt(&self, receipt: Receipt) {
        self.live.stored(receipt.sequence);
        self.answer(Control::Receipt(receipt)).await;
    }

    pub(super) async fn send_refusal(&self, refusal: Refusal) {
        self.core.gateway.metrics.refused.with_label_values(&[metrics::reason(refusal.reason)]).inc();
        tracing::debug!(recorder = %self.identity.record.id, ?refusal, "refused a link");
        // The other side of a fork has a durable link in its place, and another recorder's link no place in this chain.
        let leaves_a_gap = !matches!(refusal.reason, RefusalReason::Fork | RefusalReason::WrongRecorder);
        if let (Some(sequence), Advice::Never, true) = (refusal.sequence, refusal.advice, leaves_a_gap) {
            self.live.refused(sequence);
        }
        self.answer(Control::Refusal(refusal)).await;
    }

    /// A connection that brings links and takes no answers is of no use to anybody: it is closed.
    async fn answer(&self, message: Control) {
        if let Err(error) = self.send(&message).await {
            self.fail(&error);
        }
    }

    fn fail(&self, error: &Error) {
        crate::ingest::report(error, "an answer was not sent");
        close(&self.connection, error.kind().close_code(), error.context());
    }

    /// Writes one frame; waits while the recorder does not read. Not to be cancelled half-way.
    pub(super) async fn send(&self, message: &Control) -> Result<()> {
        let frame = message.encode().context(Kind::Internal, "cannot encode a message")?;
        self.answers.lock().await.write_all(&frame).await.context(Kind::Invalid, "the control stream is gone")
    }

    /// Writes the last answers to a claim. `under_way` is given back when nothing can come between them and what follows.
    pub(super) async fn send_last(&self, messages: &[Control], under_way: OwnedSemaphorePermit) -> Result<()> {
        let mut frames = Vec::new();
        for message in messages {
            frames.extend(message.encode().context(Kind::Internal, "cannot encode a message")?);
        }
        let mut answers = self.answers.lock().await;
        drop(under_way);
        answers.write_all(&frames).await.context(Kind::Invalid, "the control stream is gone")
    }

    pub(super) fn clock_offset(&self) -> ClockOffset {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The recorder says what time it has and what it holds.
    fn status(&self, status: &Status) {
        let gateway = &self.core.gateway;
        let clock = measure_clock(gateway, &self.connection, status.clock);
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = clock;
        self.live.announce(&status.spool, Some(clock), gateway.clock.now());
    }

    /// Tells the recorder what it is asked for and does not know yet.
    async fn tell(&self, seat: &mut Seat) -> Result<()> {
        for message in seat.due(Some(self.clock_offset())) {
            self.send(&message).await?;
        }
        Ok(())
    }
}

/// The recorder's side of the control stream, cut into messages.
struct Reader {
    stream: RecvStream,
    pending: Vec<u8>,
}

impl Reader {
    /// The next message; `None` when the recorder has ended the stream between two. Cancel-safe.
    async fn next(&mut self) -> Result<Option<Control>> {
        loop {
            let decoded = Control::decode(&self.pending);
            if let Some((message, length)) = decoded.context(Kind::Invalid, "malformed message")? {
                self.pending.drain(..length);
                if self.pending.is_empty() {
                    // An idle session keeps no buffer.
                    self.pending = Vec::new();
                }
                return Ok(Some(message));
            }
            let chunk = self.stream.read_chunk(CONTROL_READ_BYTES, true).await;
            match chunk.context(Kind::Invalid, "the control stream is gone")? {
                Some(chunk) => self.pending.extend_from_slice(&chunk.bytes),
                None if self.pending.is_empty() => return Ok(None),
                None => {
                    return Err(WireError::Truncated("control frame")).context(Kind::Invalid, "malformed message");
                }
            }
        }
    }
}

/// A delay drawn evenly from `min` to `max`, so that recorders come back neither before the server nor all at once.
fn delay_ms(min: Duration, max: Duration) -> u32 {
    let mut bytes = [0; 8];
    // Without random bytes the delay is the least: still correct.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let span = milliseconds(max.saturating_sub(min)).saturating_add(1);
    u32::try_from(milliseconds(min).saturating_add(u64::from_be_bytes(bytes) % span)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<F: Future>(_: impl FnOnce(Arc<Core>, quinn::Connection) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_session_that_waits_is_small() {
        let taken = bytes(serve);
        assert!(taken <= 1_400, "{taken} bytes for each connected recorder");
    }
}
