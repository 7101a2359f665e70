//! What the writer counts. Labels come from closed sets; no recorder is named.

use aigaq_proto::message::RefusalReason;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets};

use crate::error::{Context as _, Kind, Result};

/// What became of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stored,
    Duplicate,
    Fork,
    Quarantined(RefusalReason),
    TooFar,
    Quota,
    StorageFull,
    Busy,
    Revoked,
    Failed,
}

impl Fate {
    const ALL: [Self; 10] = [
        Self::Stored,
        Self::Duplicate,
        Self::Fork,
        Self::Quarantined(RefusalReason::DigestMismatch),
        Self::TooFar,
        Self::Quota,
        Self::StorageFull,
        Self::Busy,
        Self::Revoked,
        Self::Failed,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Fork => "fork",
            Self::Quarantined(_) => "quarantined",
            Self::TooFar => "too_far",
            Self::Quota => "quota",
            Self::StorageFull => "storage_full",
            Self::Busy => "busy",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
        }
    }
}

/// The writer's metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    segments: IntCounterVec,
    pub(super) segment_bytes: IntCounter,
    pub(super) persist_seconds: Histogram,
    pub(super) ack_lag_seconds: Histogram,
    pub(super) commit_links: Histogram,
    pub(super) commit_bytes: Histogram,
    chain_breaks: IntCounterVec,
    quarantine: IntCounterVec,
    forks: IntCounter,
    log_tree_size: IntGauge,
}

impl Metrics {
    /// Makes the metrics and hands them to `registry`.
    ///
    /// # Errors
    /// [`Kind::Internal`] when a name is taken.
    pub fn register(registry: &Registry) -> Result<Self> {
        let counter = |name: &str, help: &str| added(registry, IntCounter::new(name, help));
        let by =
            |name: &str, help: &str, label: &str| added(registry, IntCounterVec::new(Opts::new(name, help), &[label]));
        let histogram = |name: &str, help: &str, start: f64, factor: f64, count: usize| {
            let buckets = exponential_buckets(start, factor, count);
            added(registry, buckets.and_then(|it| Histogram::with_opts(HistogramOpts::new(name, help).buckets(it))))
        };
        let metrics = Self {
            segments: by("aigaq_segments_total", "Links that reached the writer, by what became of them.", "result")?,
            segment_bytes: counter("aigaq_segment_bytes_total", "Payload bytes made durable.")?,
            persist_seconds: histogram("aigaq_persist_seconds", "Time to make a commit durable.", 0.0005, 2.0, 14)?,
            ack_lag_seconds: histogram(
                "aigaq_ack_lag_seconds",
                "Time from a link's last byte to its receipt.",
                0.001,
                2.0,
                14,
            )?,
            commit_links: histogram("aigaq_commit_links", "Links in a commit.", 1.0, 2.0, 14)?,
            commit_bytes: histogram("aigaq_commit_bytes", "Payload bytes in a commit.", 1024.0, 4.0, 9)?,
            chain_breaks: by(
                "aigaq_chain_breaks_total",
                "Places where a chain does not hold: neighbours that do not agree, or two links for one sequence.",
                "reason",
            )?,
            quarantine: by("aigaq_quarantine_total", "Links put into quarantine, by the check they failed.", "reason")?,
            forks: counter("aigaq_forks_total", "Links kept as the other side of a fork.")?,
            log_tree_size: added(registry, IntGauge::new("aigaq_log_tree_size", "Entries in the transparency log."))?,
        };
        metrics.show_zeroes();
        Ok(metrics)
    }

    /// Every series exists from the start, so that a rate over it is right from the first event.
    fn show_zeroes(&self) {
        for fate in Fate::ALL {
            self.segments.with_label_values(&[fate.label()]);
        }
        for reason in ["mismatch", "fork"] {
            self.chain_breaks.with_label_values(&[reason]);
        }
        for reason in [RefusalReason::LengthMismatch, RefusalReason::DigestMismatch, RefusalReason::BadSignature] {
            self.quarantine.with_label_values(&[reason_label(reason)]);
        }
    }

    /// Counts a link that has got its answer.
    pub(super) fn link(&self, fate: Fate) {
        self.segments.with_label_values(&[fate.label()]).inc();
        match fate {
            Fate::Fork => {
                self.forks.inc();
                self.chain_breaks.with_label_values(&["fork"]).inc();
            }
            Fate::Quarantined(reason) => self.quarantine.with_label_values(&[reason_label(reason)]).inc(),
            _ => {}
        }
    }

    pub(super) fn tree(&self, size: u64) {
        self.log_tree_size.set(i64::try_from(size).unwrap_or(i64::MAX));
    }

    pub(super) fn breaks(&self, count: usize) {
        self.chain_breaks.with_label_values(&["mismatch"]).inc_by(count as u64);
    }
}

fn added<T: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<T>) -> Result<T> {
    let metric = metric.context(Kind::Internal, "cannot make a metric of the writer")?;
    registry.register(Box::new(metric.clone())).context(Kind::Internal, "cannot register a metric of the writer")?;
    Ok(metric)
}

/// The label of a check that a link may fail on its way into quarantine.
fn reason_label(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::LengthMismatch => "length_mismatch",
        RefusalReason::DigestMismatch => "digest_mismatch",
        RefusalReason::BadSignature => "bad_signature",
        _ => "other",
    }
}
