//! What is counted of backups.

use aigaq_proto::Micros;
use prometheus::{Gauge, IntCounterVec, Opts, Registry};

use crate::error::{Context as _, Kind, Result};

/// The metrics of this room. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    last: Gauge,
    backups: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// [`Kind::Internal`] if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self> {
        Self::make(registry).context(Kind::Internal, "cannot register the metrics of backups")
    }

    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let last = Gauge::new(
            "aigaq_last_backup_seconds",
            "When the newest whole backup was begun, seconds since 1970; 0 without one.",
        )?;
        let opts = Opts::new("aigaq_backups_total", "Backups that were begun and came to an end, by result.");
        let backups = IntCounterVec::new(opts, &["result"])?;
        for result in ["done", "failed"] {
            backups.with_label_values(&[result]);
        }
        registry.register(Box::new(last.clone()))?;
        registry.register(Box::new(backups.clone()))?;
        Ok(Self { last, backups })
    }

    /// Says when the newest was begun.
    pub(super) fn last(&self, at: Option<Micros>) {
        self.last.set(at.unwrap_or_default() as f64 / 1e6);
    }

    /// Counts one that came to its end.
    pub(super) fn ended(&self, is_done: bool) {
        self.backups.with_label_values(&[if is_done { "done" } else { "failed" }]).inc();
    }
}
