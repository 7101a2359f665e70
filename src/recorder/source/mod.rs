//! Sources of footage: each becomes a bounded stream of [`Item`]s, links' worth of media that is not yet signed.
//!
//! A source runs on a thread of its own, because files and pipes block, and stops reading when nobody takes its items.
//! What it gives are the bytes that it read; only [`Source::Loop`], the bundled clip, is moved in time.

mod item;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::mpsc;

use aigaq_proto::limits::PAYLOAD_BYTES_MAX;

use crate::error::{Context, Error, Kind, Result};
use crate::media::retime::Loop;
use crate::media::{self, Cutter, Event, Fragmenter};

pub use item::{Ask, Item, Standing};

/// The bundled clip: fragmented MP4, twelve seconds, made to loop.
pub const CLIP: &[u8] = include_bytes!("../../../deploy/clip/clip.mp4");

/// Items that are read ahead of the recorder.
const ITEMS_AHEAD: usize = 2;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// Where footage comes from.
#[derive(Debug)]
pub enum Source {
    /// A file of fragmented MP4.
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
            if let Err(error) = run(&mut Sink { items: &items, cutter: Cutter::new(PAYLOAD_BYTES_MAX) }) {
                let _ = items.blocking_send(Err(error));
            }
        };
        match self {
            Self::Feed(receiver) => return receiver,
            Self::File(path) => tokio::task::spawn_blocking(move || {
                read(&|sink| {
                    let name = path.display().to_string();
                    let mut file = File::open(&path).context(Kind::Invalid, format!("cannot read {name}"))?;
                    read_stream(&mut file, &name, sink)
                });
            }),
            Self::Stdin => tokio::task::spawn_blocking(move || {
                read(&|sink| read_stream(&mut std::io::stdin().lock(), "standard input", sink));
            }),
            Self::Loop { clip, laps } => {
                tokio::task::spawn_blocking(move || read(&|sink| read_loop(&clip, laps, sink)))
            }
        };
        receiver
    }
}

/// Where the media of a source goes: through the cutter to the recorder.
struct Sink<'a> {
    items: &'a mpsc::Sender<Result<Item>>,
    cutter: Cutter,
}

impl Sink<'_> {
    /// Takes an event; false when nobody wants more.
    fn event(&mut self, event: Event) -> Result<bool, media::Error> {
        Ok(match event {
            Event::Init(init) => self.flush() && self.send(Item::Init { bytes: init.bytes, codecs: init.codecs }),
            Event::Fragment(fragment) => match self.cutter.push(fragment)? {
                Some(segment) => self.send(Item::Segment(segment)),
                None => true,
            },
        })
    }

    fn flush(&mut self) -> bool {
        match self.cutter.flush() {
            Some(segment) => self.send(Item::Segment(segment)),
            None => true,
        }
    }

    fn send(&self, item: Item) -> bool {
        self.items.blocking_send(Ok(item)).is_ok()
    }
}

fn read_stream(input: &mut dyn Read, name: &str, sink: &mut Sink<'_>) -> Result<()> {
    let mut fragmenter = Fragmenter::new(u64::from(PAYLOAD_BYTES_MAX));
    let mut buffer = vec![0; READ_BYTES];
    let result = pump(input, name, &mut fragmenter, &mut buffer, sink);
    sink.flush();
    result
}

/// Reads to the end, to a fault, or until nobody wants more.
fn pump(
    input: &mut dyn Read,
    name: &str,
    fragmenter: &mut Fragmenter,
    buffer: &mut [u8],
    sink: &mut Sink<'_>,
) -> Result<()> {
    let broken = |error: media::Error| Error::new(Kind::Invalid, format!("{name}: {error}"));
    loop {
        let read = match input.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.context(Kind::Invalid, format!("cannot read {name}"))?,
        };
        match buffer.get(..read) {
            Some(bytes) if !bytes.is_empty() => fragmenter.push(bytes),
            _ => fragmenter.end(),
        }
        while let Some(event) = fragmenter.poll().map_err(broken)? {
            if !sink.event(event).map_err(broken)? {
                return Ok(());
            }
        }
        if read == 0 {
            return Ok(());
        }
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
