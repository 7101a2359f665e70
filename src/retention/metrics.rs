//! What the runner counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::error::{Context as _, Kind, Result};

/// Every rule, so that each counter is there from the first scrape on.
const RULES: [&str; 6] = ["default", "department", "mark", "incident", "undo", "hold"];

/// The metrics of this room. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Payload whose bytes went, by the rule that it was kept by.
    pub deleted_bytes: IntCounterVec,
    /// Payload that was moved to a later day, by what keeps it.
    pub moved_bytes: IntCounterVec,
    /// Holds that stand.
    pub holds: IntGauge,
    /// Payload that is hidden and can be brought back, bytes.
    pub hidden_bytes: IntGauge,
    /// Days that were dropped within their grace, because the disk was full.
    pub early_deletions: IntCounter,
    /// Rounds of the runner that failed.
    pub failures: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// [`Kind::Internal`] if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self> {
        Self::make(registry).context(Kind::Internal, "cannot register the metrics of retention")
    }

    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &["rule"])?;
            registry.register(Box::new(counters.clone()))?;
            RULES.iter().for_each(|rule| drop(counters.with_label_values(&[rule])));
            Ok::<_, prometheus::Error>(counters)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            deleted_bytes: counters(
                "aigaq_deleted_bytes_total",
                "Payload that was deleted, by the rule it was kept by.",
            )?,
            moved_bytes: counters(
                "aigaq_moved_bytes_total",
                "Payload that was moved to a later day, by what keeps it.",
            )?,
            holds: gauge("aigaq_holds", "Holds that stand.")?,
            hidden_bytes: gauge("aigaq_hidden_bytes", "Payload that is deleted and can still be brought back.")?,
            early_deletions: counter(
                "aigaq_early_deletions_total",
                "Days dropped within their grace for want of room.",
            )?,
            failures: counter("aigaq_retention_failures_total", "Rounds of the deletion that failed.")?,
        })
    }
}
