//! What the look-ups count. Labels come from closed sets: a route is its template, never a path, a department one of
//! those that enrolled recorders; no identifier, no token.

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::error::{Context as _, Kind, Result};

/// Buckets of the duration of a look-up, seconds: the goals are 10 ms and 20 ms.
const BUCKETS_S: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The metrics of this room. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Time from a request's head to its answer's head, by route.
    pub seconds: HistogramVec,
    /// Answers by route and class of status.
    pub answers: IntCounterVec,
    /// Audit entries by outcome: `granted`, `denied`, `denied_unrecorded` (beyond the rate that is written down),
    /// `failed`.
    pub audit: IntCounterVec,
    /// Attempts to sign in, by result: `granted`, `wrong`, `too_often`, `failed`.
    pub sign_ins: IntCounterVec,
    /// Sign-ins with accounts that are for emergencies.
    pub break_glass: IntCounter,
    /// Reads that found bytes other than those received.
    pub damaged: IntCounter,
    /// Recorders that are assigned and do not record, by department and why.
    pub recorders_dark: IntGaugeVec,
    /// Bytes that recorders said they hold, by department.
    pub backlog_bytes: IntGaugeVec,
    /// Pulls that have not ended.
    pub requests_open: IntGauge,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// [`Kind::Internal`] if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self> {
        Self::make(registry).context(Kind::Internal, "cannot register the metrics of the look-up")
    }

    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let answers = counters("aigaq_lookups_total", "Look-ups answered.", &["route", "status"])?;
        let audit = counters("aigaq_audit_entries_total", "Audit entries, by outcome.", &["outcome"])?;
        let sign_ins = counters("aigaq_sign_ins_total", "Attempts to sign in, by result.", &["result"])?;
        let break_glass =
            IntCounter::new("aigaq_break_glass_sign_ins_total", "Sign-ins with accounts that are for emergencies.")?;
        registry.register(Box::new(break_glass.clone()))?;
        let options = HistogramOpts::new("aigaq_lookup_seconds", "Time to the head of an answer.");
        let seconds = HistogramVec::new(options.buckets(BUCKETS_S.to_vec()), &["route"])?;
        registry.register(Box::new(seconds.clone()))?;
        let damaged = IntCounter::new("aigaq_damaged_reads_total", "Reads that found altered bytes.")?;
        registry.register(Box::new(damaged.clone()))?;
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let dark = "Recorders that are to record and have recorded nothing for two minutes, by why.";
        let recorders_dark = gauges("aigaq_recorders_dark", dark, &["department", "cause"])?;
        let held = "Bytes that recorders said they hold and the server does not have.";
        let backlog_bytes = gauges("aigaq_backlog_reported_bytes", held, &["department"])?;
        let requests_open =
            IntGauge::new("aigaq_requests_open", "Ranges that recorders were asked for and that have not ended.")?;
        registry.register(Box::new(requests_open.clone()))?;
        for outcome in ["granted", "denied", "denied_unrecorded", "failed"] {
            audit.with_label_values(&[outcome]);
        }
        for result in ["granted", "wrong", "too_often", "failed"] {
            sign_ins.with_label_values(&[result]);
        }
        Ok(Self {
            seconds,
            answers,
            audit,
            sign_ins,
            break_glass,
            damaged,
            recorders_dark,
            backlog_bytes,
            requests_open,
        })
    }
}
