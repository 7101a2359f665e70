//! Sources of footage: each becomes a bounded stream of [`Item`]s, links' worth of media that is not yet signed.
//!
//! A source runs on a thread of its own where files and pipes block, and stops reading when nobody takes its items. Sample
//! bytes are never changed; only [`Source::Loop`], the bundled clip, is moved in time.

mod file;
mod folder;
mod item;
mod rtsp;
mod sink;

use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::error::{Context, Error, Kind, Result};
use crate::media::retime::Loop;
use crate::media::{self, Event};
use sink::Sink;

pub use folder::Folder;
pub use item::{Ask, Fate, Item, Standing};
pub use rtsp::Camera;

/// The bundled clip: fragmented MP4, twelve seconds, made to loop.
pub const CLIP: &[u8] = include_bytes!("../../../deploy/clip/clip.mp4");

/// Items that are read ahead of the recorder.
const ITEMS_AHEAD: usize = 2;

/// Where footage comes from.
#[derive(Debug)]
pub enum Source {
    /// A file of MP4 or QuickTime, fragmented or ordinary.
    File(PathBuf),
    /// Fragmented MP4 on standard input.
    Stdin,
    /// A fragmented MP4 in memory, over and over as one continuous recording, until `laps` are done or recording stops.
    Loop {
        /// The file.
        clip: Bytes,
        /// How often; `None` is for ever.
        laps: Option<u64>,
    },
    /// Films in a folder, each at its own time, removed when they are received.
    Folder(Folder),
    /// A camera on the network.
    Camera(Camera),
    /// Items made elsewhere, such as synthetic load. The source ends when the sender is dropped.
    Feed(mpsc::Receiver<Result<Item>>),
}

impl Source {
    /// Whether what it gives happens now, so that it cannot wait.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Camera(_))
    }

    /// Begins to read. An error is the last item. `clock` tells what time of a film can be true.
    pub(super) fn open(self, clock: &Clock) -> mpsc::Receiver<Result<Item>> {
        match self {
            Self::Feed(receiver) => receiver,
            Self::Folder(folder) => spawn(|items| tokio::spawn(folder::watch(folder, clock.clone(), items))),
            Self::Camera(camera) => spawn(|items| tokio::spawn(rtsp::watch(camera, items))),
            Self::File(path) => read(move |sink| file::read(&path, sink)),
            Self::Stdin => read(|sink| file::read_stream(&mut std::io::stdin().lock(), "standard input", sink)),
            Self::Loop { clip, laps } => read(move |sink| read_loop(&clip, laps, sink)),
        }
    }
}

/// Runs a source that blocks.
fn read(run: impl FnOnce(&mut Sink<'_>) -> Result<()> + Send + 'static) -> mpsc::Receiver<Result<Item>> {
    spawn(|items| tokio::task::spawn_blocking(move || run(&mut Sink::new(&items))))
}

/// Runs a source; an error is its last item, and so is that it died: it never looks as if it had come to its end.
fn spawn(run: impl FnOnce(mpsc::Sender<Result<Item>>) -> JoinHandle<Result<()>>) -> mpsc::Receiver<Result<Item>> {
    let (items, receiver) = mpsc::channel(ITEMS_AHEAD);
    let running = run(items.clone());
    tokio::spawn(async move {
        let ended = running.await.context(Kind::Internal, "reading the source died").and_then(|ended| ended);
        if let Err(error) = ended {
            let _ = items.send(Err(error)).await;
        }
    });
    receiver
}

fn read_loop(clip: &[u8], laps: Option<u64>, sink: &mut Sink<'_>) -> Result<()> {
    let broken = |error: media::Error| Error::new(Kind::Invalid, format!("the clip cannot loop: {error}"));
    let clip = Loop::read(clip).map_err(broken)?;
    let end = laps.map_or(u64::MAX, |laps| laps.saturating_mul(clip.fragments_per_lap()));
    let mut wanted = sink.event(Event::Init(clip.init().clone())).map_err(broken)?;
    let mut number = 0;
    while wanted && number < end {
        let fragment = clip.fragment(number).map_err(broken)?;
        wanted = sink.event(Event::Fragment(fragment)).map_err(broken)?;
        number += 1;
    }
    sink.flush();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_that_dies_does_not_look_as_if_it_had_come_to_its_end() {
        let mut items = read(|_| panic!("a fault in a parser"));
        assert_eq!(items.recv().await.unwrap().unwrap_err().kind(), Kind::Internal);
        assert!(items.recv().await.is_none());
        assert!(read(|_| Ok(())).recv().await.is_none(), "one that is read to its end gives nothing more");
    }
}
