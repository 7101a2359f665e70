//! Turns the items of a source into links: waits for their time, gives them their times, chains and signs them, and offers
//! them to the spool once their place in the chain is on disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use aigaq_proto::limits::INIT_BYTES_MAX;
use aigaq_proto::link::StopCause;
use aigaq_proto::{Micros, Sequence};

use super::Identity;
use super::links::{Link, Links};
use super::run::{Observer, Pace};
use super::source::{Item, Standing};
use super::spool::Spool;
use super::state::{Place, StateDir};
use super::track::Track;
use super::uplink::Greeting;
use crate::clock::Clock;
use crate::error::{Context, Error, Kind, Result};
use crate::media::Segment;

/// What was made.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) links: u64,
    pub(super) bytes: u64,
    pub(super) sequences: Option<(Sequence, Sequence)>,
    pub(super) captured: Option<(Micros, Micros)>,
    /// What ended the source early.
    pub(super) fault: Option<Error>,
}

/// Makes links.
pub(super) struct Maker {
    pub(super) identity: Arc<Identity>,
    pub(super) spool: Arc<Spool>,
    pub(super) state: Option<Arc<StateDir>>,
    /// The place that was remembered.
    pub(super) local: Option<Place>,
    pub(super) greeted: watch::Receiver<Option<Greeting>>,
    pub(super) start: Option<Micros>,
    pub(super) pace: Pace,
    pub(super) track: Option<Track>,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
    pub(super) observer: Arc<dyn Observer>,
}

/// Where the recording stands in time.
struct Timeline {
    /// Device clock at the first sample of the first recording, and when it was released.
    begun: Option<(Micros, Instant)>,
    /// Device clock at the end of the newest segment.
    end: Micros,
    /// Device clock and decode time at the first sample of this recording.
    zero: Option<(Micros, u64)>,
}

impl Maker {
    /// Makes links of `first`, then of `items`, until the source ends, fails, or recording is stopped. Everything that was
    /// begun is ended with a `Stop` link.
    ///
    /// # Errors
    /// What keeps links from being made at all; a fault of the source is part of what was made.
    pub(super) async fn run(mut self, first: Vec<Item>, mut items: mpsc::Receiver<Result<Item>>) -> Result<Made> {
        let Some(greeting) = self.greeting().await? else { return Ok(Made::default()) };
        let mut links = Links::new(self.identity.clone(), Place::resolve(self.local, greeting.newest)?);
        let mut timeline = Timeline { begun: None, end: 0, zero: None };
        let mut made = Made::default();
        let mut init = None;
        let mut ahead = first.into_iter();
        let stop = self.stop.clone();
        let cause = loop {
            let item = match ahead.next() {
                Some(item) => Some(Ok(item)),
                None => {
                    tokio::select! { item = items.recv() => item, () = stop.cancelled() => break StopCause::Shutdown }
                }
            };
            let step = match item {
                None => break StopCause::SourceEnded,
                Some(Err(fault)) => Err(fault),
                Some(Ok(Item::Init { bytes, codecs })) => match fits_init(&bytes, greeting.payload_bytes_max) {
                    Ok(()) => {
                        self.stop(&mut links, StopCause::SourceEnded, &mut timeline, &mut made).await?;
                        init = Some((bytes, codecs));
                        continue;
                    }
                    Err(fault) => Err(fault),
                },
                Some(Ok(Item::At(at))) => {
                    timeline.at(at);
                    continue;
                }
                Some(Ok(Item::End(cause))) => {
                    self.stop(&mut links, cause, &mut timeline, &mut made).await?;
                    init = None;
                    continue;
                }
                Some(Ok(Item::Note(text))) => {
                    self.observer.note(&text);
                    continue;
                }
                Some(Ok(Item::Ask(ask))) => {
                    let Place { sequence, ordinal, .. } = links.place();
                    ask.answer(Standing { sequence, ordinal });
                    continue;
                }
                Some(Ok(Item::Segment(segment))) => fits(&segment, greeting.payload_bytes_max).map(|()| segment),
            };
            let segment = match step {
                Ok(segment) => segment,
                Err(fault) => {
                    made.fault = Some(fault);
                    break StopCause::Fault;
                }
            };
            let captured_at = timeline.place(&segment, self.start, self.pace, &self.clock);
            if !self.wait(&timeline, captured_at.saturating_add(segment.duration_us)).await {
                break StopCause::Shutdown;
            }
            if let Some((bytes, codecs)) = init.take() {
                let link = links.start(bytes, codecs, captured_at)?;
                self.offer(&links, link, &mut made).await?;
            }
            timeline.end = captured_at.saturating_add(segment.duration_us);
            let fixes =
                self.track.as_ref().map(|track| track.fixes(captured_at, segment.duration_us)).unwrap_or_default();
            let link = links.media(segment, captured_at, fixes)?;
            self.offer(&links, link, &mut made).await?;
        };
        self.stop(&mut links, cause, &mut timeline, &mut made).await?;
        made.captured = timeline.begun.map(|(begun, _)| (begun, timeline.end));
        Ok(made)
    }

    /// What the server said first: without it the recorder does not know where its chain goes on. `None` when stopped before.
    async fn greeting(&mut self) -> Result<Option<Greeting>> {
        let stop = self.stop.clone();
        tokio::select! {
            greeted = self.greeted.wait_for(Option::is_some) => {
                Ok(*greeted.context(Kind::Internal, "the uplink ended early")?)
            }
            () = stop.cancelled() => Ok(None),
        }
    }

    /// Waits, in real time, until what was captured until `end` could be here; false when recording is stopped.
    async fn wait(&self, timeline: &Timeline, end: Micros) -> bool {
        let (Pace::RealTime, Some((begun, released))) = (self.pace, timeline.begun) else {
            return !self.stop.is_cancelled();
        };
        let due = released + Duration::from_micros(end.saturating_sub(begun));
        tokio::select! {
            () = tokio::time::sleep_until(due) => true,
            () = self.stop.cancelled() => false,
        }
    }

    async fn stop(&self, links: &mut Links, cause: StopCause, timeline: &mut Timeline, made: &mut Made) -> Result<()> {
        timeline.zero = None;
        if links.is_recording() {
            let link = links.stop(cause, timeline.end)?;
            self.offer(links, link, made).await?;
        }
        Ok(())
    }

    /// Puts a link into the spool when it has room and the place after it is on disk.
    async fn offer(&self, links: &Links, link: Link, made: &mut Made) -> Result<()> {
        let bytes = link.payload.len();
        self.spool.room_for(bytes).await;
        if let Some(state) = self.state.clone() {
            let place = links.place();
            let saved = tokio::task::spawn_blocking(move || state.save_place(place)).await;
            saved.context(Kind::Internal, "saving the chain's state died")??;
        }
        made.links += 1;
        made.bytes += bytes as u64;
        made.sequences = Some((made.sequences.map_or(link.facts.sequence, |(first, _)| first), link.facts.sequence));
        self.observer.link(link.facts.sequence, bytes);
        self.spool.push(link).await
    }
}

impl Timeline {
    /// The next segment begins at this time.
    fn at(&mut self, at: Micros) {
        self.begun.get_or_insert_with(|| (at, Instant::now()));
        self.end = at;
        self.zero = None;
    }

    /// Device clock at the first sample of `segment`. In real time the first segment is released at once, so it was begun
    /// its own length ago.
    fn place(&mut self, segment: &Segment, start: Option<Micros>, pace: Pace, clock: &Clock) -> Micros {
        if self.begun.is_none() {
            let length = if pace == Pace::RealTime { segment.duration_us } else { 0 };
            let begun = start.unwrap_or_else(|| clock.now().saturating_sub(length));
            let now = Instant::now();
            self.begun = Some((begun, now.checked_sub(Duration::from_micros(length)).unwrap_or(now)));
            self.end = begun;
        }
        let (at, decode_time_us) = *self.zero.get_or_insert((self.end, segment.decode_time_us));
        at.saturating_add(segment.decode_time_us.saturating_sub(decode_time_us))
    }
}

fn fits(segment: &Segment, payload_bytes_max: u32) -> Result<()> {
    if segment.bytes.len() as u64 <= u64::from(payload_bytes_max) {
        return Ok(());
    }
    let text = format!(
        "a segment has {} bytes, the server takes {payload_bytes_max}; use shorter fragments (ffmpeg -frag_duration)",
        segment.bytes.len()
    );
    Err(Error::new(Kind::Invalid, text))
}

fn fits_init(init: &Bytes, payload_bytes_max: u32) -> Result<()> {
    let (actual, limit) = (init.len(), payload_bytes_max.min(INIT_BYTES_MAX));
    if actual as u64 <= u64::from(limit) {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, format!("the initialisation segment has {actual} bytes, the server takes {limit}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Micros = 1_768_641_242_000_000;

    fn segment(decode_time_us: u64, duration_us: u64) -> Segment {
        Segment { bytes: Bytes::from_static(b"0123456789"), decode_time_us, duration_us, independent: true }
    }

    fn timeline() -> Timeline {
        Timeline { begun: None, end: 0, zero: None }
    }

    #[tokio::test(start_paused = true)]
    async fn times_follow_the_decode_times_from_the_start_that_was_given() {
        let mut timeline = timeline();
        let mut place = |at| timeline.place(&segment(at, 2_000_000), Some(AT), Pace::Fast, &Clock::fixed(5));
        assert_eq!([place(700), place(2_000_700), place(9_000_700)], [AT, AT + 2_000_000, AT + 9_000_000]);
        assert_eq!(place(0), AT, "a time before the first sample is that of the first");
    }

    #[tokio::test(start_paused = true)]
    async fn another_recording_goes_on_where_the_last_one_ended() {
        let mut timeline = timeline();
        timeline.place(&segment(0, 2_000_000), Some(AT), Pace::Fast, &Clock::fixed(5));
        timeline.end = AT + 2_000_000;
        timeline.zero = None;
        assert_eq!(timeline.place(&segment(77, 1), Some(AT), Pace::Fast, &Clock::fixed(5)), AT + 2_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_knows_its_time_is_recorded_at_that_time() {
        let mut timeline = timeline();
        let place = |timeline: &mut Timeline, at| timeline.place(&segment(at, 1), None, Pace::Fast, &Clock::fixed(5));
        timeline.at(AT);
        assert_eq!([place(&mut timeline, 70), place(&mut timeline, 90)], [AT, AT + 20]);
        timeline.at(AT - 1_000);
        assert_eq!([place(&mut timeline, 0), place(&mut timeline, 30)], [AT - 1_000, AT - 970], "also back in time");
    }

    #[tokio::test(start_paused = true)]
    async fn in_real_time_the_first_segment_has_just_been_captured() {
        let place = |pace| timeline().place(&segment(0, 2_000_000), None, pace, &Clock::fixed(AT));
        assert_eq!((place(Pace::RealTime), place(Pace::Fast)), (AT - 2_000_000, AT));
    }

    #[test]
    fn a_segment_that_the_server_does_not_take_is_a_fault_that_says_what_to_do() {
        assert!(fits(&segment(0, 1), 10).is_ok());
        assert!(fits(&segment(0, 1), 9).unwrap_err().context().contains("-frag_duration"));
        let init = Bytes::from(vec![0; 1_048_577]);
        assert!(fits_init(&init.slice(1..), 33_554_432).is_ok());
        assert!(fits_init(&init.slice(1..), 65_536).unwrap_err().context().contains("takes 65536"));
        assert!(fits_init(&init, 33_554_432).unwrap_err().context().contains("takes 1048576"));
    }
}
