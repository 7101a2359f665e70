//! One connection to a camera, from its description to its loss.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use retina::client::{Demuxed, InitialTimestampPolicy, PlayOptions, Session, SessionOptions, SetupOptions, Stream};
use retina::codec::{CodecItem, FrameFormat, ParametersRef};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Camera, fault};
use crate::error::{Error, Kind, Result};
use crate::media::live::{Frame, Live, Track};
use crate::media::movie::TrackKind;
use crate::media::{self, Fragment, Segment};
use crate::recorder::source::Item;

/// How long a camera may take to answer, and to send its first frame or the next.
const PATIENCE: Duration = Duration::from_secs(10);
/// Greatest number of tracks that are recorded: pictures and sound.
const TRACKS_MAX: usize = 2;

/// How a connection ended.
pub(super) struct Ended {
    /// Whether footage came of it.
    pub(super) recorded: bool,
    /// Why: [`Kind::Busy`] if it may be better next time.
    pub(super) error: Error,
}

/// Records what a camera sends until the connection is lost.
pub(super) async fn record(camera: &Camera, items: &mpsc::Sender<Result<Item>>) -> Ended {
    let (mut demuxed, chosen) = match timeout(PATIENCE, play(camera, items)).await {
        Ok(Ok(playing)) => playing,
        Ok(Err(error)) => return Ended { recorded: false, error },
        Err(_) => return Ended { recorded: false, error: fault(Kind::Busy, camera, "no answer") },
    };
    let mut recording = Recording { items, chosen, live: None, tracks: Vec::new(), recorded: false };
    let why = loop {
        let item = match timeout(PATIENCE, demuxed.next()).await {
            Err(_) => break "it sends nothing any more".to_owned(),
            Ok(None) => break "the connection ended".to_owned(),
            Ok(Some(Err(error))) => break error.to_string(),
            Ok(Some(Ok(item))) => item,
        };
        match recording.take(item, &demuxed).await {
            Ok(true) => {}
            Ok(false) => break "the recorder ended".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    // What came before the loss is footage too.
    let _ = recording.end().await;
    Ended { recorded: recording.recorded, error: fault(Kind::Busy, camera, &why) }
}

/// Connects, chooses what is recorded, and begins.
async fn play(camera: &Camera, items: &mpsc::Sender<Result<Item>>) -> Result<(Demuxed, Vec<usize>)> {
    let options = SessionOptions::default().creds(camera.credentials()).user_agent("aigaq".to_owned());
    let refused = |error: retina::Error| match error.status_code() {
        Some(401 | 403) => fault(Kind::Unauthorised, camera, "user or password is wrong"),
        Some(404) => fault(Kind::Invalid, camera, "there is no such stream"),
        _ => fault(Kind::Busy, camera, &error.to_string()),
    };
    let mut session = Session::describe(camera.url(), options).await.map_err(refused)?;
    let mut chosen: Vec<usize> = Vec::new();
    let mut others = Vec::new();
    for (index, stream) in session.streams().iter().enumerate() {
        let first =
            !chosen.iter().any(|chosen| session.streams().get(*chosen).map(Stream::media) == Some(stream.media()));
        if first && chosen.len() < TRACKS_MAX && kind(stream).is_some() {
            chosen.push(index);
        } else {
            others.push(format!("{}/{}", stream.media(), stream.encoding_name()));
        }
    }
    if chosen.is_empty() {
        let text = format!("it has neither H.264 or H.265 pictures nor AAC sound, but {}", others.join(", "));
        return Err(fault(Kind::Invalid, camera, &text));
    }
    if !others.is_empty() {
        let _ = items.send(Ok(Item::Note(format!("camera {camera}: left out: {}", others.join(", "))))).await;
    }
    for index in &chosen {
        let options = SetupOptions::default().frame_format(FrameFormat::MP4);
        session.setup(*index, options).await.map_err(refused)?;
    }
    let options = PlayOptions::default().initial_timestamp(InitialTimestampPolicy::Permissive);
    let demuxed = session.play(options).await.map_err(refused)?.demuxed().map_err(refused)?;
    Ok((demuxed, chosen))
}

/// What a stream carries, if it is recorded.
fn kind(stream: &Stream) -> Option<TrackKind> {
    match (stream.media(), stream.encoding_name()) {
        ("video", "h264" | "h265") => Some(TrackKind::Video),
        ("audio", "mpeg4-generic") => Some(TrackKind::Audio),
        _ => None,
    }
}

/// What is being recorded of a connection.
struct Recording<'a> {
    items: &'a mpsc::Sender<Result<Item>>,
    /// Numbers of the streams that are recorded; a track for each.
    chosen: Vec<usize>,
    live: Option<Live>,
    /// What the recording says of its tracks.
    tracks: Vec<Track>,
    recorded: bool,
}

impl Recording<'_> {
    /// Takes what came. False if nobody wants more.
    async fn take(&mut self, item: CodecItem, demuxed: &Demuxed) -> Result<bool> {
        let (stream, frame) = match item {
            CodecItem::VideoFrame(frame) => {
                let (stream, time, sync) =
                    (frame.stream_id(), frame.timestamp().elapsed(), frame.is_random_access_point());
                let changed = frame.has_new_parameters();
                if (changed || self.live.is_none()) && sync && !self.begin(demuxed).await? {
                    return Ok(false);
                }
                (stream, Frame { track: 0, time, duration: None, sync, data: Bytes::from(frame.into_data()) })
            }
            CodecItem::AudioFrame(frame) => {
                if self.live.is_none() && self.is_sound_alone(demuxed) && !self.begin(demuxed).await? {
                    return Ok(false);
                }
                let (time, duration) = (frame.timestamp().elapsed(), Some(frame.frame_length().get()));
                let data = Bytes::copy_from_slice(frame.data());
                (frame.stream_id(), Frame { track: 0, time, duration, sync: true, data })
            }
            _ => return Ok(true),
        };
        let Some(track) = self.chosen.iter().position(|chosen| *chosen == stream) else { return Ok(true) };
        let Some(live) = &mut self.live else { return Ok(true) };
        match live.push(Frame { track, ..frame }).map_err(broken)? {
            Some(fragment) => self.segment(fragment).await,
            None => Ok(true),
        }
    }

    fn is_sound_alone(&self, demuxed: &Demuxed) -> bool {
        self.chosen.iter().all(|index| demuxed.streams().get(*index).and_then(kind) == Some(TrackKind::Audio))
    }

    /// Begins a recording with what the camera says of its streams now, unless the one that runs says the same.
    async fn begin(&mut self, demuxed: &Demuxed) -> Result<bool> {
        let streams = self.chosen.iter().filter_map(|index| demuxed.streams().get(*index));
        let Some(tracks) = streams.map(track).collect::<Option<Vec<_>>>() else { return Ok(true) };
        if self.live.is_some() && tracks == self.tracks {
            return Ok(true);
        }
        if !self.end().await? {
            return Ok(false);
        }
        self.tracks.clone_from(&tracks);
        let live = Live::new(tracks).map_err(broken)?;
        let init = live.init().clone();
        self.live = Some(live);
        self.send(Item::Init { bytes: init.bytes, codecs: init.codecs }).await
    }

    /// Gives what is left of the recording.
    async fn end(&mut self) -> Result<bool> {
        let Some(mut live) = self.live.take() else { return Ok(true) };
        match live.flush().map_err(broken)? {
            Some(fragment) => self.segment(fragment).await,
            None => Ok(true),
        }
    }

    /// A fragment is a link's worth already; it does not wait for the next, because someone may be watching.
    async fn segment(&mut self, fragment: Fragment) -> Result<bool> {
        self.recorded = true;
        let Fragment { bytes, decode_time_us, duration_us, independent, .. } = fragment;
        self.send(Item::Segment(Segment { bytes, decode_time_us, duration_us, independent })).await
    }

    async fn send(&self, item: Item) -> Result<bool> {
        Ok(self.items.send(Ok(item)).await.is_ok())
    }
}

/// The track of a stream; `None` as long as the camera has not said what its decoder needs.
fn track(stream: &Stream) -> Option<Track> {
    let timescale = NonZeroU32::new(stream.clock_rate_hz())?;
    match stream.parameters()? {
        ParametersRef::Video(video) => {
            let (width, height) = video.pixel_dimensions();
            let size = (u16::try_from(width).ok()?, u16::try_from(height).ok()?);
            let mut entry = video.mp4_sample_entry();
            if let Some((across, down)) = video.pixel_aspect_ratio() {
                entry = entry.with_aspect_ratio((u16::try_from(across).ok()?, u16::try_from(down).ok()?));
            }
            Some(Track { kind: TrackKind::Video, timescale, entry: entry.build().ok()?, size })
        }
        ParametersRef::Audio(audio) => {
            let entry = audio.mp4_sample_entry().build().ok()?;
            Some(Track { kind: TrackKind::Audio, timescale, entry, size: (0, 0) })
        }
        ParametersRef::Message(_) => None,
    }
}

fn broken(error: media::Error) -> Error {
    let text = match error {
        media::Error::Malformed(what) => what.to_owned(),
        error => error.to_string(),
    };
    Error::new(Kind::Busy, text)
}
