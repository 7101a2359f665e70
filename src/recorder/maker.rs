//! Makes the links of a chain: turns the items of a source into segments with their times, and states what else happens: marks,
//! the device's health, steps of its clock, what was lost, why a recording ended. Each is in the spool, durable where the
//! spool is, before the next is made.
//!
//! It begins at once when the recorder's state proves to be its own, and else when the server has said where the chain goes
//! on. When the spool is full, a source that can wait is not read; for a live one the oldest footage that nobody asked for
//! makes room, and a `Lost` link names it before it goes. It never makes a link of a sequence that may have been used.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use aigaq_proto::limits::{INIT_BYTES_MAX, PAYLOAD_BYTES_MAX};
use aigaq_proto::link::{Fix, LossCause, StopCause};
use aigaq_proto::{Content, Micros, Sequence, SequenceRange};

use super::Identity;
use super::control::{Command, Order};
use super::health::Device;
use super::links::{ChainState, Links, Next};
use super::resume::{self, Memory};
use super::run::{Observer, Pace};
use super::source::Item;
use super::spool::{Facts, Spool, Vanished};
use super::timeline::{ClockWatch, Placed, Timeline};
use super::track::Track;
use super::uplink::Greeting;
use crate::clock::Clock;
use crate::error::{Context, Error, Kind, Result};
use crate::media::Segment;

/// Seconds before and after a mark that belong to its event.
const MARK_SPAN: (u16, u16) = (30, 120);
/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Every so many ticks a recording says how the device is.
const HEALTH_TICKS: u32 = 30;
/// What the device runs.
const FIRMWARE: &str = concat!("aigaq/", env!("CARGO_PKG_VERSION"));

/// What a source gives, as it comes.
pub(super) type Items = mpsc::Receiver<Result<Item>>;

/// What was made.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) links: u64,
    pub(super) bytes: u64,
    pub(super) sequences: Option<(Sequence, Sequence)>,
    pub(super) captured: Option<(Micros, Micros)>,
    /// Links that a `Lost` link names.
    pub(super) lost: u64,
    /// What ended the source early.
    pub(super) fault: Option<Error>,
}

/// What a maker works with.
pub(super) struct Setup {
    pub(super) identity: Arc<Identity>,
    pub(super) spool: Arc<Spool>,
    pub(super) memory: Memory,
    pub(super) greeted: watch::Receiver<Option<Greeting>>,
    pub(super) start: Option<Micros>,
    pub(super) pace: Pace,
    pub(super) track: Option<Track>,
    pub(super) clock: Clock,
    pub(super) device: Device,
    /// Category of a mark to raise when the first recording begins.
    pub(super) mark: Option<String>,
    pub(super) inbox: mpsc::Receiver<Command>,
    pub(super) stop: CancellationToken,
    pub(super) observer: Arc<dyn Observer>,
}

/// Makes links.
pub(super) struct Maker {
    setup: Setup,
    /// `None` until it is known where the chain goes on.
    links: Option<Links>,
    timeline: Timeline,
    watch: ClockWatch,
    /// Items that were read before anything could be made of them.
    ahead: VecDeque<Item>,
    /// The recording that begins with the next segment.
    init: Option<(Bytes, String)>,
    /// A segment that waits for its time, and for room.
    pending: Option<(Segment, Placed)>,
    ticks: u32,
    /// Whether there is no source.
    brings_in: bool,
    made: Made,
}

impl Maker {
    pub(super) fn new(setup: Setup) -> Self {
        let timeline = Timeline::new(setup.pace == Pace::RealTime, setup.start);
        Self {
            setup,
            links: None,
            timeline,
            watch: ClockWatch::default(),
            ahead: VecDeque::new(),
            init: None,
            pending: None,
            ticks: 0,
            brings_in: false,
            made: Made::default(),
        }
    }

    /// Makes links of what the source gives until it ends, fails, or recording is stopped; without a source, only what has to
    /// be said of earlier recordings. Everything that was begun is ended with a `Stop` link. Not cancel-safe.
    ///
    /// # Errors
    /// What keeps links from being made at all, and a fault of a source that has given nothing yet; a later fault of the source is
    /// part of what was made.
    pub(super) async fn run(&mut self, items: Option<Items>) -> Result<()> {
        let mut items = items;
        if self.setup.memory.own().is_none() && items.is_none() {
            return Ok(());
        }
        self.brings_in = items.is_none();
        if !self.resume(&mut items).await? {
            return Ok(());
        }
        self.mourn().await?;
        if let Some(items) = items {
            let cause = self.record(items).await?;
            match self.stop(cause).await {
                // The next recorder says it; what is in the spool is brought in all the same.
                Err(error) if error.kind() == Kind::StorageFull => {
                    self.made.fault.get_or_insert(error);
                }
                stopped => stopped?,
            }
            self.made.captured = self.timeline.recorded();
        }
        Ok(())
    }

    /// What was made so far.
    pub(super) fn made(self) -> Made {
        self.made
    }

    /// Finds where the chain goes on. False when stopped before, or if the source turns out to have nothing.
    async fn resume(&mut self, items: &mut Option<Items>) -> Result<bool> {
        if let Some(own) = self.setup.memory.own() {
            self.links = Some(Links::new(self.setup.identity.clone(), own));
            // A recording that is open was cut off: it ended with its last segment.
            if own.recording.is_some() {
                self.push(|links| links.stop(StopCause::Fault, own.end)).await?;
            }
            return Ok(true);
        }
        let greeting = loop {
            let enough = |item: &Item| matches!(item, Item::Segment(_) | Item::Ask(_));
            let wanted = items.is_some() && !self.ahead.iter().any(enough);
            tokio::select! {
                greeted = self.setup.greeted.wait_for(Option::is_some) => {
                    let greeting = greeted.context(Kind::Internal, "the uplink ended early")?.clone();
                    let Some(greeting) = greeting else { continue };
                    break greeting;
                }
                item = next(items), if wanted => match item {
                    Some(item) => self.ahead.push_back(item?),
                    None => return Ok(false),
                },
                () = self.setup.stop.cancelled() => return Ok(false),
            }
        };
        self.go_on(&greeting).await?;
        Ok(true)
    }

    /// Goes on after all that the server and the recorder have heard of, and names what neither has.
    async fn go_on(&mut self, greeting: &Greeting) -> Result<()> {
        let held = self.setup.spool.summary().waiting;
        let resumed = self.setup.memory.resume(greeting, &held)?;
        let last = resumed.lost.len().saturating_sub(1);
        // Until the last of them is durable a restart begins here again.
        let settled = |settled| ChainState { settled, ..resumed.standing };
        self.links = Some(Links::new(self.setup.identity.clone(), settled(resumed.lost.is_empty())));
        for (index, range) in resumed.lost.iter().enumerate() {
            if let Some(links) = &mut self.links {
                links.went(ChainState { settled: index == last, ..links.standing() });
            }
            let (from, now) = (self.setup.memory.captured(), self.setup.clock.now());
            self.lost(*range, (from, now.max(from)), LossCause::Restored).await?;
        }
        // What is not here is named, or the server has it.
        self.setup.spool.take_vanished();
        let known = greeting.durable.iter().chain(&resumed.lost).copied().collect();
        self.setup.spool.departed(known).await
    }

    /// Takes what the source gives. Returns why the recording ends.
    async fn record(&mut self, mut items: Items) -> Result<StopCause> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.setup.stop.clone();
        let spool = self.setup.spool.clone();
        let mut greeted = self.setup.greeted.clone();
        greeted.mark_unchanged();
        self.account().await?;
        loop {
            let size = self.pending.as_ref().map_or(0, |(segment, _)| segment.bytes.len());
            let due = self.pending.as_ref().and_then(|(_, placed)| placed.due);
            let waits = self.waits();
            let ready = async {
                if let Some(due) = due {
                    tokio::time::sleep_until(due).await;
                }
                if waits {
                    spool.room_for(size).await;
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(StopCause::Shutdown),
                Some(command) = self.setup.inbox.recv() => {
                    if let Some(cause) = self.answer(command).await? {
                        return Ok(cause);
                    }
                }
                () = spool.damage() => self.mourn().await?,
                Ok(()) = greeted.changed() => {
                    let greeting = greeted.borrow_and_update().clone();
                    self.compare(greeting.as_ref()).await?;
                }
                _ = tick.tick(), if self.timeline.is_live() => self.look_around().await?,
                () = ready, if self.pending.is_some() => {
                    if let Some(cause) = self.segment().await? {
                        return Ok(cause);
                    }
                }
                item = one(&mut self.ahead, &mut items), if self.pending.is_none() => match item {
                    Some(item) => if let Some(cause) = self.item(item).await? {
                        return Ok(cause);
                    },
                    None => return Ok(StopCause::SourceEnded),
                },
            }
        }
    }

    /// Whether the source waits when the spool is full, or there is none.
    fn waits(&self) -> bool {
        self.brings_in || self.setup.pace == Pace::Fast || !self.setup.spool.is_durable()
    }

    /// Takes an item. Returns why the recording ends with it, if it does.
    async fn item(&mut self, item: Result<Item>) -> Result<Option<StopCause>> {
        let limit = self.setup.greeted.borrow().as_ref().map_or(PAYLOAD_BYTES_MAX, |known| known.payload_bytes_max);
        let fault = match item {
            Ok(Item::Init { bytes, codecs }) => match fits_init(&bytes, limit) {
                Ok(()) => {
                    self.stop(StopCause::SourceEnded).await?;
                    self.init = Some((bytes, codecs));
                    return Ok(None);
                }
                Err(fault) => fault,
            },
            Ok(Item::Segment(segment)) => match self.fits(&segment, limit) {
                Ok(()) => {
                    let placed = self.timeline.place(&segment, self.setup.clock.now(), Instant::now());
                    self.pending = Some((segment, placed));
                    return Ok(None);
                }
                Err(fault) => fault,
            },
            Ok(Item::At(at)) => {
                self.timeline.go_to(at, Instant::now());
                return Ok(None);
            }
            Ok(Item::End(cause)) => {
                self.init = None;
                self.stop(cause).await?;
                return Ok(None);
            }
            Ok(Item::Note(text)) => {
                self.setup.observer.note(&text);
                return Ok(None);
            }
            Ok(Item::Ask(ask)) => {
                if let Some(ChainState { place, .. }) = self.links.as_ref().map(Links::standing) {
                    let greeted = self.setup.greeted.borrow();
                    let durable = greeted.as_ref().map(|greeting| &*greeting.durable);
                    ask.answer(place.sequence, place.ordinal, |links| self.setup.spool.fate(links, durable));
                }
                return Ok(None);
            }
            Err(fault) => fault,
        };
        if self.timeline.recorded().is_none() {
            return Err(fault);
        }
        self.made.fault = Some(fault);
        Ok(Some(StopCause::Fault))
    }

    fn fits(&self, segment: &Segment, payload_bytes_max: u32) -> Result<()> {
        fits(segment, payload_bytes_max)?;
        if self.setup.spool.can_ever_fit(segment.bytes.len()) {
            return Ok(());
        }
        let text = format!("a segment has {} bytes, which is more than the spool may take", segment.bytes.len());
        Err(Error::new(Kind::StorageFull, text))
    }

    /// Makes a link of the segment that waited. Returns why the recording ends instead, if there is no room.
    async fn segment(&mut self) -> Result<Option<StopCause>> {
        let Some((segment, placed)) = self.pending.take() else { return Ok(None) };
        let init = self.init.take();
        let bytes = segment.bytes.len() + init.as_ref().map_or(0, |(bytes, _)| bytes.len());
        if !self.room(bytes).await? {
            self.made.fault = Some(Error::new(Kind::StorageFull, "the spool is full of what must stay"));
            return Ok(Some(StopCause::StorageFull));
        }
        let captured_at = self.timeline.record(placed, segment.duration_us);
        if let Some((bytes, codecs)) = init {
            self.push(|links| links.start(bytes.clone(), codecs.clone(), captured_at)).await?;
            if let Some(category) = self.setup.mark.take() {
                self.mark(category, String::new(), captured_at).await?;
            }
        }
        let fixes = self.fixes(captured_at, segment.duration_us);
        self.push(|links| links.media(segment.clone(), captured_at, fixes.clone())).await?;
        Ok(None)
    }

    /// Does what was asked. Returns why the recording ends, if that was.
    async fn answer(&mut self, command: Command) -> Result<Option<StopCause>> {
        let answer = match command.order {
            Order::Mark { category, note } => {
                let at = self.timeline.now(self.setup.clock.now(), Instant::now());
                match self.mark(category, note, at).await {
                    Ok(sequence) => format!("ok {sequence}"),
                    Err(error) if matches!(error.kind(), Kind::Invalid | Kind::StorageFull) => format!("error {error}"),
                    Err(error) => return Err(error),
                }
            }
            Order::Stop(cause) => {
                let _ = command.answer.send("ok".to_owned());
                return Ok(Some(cause));
            }
            Order::Status => self.status(),
        };
        let _ = command.answer.send(answer);
        Ok(None)
    }

    fn status(&self) -> String {
        let (held, room) = (self.setup.spool.queue().held(), self.setup.spool.room());
        let standing = self.links.as_ref().map(Links::standing);
        let recording = standing.is_some_and(|standing| standing.recording.is_some());
        let next = standing.map_or(0, |standing| standing.place.sequence);
        format!(
            "ok recording={recording} next={next} waiting={} waiting_bytes={} free_bytes={}",
            held.links, held.bytes, room.free
        )
    }

    /// Raises a mark. Its sequence, once it is durable.
    async fn mark(&mut self, category: String, note: String, at: Micros) -> Result<Sequence> {
        if !self.room(0).await? {
            return Err(Error::new(Kind::StorageFull, "the spool is full of what must stay"));
        }
        let fixes = self.fixes(at, 0);
        self.push(|links| links.mark((category.clone(), note.clone()), MARK_SPAN, at, fixes.clone())).await
    }

    /// Where the recorder was.
    fn fixes(&self, at: Micros, duration_us: u64) -> Vec<Fix> {
        self.setup.track.as_ref().map(|track| track.fixes(at, duration_us)).unwrap_or_default()
    }

    /// Once a second: has the clock been set, and is it time to say how the device is?
    async fn look_around(&mut self) -> Result<()> {
        let now = self.setup.clock.now();
        if let Some((before, after)) = self.watch.look(now, Instant::now()) {
            self.timeline.step(before, after);
            self.room(0).await?;
            self.push(|links| links.clock_step(before, after)).await?;
        }
        let recording = self.links.as_ref().is_some_and(|links| links.standing().recording.is_some());
        self.ticks = if recording { self.ticks.wrapping_add(1) } else { 0 };
        let due = recording && self.ticks.is_multiple_of(HEALTH_TICKS);
        if due {
            self.setup.spool.look_again();
        }
        if due && self.room(0).await? {
            let (room, device) = (self.setup.spool.room(), &self.setup.device);
            let health = Content::Health {
                battery_percent: device.battery_percent(),
                storage_free_bytes: room.free,
                backlog_bytes: room.held,
                temperature_centi: device.temperature_centi(),
                firmware: FIRMWARE.to_owned(),
            };
            let at = self.timeline.now(now, Instant::now());
            self.push(|links| links.small(health.clone(), at)).await?;
        }
        Ok(())
    }

    /// A greeting that came after the chain went on by itself: if the server has heard of more, the state was that of another
    /// time, and what was made since is disputed.
    async fn compare(&mut self, greeting: Option<&Greeting>) -> Result<()> {
        let (Some(greeting), Some(links)) = (greeting, &self.links) else { return Ok(()) };
        let place = links.standing().place;
        let heard = greeting.newest.map(|end| end.sequence).max(greeting.reserved);
        if let Some(heard) = heard.filter(|heard| *heard >= place.sequence) {
            self.setup.observer.note(&format!(
                "the server knows link {heard} of this recorder, which stands at {}: its state was put back, or another device \
                 uses its key; a person must look",
                place.sequence
            ));
            self.stop(StopCause::Fault).await?;
            return self.go_on(greeting).await;
        }
        if greeting
            .newest
            .is_some_and(|end| end.sequence.checked_add(1) == Some(place.sequence) && end.digest != place.previous)
        {
            self.setup
                .observer
                .note("the server has another link in place of this recorder's newest: a person must look");
        }
        self.account().await
    }

    /// Ends the recording, if one is open.
    async fn stop(&mut self, cause: StopCause) -> Result<()> {
        self.timeline.pause();
        let Some(standing) = self.links.as_ref().map(Links::standing) else { return Ok(()) };
        if standing.recording.is_some() {
            self.room(0).await?;
            self.push(|links| links.stop(cause, standing.end)).await?;
        }
        Ok(())
    }

    /// After the recording: names what turns out not to read back or to be gone, and answers who asks. Returns after each.
    pub(super) async fn tend(&mut self, spool: &Spool) -> Result<()> {
        let mut greeted = self.setup.greeted.clone();
        let heard = async { greeted.wait_for(Option::is_some).await.is_ok() };
        tokio::select! {
            () = spool.damage() => self.mourn().await,
            true = heard, if spool.has_vanished() => self.account().await,
            Some(command) = self.setup.inbox.recv() => {
                let answer = match command.order {
                    Order::Status => self.status(),
                    Order::Mark { .. } | Order::Stop(_) => "error the recording has ended".to_owned(),
                };
                let _ = command.answer.send(answer);
                Ok(())
            }
        }
    }

    /// Names what does not read back, and lets it go.
    pub(super) async fn mourn(&mut self) -> Result<()> {
        let damaged = self.setup.spool.take_damaged();
        if damaged.is_empty() || (self.links.is_none() && !self.resume(&mut None).await?) {
            return Ok(());
        }
        self.give_up(&damaged, LossCause::StorageFault).await
    }

    /// Names what is gone from the device and not with the server either, once that has said what it has.
    async fn account(&mut self) -> Result<()> {
        let Some(greeting) = self.setup.greeted.borrow().clone() else { return Ok(()) };
        if self.links.is_none() || !self.setup.spool.has_vanished() {
            return Ok(());
        }
        let vanished = self.setup.spool.take_vanished();
        for Vanished { links, span } in resume::gone(&vanished, &greeting) {
            // The next start finds what is left.
            if !self.room(0).await? {
                return Ok(());
            }
            self.lost(links, span, LossCause::StorageFault).await?;
            self.setup.spool.departed(vec![links]).await?;
            self.made.lost = self.made.lost.saturating_add((links.last - links.first).saturating_add(1));
        }
        self.setup.spool.departed(greeting.durable).await
    }

    /// Sees to it that a link with so much payload has room; footage that can go makes some. False if nothing more can go.
    async fn room(&mut self, bytes: usize) -> Result<bool> {
        while !self.setup.spool.fits(bytes) {
            if self.waits() {
                tokio::select! {
                    () = self.setup.spool.room_for(bytes) => {}
                    () = self.setup.stop.cancelled() => return Ok(true),
                }
                continue;
            }
            let victims = self.setup.spool.victims(bytes);
            if victims.is_empty() {
                return Ok(false);
            }
            self.give_up(&victims, LossCause::StorageFull).await?;
        }
        Ok(true)
    }

    /// Names these links, by rising sequence, each run of neighbours with one link, and lets them go.
    async fn give_up(&mut self, links: &[Facts], cause: LossCause) -> Result<()> {
        let neighbours = |a: &Facts, b: &Facts| a.sequence.checked_add(1) == Some(b.sequence);
        for run in links.chunk_by(neighbours) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let range = SequenceRange { first: first.sequence, last: last.sequence };
            let from = run.iter().map(|facts| facts.begin).min().unwrap_or(0);
            let to = run.iter().map(Facts::end).max().unwrap_or(0);
            match self.lost(range, (from, to), cause).await {
                // The file system itself is full: then they go first.
                Err(error) if error.kind() == Kind::StorageFull => {
                    self.setup.spool.forget(run).await;
                    self.lost(range, (from, to), cause).await?;
                }
                named => {
                    named?;
                    self.setup.spool.forget(run).await;
                }
            }
            self.made.lost = self.made.lost.saturating_add(run.len() as u64);
        }
        Ok(())
    }

    async fn lost(&mut self, range: SequenceRange, span: (Micros, Micros), cause: LossCause) -> Result<()> {
        let at = self.timeline.now(self.setup.clock.now(), Instant::now());
        let why = match cause {
            LossCause::StorageFull => "to make room",
            LossCause::StorageFault => "because storage did not keep them",
            LossCause::Restored => "with the state of this recorder",
        };
        self.setup.observer.note(&format!("links {} to {} are lost {why}", range.first, range.last));
        self.setup.spool.missing(range);
        self.put(|links| links.lost(range, span, cause, at)).await.map(|_| ())
    }

    /// Makes a link and puts it into the spool. Its sequence.
    async fn push(&mut self, make: impl Fn(&Links) -> Result<Next>) -> Result<Sequence> {
        match self.put(&make).await {
            // The file system had less room than the limit: now the limit is what it had.
            Err(error) if error.kind() == Kind::StorageFull => {
                let bytes = match &self.links {
                    Some(links) => make(links)?.0.payload.len(),
                    None => 0,
                };
                if self.room(bytes).await? { self.put(&make).await } else { Err(error) }
            }
            put => put,
        }
    }

    /// The same, with the room that there is.
    async fn put(&mut self, make: impl Fn(&Links) -> Result<Next>) -> Result<Sequence> {
        let links = self.links.as_mut().ok_or_else(|| Error::new(Kind::Internal, "the chain has no place yet"))?;
        let (link, standing) = make(links)?;
        let (sequence, bytes) = (link.facts.sequence, link.payload.len());
        if !self.setup.spool.push(link, standing.after()).await? {
            return Err(Error::new(Kind::StorageFull, "the spool has no room, not even for the last words"));
        }
        links.went(standing);
        self.made.links += 1;
        self.made.bytes += bytes as u64;
        self.made.sequences = Some((self.made.sequences.map_or(sequence, |(first, _)| first), sequence));
        self.setup.observer.link(sequence, bytes);
        Ok(sequence)
    }
}

async fn next(items: &mut Option<Items>) -> Option<Result<Item>> {
    items.as_mut()?.recv().await
}

/// The next item: one that was read ahead, or else of the source.
async fn one(ahead: &mut VecDeque<Item>, items: &mut Items) -> Option<Result<Item>> {
    match ahead.pop_front() {
        Some(item) => Some(Ok(item)),
        None => items.recv().await,
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
mod tests;
