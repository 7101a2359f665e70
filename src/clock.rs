//! The one place that reads the wall clock. Everything else is handed a [`Clock`] or a time, so that tests choose both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aigaq_proto::Micros;

/// Where the time comes from. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    fixed: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub fn system() -> Self {
        Self { fixed: None }
    }

    /// A clock that stands at `now` until [`Clock::set`] moves it; for tests.
    #[must_use]
    pub fn fixed(now: Micros) -> Self {
        Self { fixed: Some(Arc::new(AtomicU64::new(now))) }
    }

    /// Moves a fixed clock. The clock of the machine is not moved.
    pub fn set(&self, now: Micros) {
        if let Some(fixed) = &self.fixed {
            fixed.store(now, Ordering::Relaxed);
        }
    }

    /// Microseconds since the Unix epoch; 0 if the machine's clock stands before it.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one reader of the wall clock")]
    pub fn now(&self) -> Micros {
        match &self.fixed {
            Some(fixed) => fixed.load(Ordering::Relaxed),
            None => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |elapsed| u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)),
        }
    }
}
