//! What webhooks count, by the names that the site gave them.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::error::{Context as _, Kind, Result};

/// The metrics of this room. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Attempts to deliver a message, by webhook and result: `ok`, `refused` (a status that is not 2xx), `unreachable`, `forbidden` (an address
    /// that it may not have).
    pub deliveries: IntCounterVec,
    /// Age of the oldest event that a webhook has not got, seconds.
    pub lag_seconds: IntGaugeVec,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// [`Kind::Internal`] if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self> {
        Self::make(registry).context(Kind::Internal, "cannot register the metrics of webhooks")
    }

    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let options = Opts::new("aigaq_webhook_deliveries_total", "Attempts to deliver an event to a webhook.");
        let deliveries = IntCounterVec::new(options, &["webhook", "result"])?;
        registry.register(Box::new(deliveries.clone()))?;
        let options = Opts::new("aigaq_webhook_lag_seconds", "Age of the oldest event that a webhook has not got.");
        let lag_seconds = IntGaugeVec::new(options, &["webhook"])?;
        registry.register(Box::new(lag_seconds.clone()))?;
        Ok(Self { deliveries, lag_seconds })
    }

    /// Forgets a webhook that is taken away.
    pub(super) fn forget(&self, webhook: &str) {
        // Labels that were never used are not there.
        let _ = self.lag_seconds.remove_label_values(&[webhook]);
        for result in super::deliver::RESULTS {
            let _ = self.deliveries.remove_label_values(&[webhook, result]);
        }
    }
}
