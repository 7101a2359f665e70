//! Which recorders brought something since somebody looked last: what looks again for what came late need not look at everything.
//!
//! Nothing of it is durable: whoever starts looks at everything once. Costs nothing before the first who asks, and then the spans of
//! each recorder that brought something since: what it records now is not one with its backlog of last week.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aigaq_proto::{LinkHeader, Micros, RecorderId};

/// Spans of one recorder at most: what it recorded now, and a few pieces of its backlog.
const SPANS_MAX: usize = 64;

/// What arrived since the last look.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    wanted: AtomicBool,
    by_recorder: Mutex<HashMap<RecorderId, Spans>>,
}

/// Spans of device time that do not touch, in order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Spans(Vec<Range<Micros>>);

impl Spans {
    /// Adds a span; those that it touches become one with it, and beyond [`SPANS_MAX`] the two with the shortest pause between them.
    fn add(&mut self, span: Range<Micros>) {
        let first = self.0.partition_point(|known| known.end < span.start);
        let after = self.0.partition_point(|known| known.start <= span.end).max(first);
        let mut joined = span;
        for known in self.0.drain(first..after) {
            joined = joined.start.min(known.start)..joined.end.max(known.end);
        }
        self.0.insert(first, joined);
        if self.0.len() > SPANS_MAX {
            let pauses = self.0.iter().zip(self.0.iter().skip(1)).map(|(one, next)| next.start - one.end);
            if let Some((at, _)) = pauses.enumerate().min_by_key(|(_, pause)| *pause) {
                let next = self.0.remove(at + 1);
                if let Some(one) = self.0.get_mut(at) {
                    one.end = next.end;
                }
            }
        }
    }
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, HashMap<RecorderId, Spans>> {
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
            all.entry(recorder).or_default().add(span);
        }
    }

    /// The span of a link, if anybody wants to know.
    pub(super) fn span(&self, header: &LinkHeader) -> Option<(RecorderId, Range<Micros>)> {
        let wanted = self.wanted.load(Ordering::Acquire);
        let end = header.captured_at.saturating_add(u64::from(header.duration_us).max(1));
        wanted.then_some((header.recorder, header.captured_at..end))
    }

    pub(super) fn take(&self) -> Vec<(RecorderId, Range<Micros>)> {
        let all = std::mem::take(&mut *self.lock());
        all.into_iter().flat_map(|(recorder, spans)| spans.0.into_iter().map(move |span| (recorder, span))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_now_and_what_comes_late_are_spans_of_their_own() {
        let mut spans = Spans::default();
        for span in [100..110, 10..12, 110..120, 12..14, 5..6, 115..118] {
            spans.add(span);
        }
        assert_eq!(spans.0, [5..6, 10..14, 100..120]);
        spans.add(6..100);
        spans.add(300..301);
        assert_eq!(spans.0, [5..120, 300..301]);
    }

    #[test]
    fn of_too_many_those_with_the_shortest_pause_between_them_become_one() {
        let mut spans = Spans::default();
        for index in 0..SPANS_MAX as u64 {
            spans.add(index * 100..index * 100 + 10);
        }
        spans.add(215..220);
        assert_eq!(spans.0.len(), SPANS_MAX);
        assert_eq!(spans.0[2], 200..220);
        assert_eq!(spans.0[3], 300..310);
    }
}
