//! What is counted of witnesses and of time stamps. Labels come from closed sets; nobody is named.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use crate::error::{Context as _, Kind, Result};

/// The metrics of witnesses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    cosignatures: IntCounterVec,
    age: IntGauge,
    contradicted: IntGauge,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// [`Kind::Internal`] if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self> {
        let opts =
            Opts::new("aigaq_witness_cosignatures_total", "Cosignatures that witnesses were asked for, by result.");
        let cosignatures = IntCounterVec::new(opts, &["result"]).context(Kind::Internal, "cannot make a metric")?;
        for result in ["ok", "unreachable", "refused", "conflict", "invalid"] {
            cosignatures.with_label_values(&[result]);
        }
        let gauge = |name: &str, help: &str| {
            IntGauge::with_opts(Opts::new(name, help)).context(Kind::Internal, "cannot make a metric")
        };
        let age = gauge(
            "aigaq_checkpoint_age_seconds",
            "How long the log has been ahead of the newest checkpoint with a quorum of witnesses.",
        )?;
        let contradicted =
            gauge("aigaq_log_contradicted", "1 when the store lost what this log signed: nothing is signed any more.")?;
        let register = |collector: Box<dyn Collector>| {
            registry.register(collector).context(Kind::Internal, "cannot register a metric")
        };
        register(Box::new(cosignatures.clone()))?;
        register(Box::new(age.clone()))?;
        register(Box::new(contradicted.clone()))?;
        Ok(Self { cosignatures, age, contradicted })
    }

    /// Counts what came of a question; `result` is one of the closed set.
    pub(super) fn asked(&self, result: &'static str) {
        self.cosignatures.with_label_values(&[result]).inc();
    }

    pub(super) fn age(&self, age: Duration) {
        self.age.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }

    pub(super) fn contradicted(&self, is: bool) {
        self.contradicted.set(i64::from(is));
    }
}

/// The metrics of time stamps. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StampMetrics {
    stamps: IntCounterVec,
    age: IntGauge,
}

impl StampMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// [`Kind::Internal`] if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self> {
        let unmade = "cannot make a metric";
        let opts = Opts::new("aigaq_timestamps_total", "Time stamps that the authority was asked for, by result.");
        let stamps = IntCounterVec::new(opts, &["result"]).context(Kind::Internal, unmade)?;
        for result in ["ok", "unreachable"] {
            stamps.with_label_values(&[result]);
        }
        let opts = Opts::new(
            "aigaq_timestamp_age_seconds",
            "How long the log has been ahead of its newest time stamp; 0 without an authority.",
        );
        let age = IntGauge::with_opts(opts).context(Kind::Internal, unmade)?;
        for collector in [Box::new(stamps.clone()) as Box<dyn Collector>, Box::new(age.clone())] {
            registry.register(collector).context(Kind::Internal, "cannot register a metric")?;
        }
        Ok(Self { stamps, age })
    }

    /// Counts what came of a question; `result` is one of the closed set.
    pub(super) fn asked(&self, result: &'static str) {
        self.stamps.with_label_values(&[result]).inc();
    }

    pub(super) fn age(&self, age: Duration) {
        self.age.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }
}
