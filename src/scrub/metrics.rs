//! What the scrub counts.

use aigaq_proto::Micros;
use prometheus::{Gauge, IntCounter, IntGauge, Registry};

use crate::error::{Context as _, Kind, Result};
use crate::store::records::ScrubRecord;

/// The metrics of this room. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    age: Gauge,
    damaged: IntGauge,
    /// Footage that was read again, bytes.
    pub read_bytes: IntCounter,
    /// Slices that could not be read for another reason than damage.
    pub failures: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// [`Kind::Internal`] if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self> {
        Self::make(registry).context(Kind::Internal, "cannot register the metrics of the scrub")
    }

    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let age = Gauge::new("aigaq_scrub_age_seconds", "How long ago the oldest byte of footage was last hashed.")?;
        let damaged = IntGauge::new("aigaq_scrub_damaged", "Bodies that the scrub has found damaged.")?;
        let read_bytes = IntCounter::new("aigaq_scrub_bytes_total", "Footage that the scrub has read again.")?;
        let failures = IntCounter::new("aigaq_scrub_failures_total", "Slices of the scrub that failed.")?;
        registry.register(Box::new(age.clone()))?;
        registry.register(Box::new(damaged.clone()))?;
        registry.register(Box::new(read_bytes.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        Ok(Self { age, damaged, read_bytes, failures })
    }

    /// Says how it stands.
    pub(super) fn say(&self, record: &ScrubRecord, now: Micros) {
        self.age.set(now.saturating_sub(record.verified_since) as f64 / 1e6);
        let damaged = record.found.bodies.max(record.found_before.bodies);
        self.damaged.set(i64::try_from(damaged).unwrap_or(i64::MAX));
    }

    /// Bodies that were found damaged.
    #[cfg(test)]
    pub(super) fn damaged(&self) -> i64 {
        self.damaged.get()
    }

    /// Age of the oldest byte that was not read again since, seconds.
    #[cfg(test)]
    pub(super) fn age(&self) -> f64 {
        self.age.get()
    }
}
