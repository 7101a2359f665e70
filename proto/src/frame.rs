//! Framing: control frames and the beginning of a link stream (SPEC.md section 5). Sans I/O: callers hand over bytes.
//!
//! ```text
//! control frame   type u8 | length u32 BE | body
//! link stream     kind u8 = 1 | header length u16 BE | header | signature 64 | payload ... FIN
//! ```

use alloc::vec::Vec;

use crate::limits::{
    CHECKPOINT_BYTES_MAX, CONTROL_BYTES_MAX, HEADER_BYTES_MAX, PROOF_HASHES_MAX, RANGES_MAX, SEQUENCE_MAX,
    SUCCESSION_BYTES_MAX, TEXT_BYTES_MAX, TIME_US_MAX,
};
use crate::message::{
    Advice, Cancel, Claim, Drain, Hello, Progress, Receipt, Refusal, Request, SpoolSummary, Status, Succession,
    Unclaimed, Welcome,
};
use crate::{Error, Micros, Sequence, SequenceRange, SignatureBytes, wire};

/// The ALPN token of this version of the protocol.
pub const ALPN: &[u8] = b"aigaq/1";
/// First byte of a unidirectional stream that carries a link.
pub const STREAM_LINK: u8 = 1;
/// Bytes before the body of a control frame.
pub const CONTROL_PREFIX_BYTES: usize = 5;
/// Bytes before the header of a link.
pub const LINK_PREFIX_BYTES: usize = 3;
/// Control frame types from here on may be skipped by a peer that does not know them.
pub const TYPE_IGNORABLE_MIN: u8 = 0x80;

/// A control message of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Recorder to server, first.
    Hello(Hello),
    /// Recorder to server.
    Status(Status),
    /// Recorder to server.
    Claim(Claim),
    /// Recorder to server.
    Progress(Progress),
    /// Server to recorder, first.
    Welcome(Welcome),
    /// Server to recorder: a receipt.
    Receipt(Receipt),
    /// Server to recorder.
    Refusal(Refusal),
    /// Server to recorder.
    Request(Request),
    /// Server to recorder.
    Drain(Drain),
    /// Server to recorder.
    Unclaimed(Unclaimed),
    /// Server to recorder.
    Cancel(Cancel),
    /// Server to recorder.
    Succession(Succession),
    /// A frame type of [`TYPE_IGNORABLE_MIN`] or more that this version does not know.
    Ignorable(u8),
}

/// Frame type of `Hello`, from the recorder, its first frame.
pub const TYPE_HELLO: u8 = 0x01;
/// Frame type of `Status`, from the recorder.
pub const TYPE_STATUS: u8 = 0x02;
/// Frame type of `Claim`, from the recorder.
pub const TYPE_CLAIM: u8 = 0x03;
/// Frame type of `Progress`, from the recorder.
pub const TYPE_PROGRESS: u8 = 0x04;
/// Frame type of `Welcome`, from the server, its first frame.
pub const TYPE_WELCOME: u8 = 0x11;
/// Frame type of `Receipt`, from the server.
pub const TYPE_RECEIPT: u8 = 0x12;
/// Frame type of `Refusal`, from the server.
pub const TYPE_REFUSAL: u8 = 0x13;
/// Frame type of `Request`, from the server.
pub const TYPE_REQUEST: u8 = 0x14;
/// Frame type of `Drain`, from the server.
pub const TYPE_DRAIN: u8 = 0x15;
/// Frame type of `Unclaimed`, from the server.
pub const TYPE_UNCLAIMED: u8 = 0x16;
/// Frame type of `Cancel`, from the server.
pub const TYPE_CANCEL: u8 = 0x17;
/// Frame type of `Succession`, from the server; skipped by a recorder that does not know it.
pub const TYPE_SUCCESSION: u8 = 0x91;

/// Every frame type with the name of its message, for the comparison with the document.
pub const TYPES: [(u8, &str); 12] = [
    (TYPE_HELLO, "Hello"),
    (TYPE_STATUS, "Status"),
    (TYPE_CLAIM, "Claim"),
    (TYPE_PROGRESS, "Progress"),
    (TYPE_WELCOME, "Welcome"),
    (TYPE_RECEIPT, "Receipt"),
    (TYPE_REFUSAL, "Refusal"),
    (TYPE_REQUEST, "Request"),
    (TYPE_DRAIN, "Drain"),
    (TYPE_UNCLAIMED, "Unclaimed"),
    (TYPE_CANCEL, "Cancel"),
    (TYPE_SUCCESSION, "Succession"),
];

fn within(field: &'static str, limit: usize, actual: usize) -> Result<(), Error> {
    within_u64(field, limit as u64, actual as u64)
}

fn within_u64(field: &'static str, limit: u64, actual: u64) -> Result<(), Error> {
    if actual > limit { Err(Error::OverLimit { field, limit, actual }) } else { Ok(()) }
}

fn check_time(field: &'static str, time: Micros) -> Result<(), Error> {
    within_u64(field, TIME_US_MAX, time)
}

fn check_sequence(sequence: Sequence) -> Result<(), Error> {
    within_u64("sequence", SEQUENCE_MAX, sequence)
}

fn check_ranges(field: &'static str, ranges: &[SequenceRange]) -> Result<(), Error> {
    within(field, RANGES_MAX, ranges.len())?;
    let ordered = ranges.iter().all(|range| range.first <= range.last)
        && ranges.windows(2).all(|pair| matches!(pair, [a, b] if a.last < b.first));
    if !ordered {
        return Err(Error::Malformed(field));
    }
    ranges.last().map_or(Ok(()), |range| within_u64(field, SEQUENCE_MAX, range.last))
}

fn check_spool(spool: &SpoolSummary) -> Result<(), Error> {
    spool.oldest.map_or(Ok(()), |time| check_time("oldest", time))?;
    spool.newest.map_or(Ok(()), |time| check_time("newest", time))?;
    check_ranges("waiting", &spool.waiting)
}

fn check_receipt(receipt: &Receipt) -> Result<(), Error> {
    check_sequence(receipt.sequence)?;
    check_time("received_at", receipt.received_at)?;
    within("proof", PROOF_HASHES_MAX, receipt.proof.len())?;
    within("checkpoint", CHECKPOINT_BYTES_MAX, receipt.checkpoint.len())
}

fn check_claim(claim: &Claim) -> Result<(), Error> {
    within("links", RANGES_MAX, claim.links.len())?;
    let rising = claim.links.windows(2).all(|pair| matches!(pair, [a, b] if a.sequence < b.sequence));
    if !rising {
        return Err(Error::Malformed("links"));
    }
    claim.links.last().map_or(Ok(()), |link| check_sequence(link.sequence))
}

fn check_progress(progress: &Progress) -> Result<(), Error> {
    within_u64("links_left", progress.links, progress.links_left)?;
    within_u64("bytes_left", progress.bytes, progress.bytes_left)
}

fn check_refusal(refusal: &Refusal) -> Result<(), Error> {
    refusal.sequence.map_or(Ok(()), check_sequence)?;
    if let Advice::ResendFrom { sequence } = refusal.advice {
        check_sequence(sequence)?;
    }
    within("detail", TEXT_BYTES_MAX, refusal.detail.len())
}

impl Control {
    /// The whole frame, prefix included.
    ///
    /// # Errors
    /// [`Error::OverLimit`] for a field or a body beyond its limit.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        self.check_limits()?;
        let (kind, body) = match self {
            Self::Hello(message) => (TYPE_HELLO, wire::encode(message, "Hello")?),
            Self::Status(message) => (TYPE_STATUS, wire::encode(message, "Status")?),
            Self::Welcome(message) => (TYPE_WELCOME, wire::encode(message, "Welcome")?),
            Self::Receipt(message) => (TYPE_RECEIPT, wire::encode(message, "Receipt")?),
            Self::Refusal(message) => (TYPE_REFUSAL, wire::encode(message, "Refusal")?),
            Self::Request(message) => (TYPE_REQUEST, wire::encode(message, "Request")?),
            Self::Drain(message) => (TYPE_DRAIN, wire::encode(message, "Drain")?),
            Self::Claim(message) => (TYPE_CLAIM, wire::encode(message, "Claim")?),
            Self::Progress(message) => (TYPE_PROGRESS, wire::encode(message, "Progress")?),
            Self::Unclaimed(message) => (TYPE_UNCLAIMED, wire::encode(message, "Unclaimed")?),
            Self::Cancel(message) => (TYPE_CANCEL, wire::encode(message, "Cancel")?),
            Self::Succession(message) => (TYPE_SUCCESSION, wire::encode(message, "Succession")?),
            Self::Ignorable(kind) => (*kind, Vec::new()),
        };
        within("control body", CONTROL_BYTES_MAX, body.len())?;
        let length = u32::try_from(body.len()).map_err(|_| Error::Malformed("control body"))?;
        let mut frame = Vec::with_capacity(CONTROL_PREFIX_BYTES.saturating_add(body.len()));
        frame.push(kind);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&body);
        Ok(frame)
    }

    /// Reads the first frame of `bytes`: the message and the number of bytes it took, or `None` while more are needed.
    ///
    /// # Errors
    /// Whatever is wrong with the frame; the stream cannot go on after it.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        let Some((prefix, rest)) = bytes.split_first_chunk::<CONTROL_PREFIX_BYTES>() else { return Ok(None) };
        let [kind, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        within("control body", CONTROL_BYTES_MAX, length)?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = match kind {
            TYPE_HELLO => Self::Hello(wire::decode(body, "Hello")?),
            TYPE_STATUS => Self::Status(wire::decode(body, "Status")?),
            TYPE_WELCOME => Self::Welcome(wire::decode(body, "Welcome")?),
            TYPE_RECEIPT => Self::Receipt(wire::decode(body, "Receipt")?),
            TYPE_REFUSAL => Self::Refusal(wire::decode(body, "Refusal")?),
            TYPE_REQUEST => Self::Request(wire::decode(body, "Request")?),
            TYPE_DRAIN => Self::Drain(wire::decode(body, "Drain")?),
            TYPE_CLAIM => Self::Claim(wire::decode(body, "Claim")?),
            TYPE_PROGRESS => Self::Progress(wire::decode(body, "Progress")?),
            TYPE_UNCLAIMED => Self::Unclaimed(wire::decode(body, "Unclaimed")?),
            TYPE_CANCEL => Self::Cancel(wire::decode(body, "Cancel")?),
            TYPE_SUCCESSION => Self::Succession(wire::decode(body, "Succession")?),
            TYPE_IGNORABLE_MIN.. => Self::Ignorable(kind),
            _ => return Err(Error::Malformed("control frame type")),
        };
        message.check_limits()?;
        Ok(Some((message, CONTROL_PREFIX_BYTES.saturating_add(length))))
    }

    fn check_limits(&self) -> Result<(), Error> {
        match self {
            Self::Hello(hello) => {
                within("software", TEXT_BYTES_MAX, hello.software.len())?;
                check_time("clock", hello.clock)?;
                hello.last_receipt.as_ref().map_or(Ok(()), check_receipt)?;
                check_spool(&hello.spool)
            }
            Self::Status(status) => {
                check_time("clock", status.clock)?;
                check_spool(&status.spool)
            }
            Self::Welcome(welcome) => {
                check_time("clock", welcome.clock)?;
                welcome.newest.map_or(Ok(()), |end| check_sequence(end.sequence))?;
                welcome.reserved.map_or(Ok(()), check_sequence)?;
                check_ranges("durable", &welcome.durable)
            }
            Self::Receipt(receipt) => check_receipt(receipt),
            Self::Refusal(refusal) => check_refusal(refusal),
            Self::Request(request) => {
                check_time("from", request.from)?;
                check_time("to", request.to)?;
                check_time("expires", request.expires)
            }
            Self::Claim(claim) => check_claim(claim),
            Self::Progress(progress) => check_progress(progress),
            Self::Unclaimed(unclaimed) => check_ranges("sequences", &unclaimed.sequences),
            Self::Succession(succession) => within("succession", SUCCESSION_BYTES_MAX, succession.notes.len()),
            Self::Drain(_) | Self::Cancel(_) => Ok(()),
            Self::Ignorable(kind) if *kind >= TYPE_IGNORABLE_MIN && *kind != TYPE_SUCCESSION => Ok(()),
            Self::Ignorable(_) => Err(Error::Malformed("control frame type")),
        }
    }
}

/// Everything of a link stream that comes before the payload.
///
/// # Errors
/// [`Error::OverLimit`] for a header that is too long.
pub fn encode_link_prelude(header_bytes: &[u8], signature: &SignatureBytes) -> Result<Vec<u8>, Error> {
    within("header bytes", HEADER_BYTES_MAX, header_bytes.len())?;
    let length = u16::try_from(header_bytes.len()).map_err(|_| Error::Malformed("header length"))?;
    let mut prelude =
        Vec::with_capacity(LINK_PREFIX_BYTES.saturating_add(header_bytes.len()).saturating_add(signature.len()));
    prelude.push(STREAM_LINK);
    prelude.extend_from_slice(&length.to_be_bytes());
    prelude.extend_from_slice(header_bytes);
    prelude.extend_from_slice(signature);
    Ok(prelude)
}

/// Reads the three bytes that open a link stream: the length of the header that follows.
///
/// # Errors
/// [`Error::Malformed`] for another kind of stream, [`Error::OverLimit`] for a header that is too long.
pub fn decode_link_prefix(prefix: [u8; LINK_PREFIX_BYTES]) -> Result<usize, Error> {
    let [kind, high, low] = prefix;
    if kind != STREAM_LINK {
        return Err(Error::Malformed("stream kind"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    within("header bytes", HEADER_BYTES_MAX, length)?;
    Ok(length)
}
