//! Sources of footage: each becomes a bounded stream of [`Item`]s, links' worth of media that is not yet signed.
//!
//! A source runs on a thread of its own where files and pipes block, and stops reading when nobody takes its items. Sample
//! bytes are never changed; only [`Source::Loop`], the bundled clip, is moved in time.

mod file;
mod item;
mod sink;

use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::{Error, Kind, Result};
use crate::media::retime::Loop;
use crate::media::{self, Event};
use sink::Sink;

pub use item::{Ask, Item, Standing};

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
    /// Items made elsewhere, such as synthetic load. The source ends when the sender is dropped.
    Feed(mpsc::Receiver<Result<Item>>),
}

impl Source {
    /// Begins to read. An error is the last item.
    pub(super) fn open(self) -> mpsc::Receiver<Result<Item>> {
        let (items, receiver) = mpsc::channel(ITEMS_AHEAD);
        let read = move |run: &dyn Fn(&mut Sink<'_>) -> Result<()>| {
            if let Err(error) = run(&mut Sink::new(&items)) {
                let _ = items.blocking_send(Err(error));
            }
        };
        match self {
            Self::Feed(receiver) => return receiver,
            Self::File(path) => tokio::task::spawn_blocking(move || read(&|sink| file::read(&path, sink))),
            Self::Stdin => tokio::task::spawn_blocking(move || {
                read(&|sink| file::read_stream(&mut std::io::stdin().lock(), "standard input", sink));
            }),
            Self::Loop { clip, laps } => {
                tokio::task::spawn_blocking(move || read(&|sink| read_loop(&clip, laps, sink)))
            }
        };
        receiver
    }
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
