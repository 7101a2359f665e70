//! One unidirectional stream: a link on its way in, from the first byte to the answer (SPEC.md sections 5 and 7).
//!
//! The payload is hashed while it is read, and grows as its bytes arrive: nothing is allocated from a length field. Whatever is
//! wrong here costs this link alone: it gets its refusal, the stream is stopped, and the connection goes on. A link that fails
//! a check of its own (signature, length, digest) goes to the writer all the same, to be kept in quarantine.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aigaq_proto::close::Code;
use aigaq_proto::frame::{self, LINK_PREFIX_BYTES};
use aigaq_proto::message::{Advice, Refusal, RefusalReason};
use aigaq_proto::{Digest, Error as WireError, LinkHeader, Sequence, SignatureBytes, link};
use bytes::Bytes;
use quinn::{ReadError, RecvStream, VarInt};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::endpoint::{WINDOW_IDLE, WINDOW_UPLOAD};
use super::order::{Class, Turn};
use super::session::Session;
use crate::commit::{Outcome, Submission};

/// Chunks taken from the transport at a time; each is at most a datagram.
const CHUNKS: usize = 32;
/// The payload's buffer begins with this, or with the declared length where that is less, and doubles. More than most segments
/// have, so that they are not copied to make room.
const FIRST_BYTES: usize = 1024 * 1024;
/// Payloads from here on are worth a wide window.
const WIDE_BYTES_MIN: u32 = 128 * 1024;
/// A stream that brings nothing for so many windows is stalled. On a path that loses much, timeouts that double leave one silent
/// for longer than a window; a connection that is gone ends by itself before.
const SILENT_WINDOWS_MAX: u32 = 3;
/// While room in memory is short a stream slower than this is stalled: whoever holds room must use it.
const RATE_MIN_SHORT_BYTES_PER_S: u64 = 64 * 1024;
/// When a link that found no room should be sent again.
const BUSY_RETRY_MS: u32 = 2_000;
const STALLED_RETRY_MS: u32 = 1_000;

/// Why a link did not reach the writer.
#[derive(Debug)]
enum Stop {
    /// The recorder is told.
    Refuse { sequence: Option<Sequence>, reason: RefusalReason, advice: Advice, detail: String },
    /// There is nobody to tell, or nothing to say: the stream was reset or the connection is gone.
    Gone,
}

fn refuse(sequence: Option<Sequence>, reason: RefusalReason, advice: Advice, detail: impl Into<String>) -> Stop {
    Stop::Refuse { sequence, reason, advice, detail: detail.into() }
}

/// Receives one link, hands it to the writer, and sends the answer on the control stream. Not to be cancelled half-way: it ends by
/// itself when the connection does.
pub(super) async fn receive(session: Arc<Session>, stream: RecvStream) {
    let number = u64::from(VarInt::from(stream.id()));
    match attempt(&session, stream).await {
        Ok((_, Outcome::Receipt(receipt))) => session.send_receipt(*receipt).await,
        Ok((sequence, Outcome::Refused { reason, advice, detail })) => {
            session.send_refusal(Refusal { stream: number, sequence: Some(sequence), reason, advice, detail }).await;
        }
        Err(Stop::Refuse { sequence, reason, advice, detail }) => {
            session.send_refusal(Refusal { stream: number, sequence, reason, advice, detail }).await;
        }
        Err(Stop::Gone) => {}
    }
}

async fn attempt(session: &Session, stream: RecvStream) -> Result<(Sequence, Outcome), Stop> {
    let core = &session.core;
    let mut reader = Reader::new(session, stream);
    let prelude = reader.prelude().await?;
    let header = &prelude.header;
    let sequence = header.sequence;
    reader.sequence = Some(sequence);
    check_header(session, header)?;
    session.offered(sequence);
    let class = session.class(header);
    reader.class = class;
    let room = core.room.take(&session.share, class, header.payload_length);
    let mut turn = core.hands.turn(class);
    let place = match class {
        Class::Present => tokio::time::timeout(core.gateway.settings.room_timeout, room).await.map_err(|_| {
            let advice = Advice::RetryAfter { delay_ms: BUSY_RETRY_MS };
            refuse(Some(sequence), RefusalReason::Busy, advice, "no room in memory for this link now")
        })?,
        Class::Backlog => reader.turn_comes(place_in_turn(&mut turn, room)).await?,
    };
    let place = place.ok_or(Stop::Gone)?;
    let wide = (header.payload_length >= WIDE_BYTES_MIN)
        .then(|| session.uploading.widen(&session.connection, WINDOW_IDLE, WINDOW_UPLOAD));
    let (payload, actual) = reader.payload(header.payload_length, &mut turn).await?;
    drop((reader, wide));

    let digest = link::digest(&prelude.header_bytes);
    let signed = session.identity.has_signed(&core.gateway.registry, &digest, &prelude.signature);
    let length_agrees = actual.1 == u64::from(header.payload_length);
    let fault = match (signed, length_agrees, actual.0 == header.payload_digest) {
        (false, ..) => Some(RefusalReason::BadSignature),
        (_, false, _) => Some(RefusalReason::LengthMismatch),
        (.., false) => Some(RefusalReason::DigestMismatch),
        _ => None,
    };
    let (reply, answer) = oneshot::channel();
    let submission = Submission {
        digest,
        header_bytes: prelude.header_bytes,
        signature: prelude.signature,
        header: prelude.header,
        payload,
        received_at: core.gateway.clock.now(),
        clock: Some(session.clock_offset()),
        fault,
        actual,
        permit: Some(place.shared),
        reply,
    };
    core.gateway.queue.submit(submission).await.map_err(|_| Stop::Gone)?;
    let outcome = answer.await.map_err(|_| Stop::Gone)?;
    core.room.measure();
    Ok((sequence, outcome))
}

/// The place of a link whose turn has come. It keeps its hand unless it has to wait for room.
async fn place_in_turn<T>(turn: &mut Turn<'_>, room: impl Future<Output = T>) -> T {
    turn.take().await;
    let mut room = std::pin::pin!(room);
    tokio::select! {
        biased;
        place = &mut room => return place,
        () = std::future::ready(()) => turn.rest(),
    }
    room.await
}

/// A header that is not taken. Its sequence is told wherever it can be read.
fn bad_header(header_bytes: &[u8], error: &WireError) -> Stop {
    let reason = match error {
        WireError::OverLimit { field: "payload_length", .. } => RefusalReason::PayloadTooLarge,
        _ => RefusalReason::Malformed,
    };
    refuse(LinkHeader::sequence_of(header_bytes), reason, Advice::Never, error.to_string())
}

fn check_header(session: &Session, header: &LinkHeader) -> Result<(), Stop> {
    let sequence = Some(header.sequence);
    if header.recorder != session.identity.record.id {
        let detail = "the header names another recorder than the certificate";
        return Err(refuse(sequence, RefusalReason::WrongRecorder, Advice::Never, detail));
    }
    let limit = session.core.gateway.settings.payload_bytes_max;
    if header.payload_length > limit {
        let detail = format!("payload_length is {}, the limit is {limit}", header.payload_length);
        return Err(refuse(sequence, RefusalReason::PayloadTooLarge, Advice::Never, detail));
    }
    Ok(())
}

/// What comes before the payload.
struct Prelude {
    header: LinkHeader,
    header_bytes: Bytes,
    signature: SignatureBytes,
}

/// A link stream that is watched for progress, and stopped when it is dropped before its end.
struct Reader<'a> {
    session: &'a Session,
    stream: RecvStream,
    sequence: Option<Sequence>,
    class: Class,
    /// Ends the window over which progress is measured.
    watch: Pin<Box<Sleep>>,
    /// Bytes since the window began.
    progress: u64,
    /// Windows without any before it.
    silent: u32,
    ended: bool,
}

impl<'a> Reader<'a> {
    fn new(session: &'a Session, stream: RecvStream) -> Self {
        let watch = Box::pin(tokio::time::sleep(session.core.gateway.settings.stall_timeout));
        Self { session, stream, sequence: None, class: Class::Present, watch, progress: 0, silent: 0, ended: false }
    }

    async fn prelude(&mut self) -> Result<Prelude, Stop> {
        let malformed = |error: WireError| refuse(None, RefusalReason::Malformed, Advice::Never, error.to_string());
        let prefix = self.exactly(LINK_PREFIX_BYTES).await?;
        let prefix = prefix.as_slice().try_into().map_err(|_| malformed(WireError::Truncated("link prefix")))?;
        let length = frame::decode_link_prefix(prefix).map_err(malformed)?;
        let header_bytes = self.exactly(length).await?;
        self.sequence = LinkHeader::sequence_of(&header_bytes);
        let signature = self.exactly(size_of::<SignatureBytes>()).await?;
        let signature = signature.as_slice().try_into().map_err(|_| malformed(WireError::Truncated("signature")))?;
        let header = LinkHeader::decode(&header_bytes).map_err(|error| bad_header(&header_bytes, &error))?;
        Ok(Prelude { header, header_bytes: header_bytes.into(), signature })
    }

    /// The next `count` bytes, gathered as they arrive.
    async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Stop> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let chunk = tokio::select! {
                biased;
                chunk = self.stream.read_chunk(count - bytes.len(), true) => chunk,
                () = &mut self.watch => {
                    self.check_progress()?;
                    continue;
                }
            };
            let Some(chunk) = chunk.map_err(|error| self.gone(&error))? else {
                self.ended = true;
                let detail = "the stream ends before the payload begins";
                return Err(refuse(self.sequence, RefusalReason::Malformed, Advice::Never, detail));
            };
            self.progress += chunk.bytes.len() as u64;
            bytes.extend_from_slice(&chunk.bytes);
        }
        Ok(bytes)
    }

    /// Waits for what a backlog link needs to go on, as long as its connection lives and the server is not going down. The time does not
    /// count as the recorder's.
    async fn turn_comes<T>(&mut self, what: impl Future<Output = T>) -> Result<T, Stop> {
        let core = &self.session.core;
        let began = Instant::now();
        let _counted = core.gateway.metrics.backlog_waits();
        tokio::select! {
            biased;
            came = what => {
                let until = self.watch.deadline() + began.elapsed();
                self.watch.as_mut().reset(until);
                Ok(came)
            }
            // Cheaper than to ask the stream, which every datagram would wake; one that was reset is found when its turn comes.
            _ = self.session.connection.closed() => Err(Stop::Gone),
            () = core.shutdown.cancelled() => Err(Stop::Gone),
        }
    }

    /// The payload with its digest and length, as far as it goes: a stream that brings more than `declared` is read no
    /// further. Where the link needs a hand, it has it when this returns, and not while it waits for the network.
    async fn payload(&mut self, declared: u32, turn: &mut Turn<'_>) -> Result<(Bytes, (Digest, u64)), Stop> {
        let declared = declared as usize;
        let window = self.session.core.gateway.settings.stall_timeout;
        self.watch.as_mut().reset(Instant::now() + window);
        let mut chunks: [Bytes; CHUNKS] = Default::default();
        let mut payload = Vec::new();
        let mut hasher = Sha256::new();
        self.take_hand(turn).await?;
        while payload.len() <= declared {
            let count = tokio::select! {
                biased;
                count = self.stream.read_chunks(&mut chunks) => count,
                () = std::future::ready(()), if turn.has_hand() => {
                    turn.rest();
                    continue;
                }
                () = &mut self.watch => {
                    self.check_progress()?;
                    continue;
                }
            };
            let count = count.map_err(|error| self.gone(&error))?;
            self.take_hand(turn).await?;
            let Some(count) = count else {
                self.ended = true;
                break;
            };
            let begin = payload.len();
            let arrived = chunks.iter().take(count).map(Bytes::len).sum();
            make_room(&mut payload, arrived, declared);
            for chunk in chunks.iter_mut().take(count) {
                payload.extend_from_slice(&std::mem::take(chunk));
            }
            hasher.update(payload.get(begin..).unwrap_or_default());
            self.progress += arrived as u64;
        }
        let length = payload.len() as u64;
        self.session.core.gateway.metrics.received_bytes.inc_by(length);
        Ok((payload.into(), (Digest(hasher.finalize().into()), length)))
    }

    async fn take_hand(&mut self, turn: &mut Turn<'_>) -> Result<(), Stop> {
        if turn.waits() { self.turn_comes(turn.take()).await } else { Ok(()) }
    }

    /// At the end of a window: fails if nothing came for too long, or too little while others need the room; else begins the next.
    fn check_progress(&mut self) -> Result<(), Stop> {
        let core = &self.session.core;
        let window: Duration = core.gateway.settings.stall_timeout;
        self.silent = if self.progress == 0 { self.silent + 1 } else { 0 };
        let wanted = u128::from(RATE_MIN_SHORT_BYTES_PER_S) * window.as_millis() / 1_000;
        let slow = core.room.is_short(self.class) && u128::from(self.progress) < wanted;
        if slow || self.silent >= SILENT_WINDOWS_MAX {
            let advice = Advice::RetryAfter { delay_ms: STALLED_RETRY_MS };
            return Err(refuse(self.sequence, RefusalReason::Stalled, advice, "the stream made too little progress"));
        }
        self.progress = 0;
        self.watch.as_mut().reset(Instant::now() + window);
        Ok(())
    }

    fn gone(&mut self, error: &ReadError) -> Stop {
        self.ended = true;
        tracing::debug!(%error, "a link stream ended without its link");
        Stop::Gone
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // The stream may have ended in the same moment; then there is nothing to stop.
            let _ = self.stream.stop(VarInt::from_u32(Code::Refused.value()));
        }
    }
}

/// Room for `arrived` more bytes: the buffer doubles, and ends at the declared length where the sender keeps to it.
fn make_room(payload: &mut Vec<u8>, arrived: usize, declared: usize) {
    if payload.capacity() - payload.len() < arrived {
        let doubled = payload.len().max(FIRST_BYTES).min(declared.saturating_sub(payload.len()));
        payload.reserve_exact(doubled.max(arrived));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_with_what_arrives_and_ends_at_the_declared_length() {
        let mut payload = Vec::new();
        make_room(&mut payload, 1_000, 32 << 20);
        assert!(payload.capacity() <= FIRST_BYTES, "a declared length allocates nothing");
        let declared = 3_000_000;
        while payload.len() < declared {
            let arrived = 1_000.min(declared - payload.len());
            make_room(&mut payload, arrived, declared);
            payload.resize(payload.len() + arrived, 0);
        }
        assert_eq!(payload.capacity(), declared);
    }
}
