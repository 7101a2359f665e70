//! What enrolment counts. Labels come from a closed set; no recorder and no code is named.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use crate::error::{Context as _, Kind, Result};

/// The metrics of this room. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// `aigaq_enrolments_total{result}`.
    pub(super) results: IntCounterVec,
    /// `aigaq_crl_next_update_seconds`.
    next_update: IntGauge,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// [`Kind::Internal`] if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self> {
        Self::make(registry).context(Kind::Internal, "cannot register the metrics of enrolment")
    }

    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let results = Opts::new("aigaq_enrolments_total", "Requests of devices that enrol or renew, by result.");
        let results = IntCounterVec::new(results, &["result"])?;
        let next_update = IntGauge::new(
            "aigaq_crl_next_update_seconds",
            "When the revocation list of the existing CA ends, seconds since 1970; 0 without a list.",
        )?;
        registry.register(Box::new(results.clone()))?;
        registry.register(Box::new(next_update.clone()))?;
        for result in ["enrolled", "renewed", "code", "request", "revoked", "limited", "failed"] {
            results.with_label_values(&[result]);
        }
        Ok(Self { results, next_update })
    }

    /// For [`Trust`](super::Trust).
    #[must_use]
    pub fn next_update(&self) -> IntGauge {
        self.next_update.clone()
    }

    pub(super) fn count(&self, result: &str) {
        self.results.with_label_values(&[result]).inc();
    }
}
