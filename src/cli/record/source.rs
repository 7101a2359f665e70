//! What SOURCE on the command line means: a film, a folder, a camera, or a pipe.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::recorder::{Camera, Folder, Pace, Source};

/// User and password of a camera whose address has none: on a command line everyone on the machine can read them.
const USER: &str = "AIGAQ_CAMERA_USER";
const PASSWORD: &str = "AIGAQ_CAMERA_PASSWORD";

/// The source that was named; what a folder has to remember goes to `state`.
///
/// # Errors
/// [`Kind::Invalid`] with one line about what is wrong with it.
pub(super) fn source(named: PathBuf, state: &Path, once: bool) -> Result<Source> {
    let invalid = |text: String| Err(Error::new(Kind::Invalid, text));
    let address = named.to_str().filter(|named| named.contains("://"));
    let source = if let Some(address) = address {
        if !address.starts_with("rtsp://") {
            return invalid("of addresses only those of cameras can be recorded: rtsp://HOST/PATH".to_owned());
        }
        Source::Camera(Camera::parse(address, std::env::var(USER).ok(), std::env::var(PASSWORD).ok())?)
    } else if named.as_os_str() == "-" {
        if std::io::stdin().is_terminal() {
            return invalid("standard input is a terminal: pipe a fragmented MP4 into it".to_owned());
        }
        Source::Stdin
    } else if named.is_dir() {
        return Ok(Source::Folder(Folder { path: named, state: state.to_owned(), once }));
    } else {
        Source::File(named)
    };
    if once { invalid("--once is for a folder".to_owned()) } else { Ok(source) }
}

/// How fast a source is read: a camera as it sends, a folder as fast as it goes, a film as was said.
///
/// # Errors
/// [`Kind::Invalid`] if a time was given to a source that has its own.
pub(super) fn pace(source: Option<&Source>, fast: bool, start: bool) -> Result<Pace> {
    let own = matches!(source, Some(Source::Folder(_) | Source::Camera(_)));
    if own && start {
        return Err(Error::new(Kind::Invalid, "--start is for one film; folders and cameras have their own times"));
    }
    let fast = matches!(source, Some(Source::Folder(_))) || (fast && !source.is_some_and(Source::is_live));
    Ok(if fast { Pace::Fast } else { Pace::RealTime })
}
