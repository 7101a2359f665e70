//! Which recorders brought something since somebody looked last: what looks again for what came late need not look at everything.
//!
//! Nothing of it is durable: whoever starts looks at everything once. Costs nothing before the first who asks, and then one entry for
//! each recorder that brought something since.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aigaq_proto::{LinkHeader, Micros, RecorderId};

/// What arrived since the last look.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    wanted: AtomicBool,
    by_recorder: Mutex<HashMap<RecorderId, Range<Micros>>>,
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, HashMap<RecorderId, Range<Micros>>> {
        self.by_recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// The spans of the links of a commit that has become durable.
    pub(super) fn note(&self, spans: Vec<(RecorderId, Range<Micros>)>) {
        if spans.is_empty() {
            return;
        }
        let mut all = self.lock();
        for (recorder, span) in spans {
            let known = all.entry(recorder).or_insert_with(|| span.clone());
            *known = known.start.min(span.start)..known.end.max(span.end);
        }
    }

    /// The span of a link, if anybody wants to know.
    pub(super) fn span(&self, header: &LinkHeader) -> Option<(RecorderId, Range<Micros>)> {
        let wanted = self.wanted.load(Ordering::Acquire);
        let end = header.captured_at.saturating_add(u64::from(header.duration_us).max(1));
        wanted.then_some((header.recorder, header.captured_at..end))
    }

    pub(super) fn take(&self) -> Vec<(RecorderId, Range<Micros>)> {
        self.lock().drain().collect()
    }
}
