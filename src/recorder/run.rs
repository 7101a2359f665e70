//! Runs a recorder from its source to its last receipt: the source is read, links are made and put into the spool, and
//! the uplink brings them to the server, all at once in one task per recorder.
//!
//! What the source gave before a fault is still brought in; the report then names the fault. With a spool on disk the server is
//! not needed to record: what it has not taken when the recorder is told to stop stays for the next time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use aigaq_proto::message::Receipt;
use aigaq_proto::{Micros, RecorderId, Sequence};

use super::control::{self, Command, Control, SocketFile};
use super::gateways::Gateways;
use super::health::Device;
use super::maker::{Made, Maker, Setup};
use super::renew;
use super::resume::Memory;
use super::spool::Spool;
use super::state::StateDir;
use super::transport::transport;
use super::uplink::{Tally, Uplink};
use super::{Identity, Source, Track};
use crate::clock::Clock;
use crate::error::{Context, Error, Kind, Result};

/// Bytes of payload that may wait for receipts in memory.
const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes that the spool on disk may take, if nothing else is said.
pub const SPOOL_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// How long a recorder that was told to stop may go on bringing in what it has on disk.
const FAREWELL: Duration = Duration::from_secs(10);

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
    /// Directory of the chain's state and the spool (that of the identity); `None` keeps both in memory, for load and for tests.
    pub state: Option<PathBuf>,
    /// Bytes that the spool on disk may take.
    pub spool_bytes_max: u64,
    /// `HOST:PORT`, several separated by commas; `None` takes what the identity has.
    pub server: Option<String>,
    /// Captured-at of the first sample; `None` is now.
    pub start: Option<Micros>,
    /// How fast the source is read.
    pub pace: Pace,
    /// Where footage comes from; without one, only what the spool holds is brought in.
    pub source: Option<Source>,
    /// Where the recorder was, by its clock; `None` leaves links without positions.
    pub track: Option<Track>,
    /// Category of a mark to raise when the recording begins.
    pub mark: Option<String>,
    /// The recorder's clock.
    pub clock: Clock,
    /// Ends the recording: a `Stop` link, then the receipts that are missing, then the report.
    pub stop: CancellationToken,
    /// Links wait in the spool until this is cancelled; `None` brings them in as they come. A load makes its backlog before it measures.
    pub opens: Option<CancellationToken>,
    /// Is told what happens.
    pub observer: Option<Arc<dyn Observer>>,
    /// A QUIC endpoint to share among many recorders; `None` binds one.
    pub endpoint: Option<quinn::Endpoint>,
    /// How QUIC is used: [`transport`], but where settings are compared.
    pub transport: Arc<quinn::TransportConfig>,
    /// A way to ask things of the recorder while it runs; with `state`, its socket is another.
    pub commands: mpsc::Sender<Command>,
    inbox: mpsc::Receiver<Command>,
}
impl Options {
    /// What `aigaq record` does: real time, from now, the chain's state in memory, no observer.
    #[must_use]
    pub fn new(identity: Identity, source: impl Into<Option<Source>>) -> Self {
        let (commands, inbox) = control::channel();
        Self {
            identity,
            state: None,
            spool_bytes_max: SPOOL_BYTES_MAX,
            server: None,
            start: None,
            pace: Pace::RealTime,
            source: source.into(),
            track: None,
            mark: None,
            clock: Clock::system(),
            stop: CancellationToken::new(),
            opens: None,
            observer: None,
            endpoint: None,
            transport: Arc::new(transport()),
            commands,
            inbox,
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
    /// Links that were lost here, each named by a signed link: to make room, or because storage did not keep them.
    pub given_up: u64,
    /// Links that wait in the spool for the next time.
    pub left: u64,
    /// What ended the source early, if something did.
    pub fault: Option<Error>,
    /// How often the connection had to be made again.
    pub reconnects: u64,
    /// Bytes of links that were handed to QUIC, those that had to be sent again among them.
    pub sent_bytes: u64,
}
impl Report {
    /// Whether all went well: the source was read to its end and nothing was lost. What waits in the spool is not lost.
    ///
    /// # Errors
    /// What ended the source early, or that links were refused for good or lost.
    pub fn outcome(self) -> Result<()> {
        let lost = self.lost.len();
        match (self.fault, self.lost.into_iter().next()) {
            (Some(fault), _) => Err(fault),
            (None, Some(first)) => {
                let text =
                    format!("{lost} links were refused for good, the first: link {}, {}", first.sequence, first.why);
                Err(Error::new(Kind::Invalid, text))
            }
            (None, None) if self.given_up > 0 => {
                let text = format!("{} links were lost on this device; the chain says which and why", self.given_up);
                Err(Error::new(Kind::StorageFull, text))
            }
            (None, None) => Ok(()),
        }
    }
}

/// Stands in where nobody watches.
struct Unwatched;
impl Observer for Unwatched {}

/// Records: reads the source to its end, or until told to stop, and returns when every link has a verified receipt or was
/// refused for good; told to stop with a spool on disk, it returns after some seconds with the rest in the spool. Dropping the future
/// ends it at once; links in memory are then lost.
///
/// # Errors
/// What keeps it from going on: an identity that is in use or refused, a source that gives nothing, a receipt that does not
/// verify. A fault of the source after its first segment is in the report instead.
pub async fn record(options: Options) -> Result<Report> {
    let observer = options.observer.unwrap_or_else(|| Arc::new(Unwatched));
    let id = options.identity.id;
    let servers = options.server.unwrap_or_else(|| options.identity.server.clone());
    let gateways = Gateways::parse(&servers)?;
    let identity = Arc::new(options.identity);
    let ground = Ground::open(options.state, id, options.spool_bytes_max, options.clock.clone()).await?;
    let _control = ground.control(options.commands, &*observer);
    let spool = ground.spool;
    let renewal = renew::start(identity.clone(), servers, options.clock.clone(), observer.clone());
    let tally = Arc::new(Tally::default());
    let (greeting, greeted) = watch::channel(None);
    let (own, heard) = (ground.memory.own().is_some(), greeted.clone());
    let uplink = Uplink {
        identity: identity.clone(),
        gateways,
        shared: options.endpoint,
        opens: options.opens,
        transport: options.transport,
        spool: spool.clone(),
        state: ground.state.clone(),
        clock: options.clock.clone(),
        observer: observer.clone(),
        greeting,
        tally: tally.clone(),
    };
    let items = options.source.map(|source| source.open(&options.clock));
    let mut maker = Maker::new(Setup {
        identity,
        spool: spool.clone(),
        memory: ground.memory,
        greeted,
        start: options.start,
        pace: options.pace,
        track: options.track,
        clock: options.clock,
        device: if ground.state.is_some() { Device::here() } else { Device::default() },
        mark: options.mark,
        inbox: options.inbox,
        stop: options.stop.clone(),
        observer: observer.clone(),
    });
    let mut uplink = std::pin::pin!(uplink.run(ground.last_receipt));
    let mut refused = None;
    {
        let mut making = std::pin::pin!(maker.run(items));
        tokio::select! {
            made = &mut making => made?,
            ended = &mut uplink => {
                let error = ended.err().unwrap_or_else(|| Error::new(Kind::Internal, "the uplink ended early"));
                if !(own || spool.is_durable() && heard.borrow().is_some()) {
                    return Err(error);
                }
                // Until a person has looked the recorder records and keeps.
                observer.note(&format!("{error}; recording goes on without the server"));
                refused = Some(error);
                making.await?;
            }
        }
    }
    spool.close();
    if let Some(error) = refused {
        return Err(error);
    }
    if spool.queue().held().links > 0 {
        tokio::select! {
            brought = bring_in(uplink, &spool, &mut maker) => {
                brought?;
                renewal.settle().await;
            }
            () = patience(&options.stop), if spool.is_durable() => {}
        }
    }
    Ok(Report::of(id, maker.made(), &tally, spool.queue().held().links))
}

/// Brings in what the spool holds; what turns out not to read back is named and let go, and who asks gets an answer.
pub(super) async fn bring_in(
    mut uplink: std::pin::Pin<&mut impl Future<Output = Result<()>>>,
    spool: &Spool,
    maker: &mut Maker,
) -> Result<()> {
    loop {
        // Naming may have to wait for the server's first word or for room, which both come from the uplink.
        tokio::select! {
            done = &mut uplink => return done,
            tended = maker.tend(spool) => tended?,
        }
    }
}

/// Over some seconds after the recorder was told to stop.
async fn patience(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FAREWELL).await;
}

/// What a recorder stands on: its state, if it has any on disk, and its spool.
struct Ground {
    state: Option<Arc<StateDir>>,
    spool: Arc<Spool>,
    memory: Memory,
    last_receipt: Option<Receipt>,
    dir: Option<PathBuf>,
}

impl Ground {
    /// Takes the directory of the chain's state, if there is one, and reads it.
    async fn open(dir: Option<PathBuf>, id: RecorderId, spool_bytes_max: u64, clock: Clock) -> Result<Self> {
        let Some(dir) = dir else {
            let spool = Arc::new(Spool::in_memory(MEMORY_BYTES_MAX, clock));
            return Ok(Self { state: None, spool, memory: Memory::default(), last_receipt: None, dir: None });
        };
        let read = tokio::task::spawn_blocking(move || {
            let state = StateDir::open(&dir)?;
            let (spool, last) = Spool::open(&state.spool(), &state.departed(), id, spool_bytes_max, clock)?;
            let memory = Memory::of(last, state.place()?);
            let last_receipt = state.receipt();
            let (state, spool) = (Some(Arc::new(state)), Arc::new(spool));
            Ok(Self { state, spool, memory, last_receipt, dir: Some(dir) })
        });
        read.await.context(Kind::Internal, "reading the chain's state died")?
    }

    /// Opens the socket beside the identity. A recorder without it still records.
    fn control(
        &self,
        commands: mpsc::Sender<Command>,
        observer: &dyn Observer,
    ) -> Option<(AbortOnDropHandle<()>, SocketFile)> {
        match Control::open(self.dir.as_ref()?) {
            Ok((control, file)) => Some((AbortOnDropHandle::new(tokio::spawn(control.serve(commands))), file)),
            Err(error) => {
                observer.note(&format!("{error}; marks cannot be raised there"));
                None
            }
        }
    }
}

impl Report {
    fn of(recorder: RecorderId, made: Made, tally: &Tally, left: usize) -> Self {
        let lost = std::mem::take(&mut *tally.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        Self {
            recorder,
            links: made.links,
            bytes: made.bytes,
            receipts: tally.receipts.load(Ordering::Relaxed),
            sequences: made.sequences,
            captured: made.captured,
            lost,
            given_up: made.lost,
            left: left as u64,
            fault: made.fault,
            reconnects: tally.reconnects.load(Ordering::Relaxed),
            sent_bytes: tally.sent_bytes.load(Ordering::Relaxed),
        }
    }
}
