//! Destroying keys: with their day, or one of them before.
//!
//! A key that seals anything that is held is not destroyed. With its day that cannot come about, since what is held was moved away before;
//! it is looked all the same, right before. Before its day somebody asks for it, by name and with a reason, and what is held refuses it.

use aigaq_proto::{Micros, RecorderId};

use super::claims::Claims;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::store::records::{Act, AuditRecord, Body, Event, ExpiryRecord};

/// How often it is looked anew because something was held meanwhile.
const ATTEMPTS: usize = 8;

/// What went with a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Destroyed {
    /// Bodies.
    pub links: u64,
    /// Their length, bytes.
    pub bytes: u64,
    /// When the newest was captured.
    newest: Micros,
}

/// Destroys the key of a recorder and footage day before the day is over; writes down who wanted it and what became of it. The
/// links, their digests and their places in the log stay. Blocks.
///
/// # Errors
/// [`Kind::NotFound`] when nothing of the recorder expires on the day, [`Kind::Invalid`] when a hold covers any of it, and those of
/// the store.
pub fn destroy(store: &Store, recorder: RecorderId, day: u32, act: &Act) -> Result<Destroyed> {
    let entry = |text: String, outcome: &str| {
        let entry = AuditRecord::new(act.at, Event::KeyDestruction, &act.by, "local", text);
        entry.about(recorder.to_string()).because(&act.reason).ended(outcome)
    };
    for _ in 0..ATTEMPTS {
        let claims = store.claims();
        let what = under(store, recorder, day)?;
        if what.links == 0 {
            store.audit(&entry(format!("destroy the key of footage day {day}"), "refused: there is nothing"))?;
            let text = format!("nothing of {recorder} that could be read expires on day {day}");
            return Err(Error::new(Kind::NotFound, text));
        }
        let Destroyed { links, bytes, newest } = what;
        let text = format!("destroy the key of footage day {day}: {links} links, {bytes} bytes");
        if let Err(error) = refuse_held(store, day, Some(recorder)) {
            store.audit(&entry(text, "refused: held"))?;
            return Err(error);
        }
        let entry = entry(text, "destroyed");
        if store.destroy_key((day, recorder), newest, claims, act.clone(), &entry)? {
            return Ok(what);
        }
    }
    Err(Error::new(Kind::Busy, "holds are being placed; try again"))
}

/// What can still be read under a key.
fn under(store: &Store, recorder: RecorderId, day: u32) -> Result<Destroyed> {
    let mut what = Destroyed::default();
    for entry in store.expiring(day, Some(recorder)) {
        let entry = entry?;
        let ExpiryRecord::Kept { bytes, captured_at, .. } = entry.record else { continue };
        let body = store.stored(recorder, entry.owner)?;
        if matches!(body.body(), Body::Sealed(_)) && !store.is_destroyed(recorder, body.body()) {
            what.links += 1;
            what.bytes = what.bytes.saturating_add(u64::from(bytes));
            what.newest = what.newest.max(captured_at);
        }
    }
    Ok(what)
}

/// Whether nothing that expires on the day, of one recorder or of all, is held.
///
/// # Errors
/// [`Kind::Invalid`] with the number of the hold if something is, and those of the store.
pub(super) fn refuse_held(store: &Store, day: u32, recorder: Option<RecorderId>) -> Result<()> {
    let mut of: Option<(RecorderId, Claims)> = None;
    for entry in store.expiring(day, recorder) {
        let entry = entry?;
        let ExpiryRecord::Kept { .. } = entry.record else { continue };
        let recorder = entry.recorder;
        let claims = match &of {
            Some((last, claims)) if *last == recorder => claims,
            _ => &of.insert((recorder, Claims::holds(store, recorder, day)?)).1,
        };
        if claims.is_empty() {
            continue;
        }
        let stored = store.stored(recorder, entry.owner)?;
        if let Some(rule) = claims.keep(&stored, day).filter(|_| !store.is_destroyed(recorder, stored.body())) {
            let text = format!("the key of {recorder} for day {day} is not destroyed: {} covers what it seals", rule.1);
            return Err(Error::new(Kind::Invalid, text));
        }
    }
    Ok(())
}
