//! What the fleet sees: links made, receipts verified, and how long each was waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aigaq_proto::Sequence;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error::{Context, Kind, Result};
use crate::recorder::{Observer, Report};

/// Longest wait that the histogram tells apart, microseconds.
const WAIT_US_MAX: u64 = 600_000_000;

/// Counts while the fleet runs.
pub(super) struct Figures {
    waits: Mutex<Histogram<u64>>,
    links: AtomicU64,
    receipts: AtomicU64,
    bytes: AtomicU64,
    begun: Mutex<Option<Instant>>,
    last_receipt_us: AtomicU64,
}

impl Figures {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// Never with the bounds given here.
    pub(super) fn new() -> Result<Self> {
        let waits = Histogram::new_with_bounds(1, WAIT_US_MAX, 3).context(Kind::Internal, "bad histogram bounds")?;
        Ok(Self {
            waits: Mutex::new(waits),
            links: AtomicU64::new(0),
            receipts: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            begun: Mutex::new(None),
            last_receipt_us: AtomicU64::new(0),
        })
    }

    /// The time counts from here.
    pub(super) fn begin(&self) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// One line for the progress bar.
    pub(super) fn line(&self) -> String {
        let (links, receipts) = (self.links.load(Ordering::Relaxed), self.receipts.load(Ordering::Relaxed));
        let seconds = self.elapsed().as_secs_f64().max(0.001);
        let rate = self.bytes.load(Ordering::Relaxed) as f64 / seconds / 1e6;
        format!("{receipts} receipts for {links} links, {rate:.1} MB/s")
    }

    /// The end of it: what was counted and what the recorders report.
    pub(super) fn summary(&self, recorders: u32, segment_bytes: u32, reports: Vec<Result<Report>>) -> Summary {
        let seconds = Duration::from_micros(self.last_receipt_us.load(Ordering::Relaxed)).as_secs_f64().max(0.001);
        let waits = self.waits();
        let at = |quantile| waits.value_at_quantile(quantile) as f64 / 1e3;
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
            receipt_p50_ms: at(0.5),
            receipt_p90_ms: at(0.9),
            receipt_p99_ms: at(0.99),
            receipt_max_ms: waits.max() as f64 / 1e3,
        };
        drop(waits);
        for report in reports {
            summary.add(report);
        }
        summary.links = summary.links.max(self.links.load(Ordering::Relaxed));
        summary.receipts = summary.receipts.max(self.receipts.load(Ordering::Relaxed));
        summary.missing = summary.links.saturating_sub(summary.receipts);
        summary
    }

    fn waits(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Figures {
    fn link(&self, _sequence: Sequence, _bytes: usize) {
        self.links.fetch_add(1, Ordering::Relaxed);
    }

    fn receipt(&self, _sequence: Sequence, bytes: usize, waited: Duration) {
        self.receipts.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let now = u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_receipt_us.fetch_max(now, Ordering::Relaxed);
        let waited = u64::try_from(waited.as_micros()).unwrap_or(WAIT_US_MAX);
        self.waits().saturating_record(waited.clamp(1, WAIT_US_MAX));
    }
}

/// The report. The names are those of the JSON.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    recorders: u32,
    segment_bytes: u32,
    /// From the first recorder's start to the last receipt.
    seconds: f64,
    links: u64,
    receipts: u64,
    missing: u64,
    refused: u64,
    reconnects: u64,
    failed: Vec<String>,
    bytes: u64,
    bytes_per_second: f64,
    receipt_p50_ms: f64,
    receipt_p90_ms: f64,
    receipt_p99_ms: f64,
    receipt_max_ms: f64,
}

impl Summary {
    fn add(&mut self, report: Result<Report>) {
        match report {
            Ok(report) => {
                self.links += report.links;
                self.receipts += report.receipts;
                self.refused += report.lost.len() as u64;
                self.reconnects += report.reconnects;
                self.failed.extend(report.fault.map(|fault| fault.to_string()));
            }
            Err(error) => self.failed.push(error.to_string()),
        }
    }

    /// What is wrong, if anything is.
    pub(super) fn verdict(&self) -> Option<String> {
        if let Some(first) = self.failed.first() {
            return Some(format!("{} of {} recorders failed, the first: {first}", self.failed.len(), self.recorders));
        }
        if self.missing > 0 || self.refused > 0 {
            return Some(format!("{} receipts are missing, {} links were refused", self.missing, self.refused));
        }
        (self.links == 0).then(|| "no link was sent".to_owned())
    }

    /// The report for people.
    pub(super) fn table(&self) -> Vec<String> {
        vec![
            format!("recorders        {}", self.recorders),
            format!("time             {:.1} s", self.seconds),
            format!("links            {}", self.links),
            format!("receipts         {} verified, {} missing, {} refused", self.receipts, self.missing, self.refused),
            format!("footage          {:.1} MB, {:.1} MB/s", self.bytes as f64 / 1e6, self.bytes_per_second / 1e6),
            format!(
                "receipt after    p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                self.receipt_p50_ms, self.receipt_p90_ms, self.receipt_p99_ms, self.receipt_max_ms
            ),
            format!("reconnects       {}", self.reconnects),
        ]
    }
}
