//! Where the media of a source goes: through the cutter, to the recorder.
//!
//! A source that knows when it was captured gives its own time; one that goes on after a restart leaves out the segments
//! that were recorded before. Cutting is the same each time, so a number of segments is all that has to be known.

use bytes::Bytes;
use tokio::sync::mpsc;

use aigaq_proto::Micros;
use aigaq_proto::limits::PAYLOAD_BYTES_MAX;

use super::Item;
use crate::error::Result;
use crate::media::{self, Cutter, Event, Segment};

/// Takes media.
pub(super) struct Sink<'a> {
    items: &'a mpsc::Sender<Result<Item>>,
    cutter: Cutter,
    /// A beginning that was not sent, because nothing of its recording was.
    init: Option<(Bytes, String)>,
    time: Option<OwnTime>,
    /// Segments that are left out.
    skip: u64,
    /// Segments that were cut.
    cut: u64,
}

/// The time of a source that knows it.
struct OwnTime {
    /// Device clock at the first sample of the recording, and its decode time once that is known.
    begin: Micros,
    zero: Option<u64>,
    /// Device clock at the end of the newest segment.
    end: Micros,
    /// Whether the recorder counts on from what it was told.
    told: bool,
}

impl<'a> Sink<'a> {
    /// For a source that is recorded as it comes.
    pub(super) fn new(items: &'a mpsc::Sender<Result<Item>>) -> Self {
        Self { items, cutter: Cutter::new(PAYLOAD_BYTES_MAX), init: None, time: None, skip: 0, cut: 0 }
    }

    /// For a source whose first sample was captured at `at`, device clock, and of which `skip` segments are recorded already.
    pub(super) fn at(items: &'a mpsc::Sender<Result<Item>>, at: Micros, skip: u64) -> Self {
        let time = OwnTime { begin: at, zero: None, end: at, told: false };
        Self { time: Some(time), skip, ..Self::new(items) }
    }

    /// Takes an event; false when nobody wants more.
    ///
    /// # Errors
    /// What keeps a fragment from being a link.
    pub(super) fn event(&mut self, event: Event) -> Result<bool, media::Error> {
        Ok(match event {
            Event::Init(init) => {
                let wanted = self.flush();
                if let Some(time) = &mut self.time {
                    (time.begin, time.zero, time.told) = (time.end, None, false);
                }
                self.init = Some((init.bytes, init.codecs));
                wanted && (self.cut < self.skip || self.begin())
            }
            Event::Fragment(fragment) => match self.cutter.push(fragment)? {
                Some(segment) => self.segment(segment),
                None => true,
            },
        })
    }

    /// Gives what is left; false when nobody wants more.
    pub(super) fn flush(&mut self) -> bool {
        match self.cutter.flush() {
            Some(segment) => self.segment(segment),
            None => true,
        }
    }

    /// Tells something that a person may want to read; false when nobody wants more.
    pub(super) fn note(&self, text: String) -> bool {
        self.send(Item::Note(text))
    }

    fn segment(&mut self, segment: Segment) -> bool {
        self.cut += 1;
        let captured_at = self.time.as_mut().map(|time| {
            let zero = *time.zero.get_or_insert(segment.decode_time_us);
            let at = time.begin.saturating_add(segment.decode_time_us.saturating_sub(zero));
            time.end = at.saturating_add(segment.duration_us);
            at
        });
        if self.cut <= self.skip {
            return true;
        }
        let mut wanted = self.begin();
        if let (Some(at), Some(time)) = (captured_at, &mut self.time)
            && !std::mem::replace(&mut time.told, true)
        {
            wanted = wanted && self.send(Item::At(at));
        }
        wanted && self.send(Item::Segment(segment))
    }

    fn begin(&mut self) -> bool {
        match self.init.take() {
            Some((bytes, codecs)) => self.send(Item::Init { bytes, codecs }),
            None => true,
        }
    }

    fn send(&self, item: Item) -> bool {
        self.items.blocking_send(Ok(item)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::retime::Loop;
    use crate::recorder::CLIP;

    /// What a sink gives for the bundled clip twice over, each segment with the time that it was told or counted on from.
    fn given(sink: impl FnOnce(&mpsc::Sender<Result<Item>>) -> Sink<'_>) -> (usize, Vec<Option<Micros>>) {
        let (items, mut receiver) = mpsc::channel(64);
        let mut sink = sink(&items);
        let clip = Loop::read(CLIP).unwrap();
        for _ in 0..2 {
            assert!(sink.event(Event::Init(clip.init().clone())).unwrap());
            for number in 0..clip.fragments_per_lap() {
                assert!(sink.event(Event::Fragment(clip.fragment(number).unwrap())).unwrap());
            }
        }
        assert!(sink.flush());
        drop(sink);
        drop(items);
        let (mut inits, mut times, mut at) = (0, Vec::new(), None);
        while let Ok(item) = receiver.try_recv() {
            match item.unwrap() {
                Item::Init { .. } => inits += 1,
                Item::At(told) => at = Some(told),
                Item::Segment(segment) => {
                    times.push(at);
                    at = at.map(|at| at + segment.duration_us);
                }
                other => panic!("{other:?}"),
            }
        }
        (inits, times)
    }

    #[test]
    fn a_source_without_a_time_of_its_own_is_told_none() {
        assert_eq!(given(|items| Sink::new(items)), (2, vec![None; 12]));
    }

    #[test]
    fn times_go_on_from_one_recording_to_the_next() {
        let expected: Vec<_> = (0..12).map(|number| Some(1_000_000 + number * 2_000_000)).collect();
        assert_eq!(given(|items| Sink::at(items, 1_000_000, 0)), (2, expected));
    }

    #[test]
    fn what_was_recorded_before_is_left_out_and_the_rest_keeps_its_time() {
        for (skip, inits) in [(0, 2), (2, 2), (6, 1), (8, 1), (12, 0)] {
            let expected: Vec<_> = (skip..12).map(|number| Some(number * 2_000_000)).collect();
            assert_eq!(given(|items| Sink::at(items, 0, skip)), (inits, expected), "{skip} left out");
        }
    }
}
