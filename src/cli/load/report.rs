//! What a load comes to: percentiles of times, and the report for people and for machines.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error::{Context, Kind, Result};
use crate::recorder::Report;

/// Longest wait that the histogram tells apart, microseconds.
const WAIT_US_MAX: u64 = 600_000_000;

/// Times, microseconds, of which percentiles are told.
#[derive(Debug)]
pub(super) struct Times(Mutex<Histogram<u64>>);

impl Times {
    /// None yet.
    ///
    /// # Errors
    /// Never with the bounds given here.
    pub(super) fn new() -> Result<Self> {
        Histogram::new_with_bounds(1, WAIT_US_MAX, 3)
            .map(|times| Self(Mutex::new(times)))
            .context(Kind::Internal, "bounds")
    }

    /// One more.
    pub(super) fn record(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(WAIT_US_MAX);
        self.lock().saturating_record(us.clamp(1, WAIT_US_MAX));
    }

    /// What they come to; `None` if there were none.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let times = self.lock();
        let ms = |us: u64| us as f64 / 1e3;
        (!times.is_empty()).then(|| Percentiles {
            count: times.len(),
            p50_ms: ms(times.value_at_quantile(0.5)),
            p90_ms: ms(times.value_at_quantile(0.9)),
            p99_ms: ms(times.value_at_quantile(0.99)),
            max_ms: ms(times.max()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What many times come to, milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Percentiles {
    count: u64,
    p50_ms: f64,
    p90_ms: f64,
    pub(super) p99_ms: f64,
    max_ms: f64,
}

impl Percentiles {
    fn told(&self) -> String {
        let Self { count, p50_ms, p90_ms, p99_ms, max_ms } = self;
        format!("p50 {p50_ms:.1} ms, p90 {p90_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms ({count})")
    }
}

/// The report. The names are those of the JSON.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) recorders: u32,
    pub(super) segment_bytes: u32,
    /// From the first recorder's start to the last receipt.
    pub(super) seconds: f64,
    pub(super) links: u64,
    pub(super) receipts: u64,
    pub(super) missing: u64,
    pub(super) refused: u64,
    pub(super) reconnects: u64,
    pub(super) failed: Vec<String>,
    pub(super) bytes: u64,
    pub(super) bytes_per_second: f64,
    /// From the last byte of a link of now to its receipt.
    pub(super) receipt: Option<Percentiles>,
    /// From the making of a link of now to its receipt.
    pub(super) durable: Option<Percentiles>,
    /// As `receipt`, of links that waited at the beginning.
    pub(super) backlog_receipt: Option<Percentiles>,
    /// From the first recorder's start to the last receipt of what waited at the beginning.
    pub(super) backlog_seconds: f64,
    /// From a cut of all connections to a recorder's next welcome.
    pub(super) returned: Option<Percentiles>,
}

impl Summary {
    /// Adds what one recorder says.
    pub(super) fn add(&mut self, report: Result<Report>) {
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
        let mut lines = vec![
            format!("recorders        {}", self.recorders),
            format!("time             {:.1} s", self.seconds),
            format!("links            {}", self.links),
            format!("receipts         {} verified, {} missing, {} refused", self.receipts, self.missing, self.refused),
            format!("footage          {:.1} MB, {:.1} MB/s", self.bytes as f64 / 1e6, self.bytes_per_second / 1e6),
        ];
        let mut times = |name: &str, times: Option<Percentiles>| {
            lines.extend(times.map(|times| format!("{name:<17}{}", times.told())));
        };
        times("receipt after", self.receipt);
        times("durable after", self.durable);
        times("backlog after", self.backlog_receipt);
        times("back after", self.returned);
        if self.backlog_receipt.is_some() {
            lines.push(format!("backlog until    {:.1} s", self.backlog_seconds));
        }
        lines.push(format!("reconnects       {}", self.reconnects));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn summary(links: u64, missing: u64, refused: u64) -> Summary {
        Summary {
            recorders: 3,
            segment_bytes: 1,
            seconds: 1.0,
            links,
            receipts: links.saturating_sub(missing),
            missing,
            refused,
            reconnects: 0,
            failed: Vec::new(),
            bytes: 0,
            bytes_per_second: 0.0,
            receipt: None,
            durable: None,
            backlog_receipt: None,
            backlog_seconds: 0.0,
            returned: None,
        }
    }

    #[test]
    fn a_load_is_good_only_if_every_link_has_a_receipt_that_verifies() {
        assert_eq!(summary(9, 0, 0).verdict(), None);
        let wrong = |summary: Summary, part: &str| {
            let verdict = summary.verdict().unwrap();
            assert!(verdict.contains(part), "{verdict}");
        };
        wrong(summary(9, 1, 0), "1 receipts are missing");
        wrong(summary(9, 0, 2), "2 links were refused");
        wrong(summary(0, 0, 0), "no link was sent");
        let mut failed = summary(9, 0, 0);
        failed.add(Err(Error::new(crate::error::Kind::Unauthorised, "the receipt of link 4 does not verify")));
        wrong(failed, "1 of 3 recorders failed, the first: the receipt of link 4");
    }
}
