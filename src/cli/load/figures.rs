//! What the fleet sees: links made, receipts verified, and how long each was waited for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use aigaq_proto::Sequence;
use aigaq_proto::close::Code;

use super::report::{Summary, Times};
use crate::error::Result;
use crate::recorder::{Observer, Report};

/// Counts while the fleet runs.
#[derive(Debug)]
pub(super) struct Figures {
    /// From the last byte of a link of now to its receipt.
    live: Times,
    /// The same of links that waited when their recorder began.
    backlog: Times,
    /// From the making of a link of now to its receipt.
    durable: Times,
    /// From a cut to the next welcome.
    returns: Times,
    links: AtomicU64,
    receipts: AtomicU64,
    bytes: AtomicU64,
    begun: Mutex<Option<Instant>>,
    last_receipt_us: AtomicU64,
    last_backlog_us: AtomicU64,
    watches: Mutex<Vec<Weak<Watch>>>,
}

impl Figures {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// Never with the bounds given here.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            live: Times::new()?,
            backlog: Times::new()?,
            durable: Times::new()?,
            returns: Times::new()?,
            links: AtomicU64::new(0),
            receipts: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            begun: Mutex::new(None),
            last_receipt_us: AtomicU64::new(0),
            last_backlog_us: AtomicU64::new(0),
            watches: Mutex::default(),
        })
    }

    /// The time counts from here.
    pub(super) fn begin(&self) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Watches one more recorder, whose first `waiting` segments are backlog.
    pub(super) fn watch(figures: &Arc<Self>, waiting: u64) -> Arc<dyn Observer> {
        let watch = Arc::new(Watch { figures: figures.clone(), waiting, state: Mutex::default() });
        figures.watches.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&watch));
        watch
    }

    /// Cuts every connection.
    pub(super) fn cut(&self) {
        for watch in self.watches() {
            watch.cut();
        }
    }

    /// Time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// Links made.
    pub(super) fn links(&self) -> u64 {
        self.links.load(Ordering::Relaxed)
    }

    /// Time since the last receipt.
    pub(super) fn quiet(&self) -> Duration {
        self.elapsed().saturating_sub(Duration::from_micros(self.last_receipt_us.load(Ordering::Relaxed)))
    }

    /// One line for the progress bar.
    pub(super) fn line(&self) -> String {
        let (links, receipts) = (self.links.load(Ordering::Relaxed), self.receipts.load(Ordering::Relaxed));
        let seconds = self.elapsed().as_secs_f64().max(0.001);
        let rate = self.bytes.load(Ordering::Relaxed) as f64 / seconds / 1e6;
        let connected = self.watches().iter().filter(|watch| watch.is_connected()).count();
        let p99 = self.live.percentiles().map_or(0.0, |waits| waits.p99_ms);
        format!("{connected} connected, {receipts} receipts for {links} links, {rate:.1} MB/s, p99 {p99:.0} ms")
    }

    /// The end of it: what was counted and what the recorders report.
    pub(super) fn summary(&self, recorders: u32, segment_bytes: u32, reports: Vec<Result<Report>>) -> Summary {
        let seconds = Duration::from_micros(self.last_receipt_us.load(Ordering::Relaxed)).as_secs_f64().max(0.001);
        let receipt_bytes = self.bytes.load(Ordering::Relaxed);
        let mut summary = Summary {
            recorders,
            segment_bytes,
            seconds,
            links: 0,
            receipts: 0,
            missing: 0,
            refused: 0,
            reconnects: 0,
            failed: Vec::new(),
            bytes: receipt_bytes,
            bytes_per_second: receipt_bytes as f64 / seconds,
            receipt: self.live.percentiles(),
            durable: self.durable.percentiles(),
            backlog_receipt: self.backlog.percentiles(),
            backlog_seconds: Duration::from_micros(self.last_backlog_us.load(Ordering::Relaxed)).as_secs_f64(),
            returned: self.returns.percentiles(),
        };
        for report in reports {
            summary.add(report);
        }
        summary.links = summary.links.max(self.links.load(Ordering::Relaxed));
        summary.receipts = summary.receipts.max(self.receipts.load(Ordering::Relaxed));
        summary.missing = summary.links.saturating_sub(summary.receipts);
        summary
    }

    /// The recorders that have not ended.
    fn watches(&self) -> Vec<Arc<Watch>> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.iter().filter_map(Weak::upgrade).collect()
    }
}

/// One recorder as the load sees it.
struct Watch {
    figures: Arc<Figures>,
    waiting: u64,
    state: Mutex<Connected>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Connected {
    connection: Option<quinn::Connection>,
    cut_at: Option<Instant>,
    /// When links of now were made that have no receipt yet.
    made: BTreeMap<Sequence, Instant>,
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, Connected> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a link is backlog. The first is the recording's beginning, those after it the segments that waited.
    fn waited(&self, sequence: Sequence) -> bool {
        self.waiting > 0 && sequence <= self.waiting
    }

    fn is_connected(&self) -> bool {
        self.state().connection.as_ref().is_some_and(|connection| connection.close_reason().is_none())
    }

    fn cut(&self) {
        let mut state = self.state();
        if let Some(connection) = state.connection.take() {
            connection.close(Code::Done.value().into(), b"cut by the load");
            state.cut_at = Some(Instant::now());
        }
    }
}

impl Observer for Watch {
    fn connected(&self, connection: &quinn::Connection) {
        let mut state = self.state();
        state.connection = Some(connection.clone());
        if let Some(cut_at) = state.cut_at.take() {
            self.figures.returns.record(cut_at.elapsed());
        }
    }

    fn link(&self, sequence: Sequence, bytes: usize) {
        self.figures.links.fetch_add(1, Ordering::Relaxed);
        if bytes > 0 && !self.waited(sequence) {
            self.state().made.insert(sequence, Instant::now());
        }
    }

    fn receipt(&self, sequence: Sequence, bytes: usize, waited: Duration) {
        let figures = &self.figures;
        figures.receipts.fetch_add(1, Ordering::Relaxed);
        figures.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let now = u64::try_from(figures.elapsed().as_micros()).unwrap_or(u64::MAX);
        figures.last_receipt_us.fetch_max(now, Ordering::Relaxed);
        // Times are those of footage: links without payload are small, and would make them look better.
        if bytes == 0 {
            return;
        }
        if self.waited(sequence) {
            figures.last_backlog_us.fetch_max(now, Ordering::Relaxed);
            return figures.backlog.record(waited);
        }
        figures.live.record(waited);
        if let Some(made) = self.state().made.remove(&sequence) {
            figures.durable.record(made.elapsed());
        }
    }
}
