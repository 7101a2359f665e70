//! A camera on the network, by RTSP: H.264 and H.265 pictures, AAC sound, over one TCP connection.
//!
//! A camera that is lost is looked for until it is back, with a delay that doubles; each time it begins another recording, and
//! the one before has ended with a fault, so that the hole between them is explained. So does a change of what it sends. Times are
//! those at which footage arrives here: a camera's own clock is nobody's witness.
//!
//! The password never leaves this room but to the camera, and only as the camera asks for it; no message and no `Debug` has it.

mod address;
mod session;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use aigaq_proto::link::StopCause;

use super::Item;
use crate::error::{Error, Kind, Result};
pub use address::Camera;
use session::Ended;

/// The first delay before a camera is looked for again, and the longest.
const DELAY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A camera that sent for so long is looked for again at once.
const STEADY: Duration = Duration::from_secs(30);

/// Records a camera until nobody wants more.
///
/// # Errors
/// [`Kind::Unauthorised`] or [`Kind::Invalid`] if the camera refuses or has nothing to record before it ever gave anything: what
/// was typed is then wrong.
pub(super) async fn watch(camera: Camera, items: mpsc::Sender<Result<Item>>) -> Result<()> {
    let mut delay = DELAY.0;
    let mut ever = false;
    loop {
        let began = Instant::now();
        let session = session::record(&camera, &items);
        let ended = tokio::select! {
            ended = session => ended,
            () = items.closed() => return Ok(()),
        };
        let Ended { recorded, error } = ended;
        ever |= recorded;
        if recorded && items.send(Ok(Item::End(StopCause::Fault))).await.is_err() {
            return Ok(());
        }
        if !ever && error.kind() != Kind::Busy {
            return Err(error);
        }
        if recorded && began.elapsed() >= STEADY {
            delay = DELAY.0;
        }
        if items.send(Ok(Item::Note(format!("{error}; trying again in {} ms", delay.as_millis())))).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = items.closed() => return Ok(()),
        }
        delay = (delay * 2).min(DELAY.1);
    }
}

/// A fault of this camera, in one line.
fn fault(kind: Kind, camera: &Camera, what: &str) -> Error {
    let line = what.lines().next().unwrap_or_default().trim();
    Error::new(kind, format!("camera {camera}: {line}"))
}
