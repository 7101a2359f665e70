//! The registry and the metrics that belong to no room: which build this is, how much room the disk has, and whether
//! footage will have keys.
//!
//! Each room has a struct of its own and registers it; `server` asks them in turn. Label values come from closed sets;
//! no recorder, officer or token is ever one.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, Opts, Registry};

use crate::error::{Context, Kind, Result};
use crate::store::Store;

/// A registry that knows the build.
///
/// # Errors
/// [`Kind::Internal`] if the name is taken.
pub fn registry() -> Result<Registry> {
    let registry = Registry::new();
    let build = Opts::new("aigaq_build_info", "1, with the version of this build as a label.")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let build = gauge(build)?;
    build.set(1);
    register(&registry, build)?;
    Ok(registry)
}

/// Adds the room on the store's disk, asked for at each scrape.
///
/// # Errors
/// [`Kind::Internal`] if a name is taken.
pub fn register_space(registry: &Registry, store: Store) -> Result<()> {
    let free = gauge(Opts::new("aigaq_disk_free_bytes", "Bytes that can still be written where the store is."))?;
    let total = gauge(Opts::new("aigaq_disk_total_bytes", "Size of the disk where the store is."))?;
    register(registry, Space { store, free, total })
}

/// Counts how often the keys of the next footage could not be made ready.
///
/// # Errors
/// [`Kind::Internal`] if the name is taken.
pub fn key_failures(registry: &Registry) -> Result<IntCounter> {
    let failures = IntCounter::new("aigaq_key_failures_total", "Times that keys of footage could not be made ready");
    let failures = failures.context(Kind::Internal, "cannot make a metric")?;
    register(registry, failures.clone())?;
    Ok(failures)
}

fn gauge(opts: Opts) -> Result<IntGauge> {
    IntGauge::with_opts(opts).context(Kind::Internal, "cannot make a metric")
}

fn register(registry: &Registry, collector: impl Collector + 'static) -> Result<()> {
    registry.register(Box::new(collector)).context(Kind::Internal, "cannot register a metric")
}

/// Asks the store how much room there is.
struct Space {
    store: Store,
    free: IntGauge,
    total: IntGauge,
}

impl Collector for Space {
    fn desc(&self) -> Vec<&Desc> {
        [self.free.desc(), self.total.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        match self.store.space() {
            Ok(space) => {
                self.free.set(i64::try_from(space.free).unwrap_or(i64::MAX));
                self.total.set(i64::try_from(space.total).unwrap_or(i64::MAX));
                [self.free.collect(), self.total.collect()].concat()
            }
            Err(_) => Vec::new(),
        }
    }
}
