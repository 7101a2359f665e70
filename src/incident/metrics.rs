//! What the incidents count.

use prometheus::{IntCounter, IntGauge, Registry};

use crate::error::{Context as _, Kind, Result};

/// The metrics of this room. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Incidents for which recorders are looked for.
    pub active: IntGauge,
    /// Recorders that were found to have to do with an incident.
    pub found: IntCounter,
    /// Rounds that failed.
    pub failures: IntCounter,
    /// What was passed over because it does not read.
    pub damaged: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// [`Kind::Internal`] if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self> {
        Self::make(registry).context(Kind::Internal, "cannot register the metrics of incidents")
    }

    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let active = IntGauge::new("aigaq_incidents_active", "Incidents for which recorders are looked for.")?;
        registry.register(Box::new(active.clone()))?;
        Ok(Self {
            active,
            found: counter("aigaq_incident_recorders_found_total", "Recorders that were found for incidents.")?,
            failures: counter("aigaq_incident_failures_total", "Rounds of the incidents that failed.")?,
            damaged: counter("aigaq_incident_damaged_total", "Times that something did not read and was passed over.")?,
        })
    }
}
