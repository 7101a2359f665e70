//! What exports count. Labels come from closed sets.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::error::{Context as _, Kind, Result};

/// The metrics of this room. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Exports that came to an end, by result: `done`, `failed`, `cancelled`.
    pub(super) results: IntCounterVec,
    /// Exports that wait or are under way.
    pub(super) open: IntGauge,
    /// Reads that found bytes other than those received: the counter of all look-ups.
    pub(super) damaged: IntCounter,
}

impl Metrics {
    /// Makes and registers them; `damaged` is registered already.
    ///
    /// # Errors
    /// [`Kind::Internal`] if a name is taken.
    pub fn register(registry: &Registry, damaged: IntCounter) -> Result<Self> {
        let make = || -> Result<Self, prometheus::Error> {
            let options = Opts::new("aigaq_exports_total", "Exports that came to an end, by result.");
            let results = IntCounterVec::new(options, &["result"])?;
            registry.register(Box::new(results.clone()))?;
            let open = IntGauge::new("aigaq_exports_open", "Exports that wait or are under way.")?;
            registry.register(Box::new(open.clone()))?;
            for result in ["done", "failed", "cancelled"] {
                results.with_label_values(&[result]);
            }
            Ok(Self { results, open, damaged })
        };
        make().context(Kind::Internal, "cannot register the metrics of exports")
    }
}
