//! Runs a recorder from its source to its last receipt: the source is read, links are made and put into the spool, and
//! the uplink brings them to the server, all at once in one task per recorder.
//!
//! What the source gave before a fault is still brought in; the report then names the fault.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use aigaq_proto::{Micros, RecorderId, Sequence};

use super::gateways::Gateways;
use super::maker::{Made, Maker};
use super::renew;
use super::source::Item;
use super::spool::Spool;
use super::state::StateDir;
use super::uplink::{Tally, Uplink};
use super::{Identity, Source, Track};
use crate::clock::Clock;
use crate::error::{Context, Error, Kind, Result};

/// Bytes of payload that may wait for receipts.
const SPOOL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How fast a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A link is offered when it would have been recorded.
    RealTime,
    /// As fast as it goes.
    Fast,
}
/// What a recorder is told to do.
pub struct Options {
    /// Who it is.
    pub identity: Identity,
    /// Directory of the chain's state (that of the identity); `None` keeps it in memory, for load and for tests.
    pub state: Option<PathBuf>,
    /// `HOST:PORT`, several separated by commas; `None` takes what the identity has.
    pub server: Option<String>,
    /// Captured-at of the first sample; `None` is now.
    pub start: Option<Micros>,
    /// How fast the source is read.
    pub pace: Pace,
    /// Where footage comes from.
    pub source: Source,
    /// Where the recorder was, by its clock; `None` leaves links without positions.
    pub track: Option<Track>,
    /// The recorder's clock.
    pub clock: Clock,
    /// Ends the recording: a `Stop` link, then the receipts that are missing, then the report.
    pub stop: CancellationToken,
    /// Is told what happens.
    pub observer: Option<Arc<dyn Observer>>,
    /// A QUIC endpoint to share among many recorders; `None` binds one.
    pub endpoint: Option<quinn::Endpoint>,
}
impl Options {
    /// What `aigaq record` does: real time, from now, the chain's state in memory, no observer.
    #[must_use]
    pub fn new(identity: Identity, source: Source) -> Self {
        Self {
            identity,
            state: None,
            server: None,
            start: None,
            pace: Pace::RealTime,
            source,
            track: None,
            clock: Clock::system(),
            stop: CancellationToken::new(),
            observer: None,
            endpoint: None,
        }
    }
}
/// Is told what a recorder does. Called on its task: must not block.
pub trait Observer: Send + Sync {
    /// The server has said its welcome on this connection.
    fn connected(&self, connection: &quinn::Connection) {
        let _ = connection;
    }
    /// A link was put into the spool.
    fn link(&self, sequence: Sequence, bytes: usize) {
        let _ = (sequence, bytes);
    }
    /// A receipt was verified, this long after the last byte of the link was handed to QUIC.
    fn receipt(&self, sequence: Sequence, bytes: usize, waited: Duration) {
        let _ = (sequence, bytes, waited);
    }
    /// Something that a person may want to read: connected, refused, trying again.
    fn note(&self, text: &str) {
        let _ = text;
    }
}
/// A link that the server will never take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its sequence.
    pub sequence: Sequence,
    /// Why, in the server's words.
    pub why: String,
}
/// What a recorder did.
#[derive(Debug)]
pub struct Report {
    /// The recorder.
    pub recorder: RecorderId,
    /// Links made.
    pub links: u64,
    /// Their payloads, bytes.
    pub bytes: u64,
    /// Receipts verified.
    pub receipts: u64,
    /// Sequence of the first link made and of the last.
    pub sequences: Option<(Sequence, Sequence)>,
    /// Captured-at of the first sample, and the end of the last.
    pub captured: Option<(Micros, Micros)>,
    /// Links that the server refused for good, oldest first.
    pub lost: Vec<Lost>,
    /// What ended the source early, if something did.
    pub fault: Option<Error>,
    /// How often the connection had to be made again.
    pub reconnects: u64,
    /// Bytes of links that were handed to QUIC, those that had to be sent again among them.
    pub sent_bytes: u64,
}
impl Report {
    /// Whether all went well: the source was read to its end and nothing was lost.
    ///
    /// # Errors
    /// What ended the source early, or that links were refused for good.
    pub fn outcome(self) -> Result<()> {
        let lost = self.lost.len();
        match (self.fault, self.lost.into_iter().next()) {
            (Some(fault), _) => Err(fault),
            (None, None) => Ok(()),
            (None, Some(first)) => {
                let text =
                    format!("{lost} links were refused for good, the first: link {}, {}", first.sequence, first.why);
                Err(Error::new(Kind::Invalid, text))
            }
        }
    }
}

/// Stands in where nobody watches.
struct Unwatched;
impl Observer for Unwatched {}

/// Records: reads the source to its end, or until told to stop, and returns when every link has a verified receipt or was
/// refused for good. Dropping the future ends it at once; links without receipt are then lost.
///
/// # Errors
/// What keeps it from going on: an identity that is in use or refused, a source that gives nothing, a receipt that does not
/// verify. A fault of the source after its first segment is in the report instead.
pub async fn record(options: Options) -> Result<Report> {
    let Options { identity, state, server, start, pace, source, track, clock, stop, observer, endpoint } = options;
    let observer = observer.unwrap_or_else(|| Arc::new(Unwatched));
    let id = identity.id;
    let servers = server.unwrap_or_else(|| identity.server.clone());
    let gateways = Gateways::parse(&servers)?;
    let identity = Arc::new(identity);
    let (state, local, last_receipt) = remembered(state).await?;
    let mut items = source.open();
    let mut first = Vec::new();
    while !first.iter().any(|item| matches!(item, Item::Segment(_) | Item::Ask(_))) {
        match tokio::select! { item = items.recv() => item, () = stop.cancelled() => None } {
            Some(item) => first.push(item?),
            None => return Ok(Report::empty(id)),
        }
    }

    let spool = Arc::new(Spool::new(SPOOL_BYTES_MAX, clock.clone()));
    let renewal = renew::start(identity.clone(), servers, clock.clone(), observer.clone());
    let tally = Arc::new(Tally::default());
    let (greeting, greeted) = watch::channel(None);
    let uplink = Uplink {
        identity: identity.clone(),
        gateways,
        shared: endpoint,
        spool: spool.clone(),
        state: state.clone(),
        clock: clock.clone(),
        observer: observer.clone(),
        greeting,
        tally: tally.clone(),
    };
    let maker =
        Maker { identity, spool: spool.clone(), state, local, greeted, start, pace, track, clock, stop, observer };
    let mut uplink = std::pin::pin!(uplink.run(last_receipt));
    let made = tokio::select! {
        made = maker.run(first, items) => made?,
        failed = &mut uplink => return Err(failed.err().unwrap_or_else(|| Error::new(Kind::Internal, "the uplink ended early"))),
    };
    spool.close();
    if made.links > 0 {
        uplink.await?;
        renewal.settle().await;
    }
    Ok(Report::of(id, made, &tally))
}

/// Takes the directory of the chain's state, if there is one, and reads it.
async fn remembered(dir: Option<PathBuf>) -> Result<Remembered> {
    let Some(dir) = dir else { return Ok((None, None, None)) };
    let read = tokio::task::spawn_blocking(move || {
        let state = StateDir::open(&dir)?;
        let (place, receipt) = (state.place()?, state.receipt());
        Ok((Some(Arc::new(state)), place, receipt))
    });
    read.await.context(Kind::Internal, "reading the chain's state died")?
}

type Remembered = (Option<Arc<StateDir>>, Option<super::state::Place>, Option<aigaq_proto::message::Receipt>);

impl Report {
    fn empty(recorder: RecorderId) -> Self {
        Self::of(recorder, Made::default(), &Tally::default())
    }

    fn of(recorder: RecorderId, made: Made, tally: &Tally) -> Self {
        let lost = std::mem::take(&mut *tally.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        Self {
            recorder,
            links: made.links,
            bytes: made.bytes,
            receipts: tally.receipts.load(std::sync::atomic::Ordering::Relaxed),
            sequences: made.sequences,
            captured: made.captured,
            lost,
            fault: made.fault,
            reconnects: tally.reconnects.load(std::sync::atomic::Ordering::Relaxed),
            sent_bytes: tally.sent_bytes.load(std::sync::atomic::Ordering::Relaxed),
        }
    }
}
