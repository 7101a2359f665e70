//! Reads files and streams of MP4: fragmented ones as they come, ordinary ones by cutting them.
//!
//! An ordinary file must be one that can be read at any place: its index lies behind what it describes. A stream is
//! fragmented, or refused with the way to make it so.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use aigaq_proto::limits::PAYLOAD_BYTES_MAX;

use super::sink::Sink;
use crate::error::{Context, Error, Kind, Result};
use crate::media::remux::{Fault, Opened, Remux};
use crate::media::{self, Event, Fragmenter};

/// Bytes of a stream that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// Reads a file to its end, or until nobody wants more.
///
/// # Errors
/// [`Kind::Invalid`] with the name of the file if it cannot be read or is not what it should be.
pub(super) fn read(path: &Path, sink: &mut Sink<'_>) -> Result<()> {
    let name = path.display().to_string();
    let mut file = File::open(path).context(Kind::Invalid, format!("cannot read {name}"))?;
    let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !regular {
        return read_stream(&mut file, &name, sink);
    }
    match Remux::open(file).map_err(|fault| broken(&name, fault))? {
        Opened::Plain(remux) => read_plain(remux, &name, sink),
        Opened::Fragmented(mut file) => {
            file.seek(SeekFrom::Start(0)).context(Kind::Invalid, format!("cannot read {name}"))?;
            read_stream(&mut file, &name, sink)
        }
    }
}

/// Reads a stream of fragmented MP4 to its end, or until nobody wants more. `name` is for messages.
///
/// # Errors
/// [`Kind::Invalid`] if it cannot be read or is not what it should be; what came before is given.
pub(super) fn read_stream(input: &mut dyn Read, name: &str, sink: &mut Sink<'_>) -> Result<()> {
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
    let broken = |error: media::Error| broken(name, error.into());
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

fn read_plain(mut remux: Remux<File>, name: &str, sink: &mut Sink<'_>) -> Result<()> {
    for note in remux.notes() {
        sink.note(format!("{name}: {note}"));
    }
    let result = cut(&mut remux, name, sink);
    sink.flush();
    result
}

fn cut(remux: &mut Remux<File>, name: &str, sink: &mut Sink<'_>) -> Result<()> {
    let mut event = Some(Event::Init(remux.init().clone()));
    while let Some(next) = event {
        if !sink.event(next).map_err(|error| broken(name, error.into()))? {
            return Ok(());
        }
        event = remux.next_fragment().map_err(|fault| broken(name, fault))?.map(Event::Fragment);
    }
    Ok(())
}

fn broken(name: &str, fault: Fault) -> Error {
    Error::new(Kind::Invalid, format!("{name}: {fault}"))
}
