//! The counters of ingest. Labels come from closed sets; no recorder is ever named.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use aigaq_proto::message::RefusalReason;

use crate::error::{Context, Kind, Result};
use crate::store::records::RecorderKind;

/// The counters of this room; cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// `aigaq_connections{kind}`: live sessions by what carries the recorder.
    pub(super) connections: IntGaugeVec,
    /// `aigaq_handshakes_total{result}`.
    pub(super) handshakes: IntCounterVec,
    /// `aigaq_retries_total`: clients that were made to prove their address.
    pub(super) retries: IntCounter,
    /// `aigaq_links_refused_total{reason}`.
    pub(super) refused: IntCounterVec,
    /// `aigaq_received_bytes_total`: payload bytes.
    pub(super) received_bytes: IntCounter,
    /// `aigaq_clock_offset_seconds`: device clock minus server clock, absolute.
    pub(super) clock_offset: Histogram,
    /// `aigaq_ingest_memory_bytes`: room in memory that is taken.
    pub(super) memory_bytes: IntGauge,
    /// `aigaq_backlog_waiting_links`: links of backlog that wait for their turn.
    backlog_waiting: IntGauge,
    /// `aigaq_receipts_missing_total`: receipts that recorders hold and the store does not know.
    pub(super) receipts_missing: IntCounter,
    /// `aigaq_receipts_unproven_total`: receipts that recorders showed and this log did not give them.
    pub(super) receipts_unproven: IntCounter,
}

impl Metrics {
    /// Makes the counters and puts them into `registry`.
    ///
    /// # Errors
    /// [`Kind::Internal`] when a name is taken.
    pub fn register(registry: &Registry) -> Result<Self> {
        build(registry).context(Kind::Internal, "cannot register the metrics of ingest")
    }

    /// One more link of backlog waits, until this is dropped.
    pub(super) fn backlog_waits(&self) -> Counted {
        Counted::of(self.backlog_waiting.clone())
    }
}

fn build(registry: &Registry) -> Result<Metrics, prometheus::Error> {
    let add = |collector: Box<dyn prometheus::core::Collector>| registry.register(collector);
    let labelled = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
    let offsets = vec![0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 10.0, 60.0, 3_600.0, 86_400.0];
    let metrics = Metrics {
        connections: IntGaugeVec::new(
            Opts::new("aigaq_connections", "Live sessions by what carries the recorder."),
            &["kind"],
        )?,
        handshakes: labelled("aigaq_handshakes_total", "Handshakes by their result.", "result")?,
        retries: IntCounter::new("aigaq_retries_total", "Clients that were made to prove their address first.")?,
        refused: labelled("aigaq_links_refused_total", "Links that were refused, by reason.", "reason")?,
        received_bytes: IntCounter::new("aigaq_received_bytes_total", "Bytes of payload that arrived.")?,
        clock_offset: Histogram::with_opts(
            HistogramOpts::new("aigaq_clock_offset_seconds", "How far the clocks of recorders are off, either way.")
                .buckets(offsets),
        )?,
        memory_bytes: IntGauge::new("aigaq_ingest_memory_bytes", "Memory set aside for links under way.")?,
        backlog_waiting: IntGauge::new(
            "aigaq_backlog_waiting_links",
            "Links of backlog that wait until what is of now leaves room for them.",
        )?,
        receipts_missing: IntCounter::new(
            "aigaq_receipts_missing_total",
            "Receipts that a recorder holds and the store does not know: acknowledged data was lost.",
        )?,
        receipts_unproven: IntCounter::new(
            "aigaq_receipts_unproven_total",
            "Receipts that a recorder showed and that this log did not give to it; ignored.",
        )?,
    };
    add(Box::new(metrics.connections.clone()))?;
    add(Box::new(metrics.handshakes.clone()))?;
    add(Box::new(metrics.retries.clone()))?;
    add(Box::new(metrics.refused.clone()))?;
    add(Box::new(metrics.received_bytes.clone()))?;
    add(Box::new(metrics.clock_offset.clone()))?;
    add(Box::new(metrics.memory_bytes.clone()))?;
    add(Box::new(metrics.backlog_waiting.clone()))?;
    add(Box::new(metrics.receipts_missing.clone()))?;
    add(Box::new(metrics.receipts_unproven.clone()))?;
    Ok(metrics)
}

/// The label of a refusal.
pub(super) fn reason(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::Malformed => "malformed",
        RefusalReason::WrongRecorder => "wrong_recorder",
        RefusalReason::PayloadTooLarge => "payload_too_large",
        RefusalReason::LengthMismatch => "length_mismatch",
        RefusalReason::DigestMismatch => "digest_mismatch",
        RefusalReason::BadSignature => "bad_signature",
        RefusalReason::Fork => "fork",
        RefusalReason::TooFarAhead => "too_far_ahead",
        RefusalReason::Stalled => "stalled",
        RefusalReason::Busy => "busy",
        RefusalReason::StorageFull => "storage_full",
        RefusalReason::Quota => "quota",
    }
}

/// One in a gauge, as long as it lives.
pub(super) struct Counted(IntGauge);

impl Counted {
    /// A session of such a recorder.
    pub(super) fn new(gauge: &IntGaugeVec, kind: RecorderKind) -> Self {
        Self::of(gauge.with_label_values(&[kind.name()]))
    }

    fn of(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
