//! Destroying keys: with their day, or one of them before.
//!
//! A key that seals anything that is held is not destroyed. With its day that cannot come about, since what is held was moved away before;
//! it is looked all the same, right before. Before its day somebody asks for it, by name and with a reason, another person confirms, and what is
//! held refuses it.

use aigaq_proto::{Micros, RecorderId};

use super::claims::Claims;
use crate::error::{Error, Kind, Result};
use crate::store::records::{Act, AuditRecord, Body, Event, ExpiryRecord};
use crate::store::{Store, Wished};

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

/// What became of the wish to destroy a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is destroyed.
    Destroyed(Destroyed),
    /// Nobody has asked for it, or what was asked for is over.
    NotAsked,
    /// This one asked for it; another person has to confirm.
    SamePerson,
}

/// Asks that the key of a recorder and footage day be destroyed before the day is over, and writes that down. Blocks.
///
/// # Errors
/// [`Kind::NotFound`] when nothing of the recorder expires on the day, and those of the store.
pub fn ask(store: &Store, recorder: RecorderId, day: u32, act: Act, source: &str) -> Result<Wished> {
    if under(store, recorder, day)?.links == 0 {
        return Err(nothing(recorder, day));
    }
    let entry = entry(recorder, &act, source, format!("ask for the destruction of the key of footage day {day}"));
    store.ask_destruction((day, recorder), act, &entry.ended("asked"))
}

/// Takes back what was asked for, and writes that down. Blocks.
///
/// # Errors
/// Those of the store.
pub fn withdraw(store: &Store, recorder: RecorderId, day: u32, act: Act, source: &str) -> Result<Wished> {
    let text = format!("take back the wish to destroy the key of footage day {day}");
    let entry = entry(recorder, &act, source, text);
    store.withdraw_destruction((day, recorder), act, &entry.ended("withdrawn"))
}

fn nothing(recorder: RecorderId, day: u32) -> Error {
    Error::new(Kind::NotFound, format!("nothing of {recorder} that could be read expires on day {day}"))
}

fn entry(recorder: RecorderId, act: &Act, source: &str, text: String) -> AuditRecord {
    let entry = AuditRecord::new(act.at, Event::KeyDestruction, &act.by, source, text);
    entry.about(recorder.to_string()).because(&act.reason)
}

/// Destroys the key of a recorder and footage day before the day is over, as another person than the one who asked for it; writes down who
/// wanted it and what became of it. The links, their digests and their places in the log stay. Blocks.
///
/// # Errors
/// [`Kind::NotFound`] when nothing of the recorder expires on the day, [`Kind::Invalid`] when a hold covers any of it, and those of
/// the store.
pub fn destroy(store: &Store, recorder: RecorderId, day: u32, act: &Act, source: &str) -> Result<Outcome> {
    let entry = |text: String, outcome: &str| entry(recorder, act, source, text).ended(outcome);
    for _ in 0..ATTEMPTS {
        let claims = store.claims();
        let what = under(store, recorder, day)?;
        if what.links == 0 {
            store.audit(&entry(format!("destroy the key of footage day {day}"), "refused: there is nothing"))?;
            return Err(nothing(recorder, day));
        }
        let refused = match store.wish(day, recorder)?.filter(|wish| wish.ended.is_none()) {
            None => Some((Outcome::NotAsked, "refused: nobody has asked for it")),
            Some(wish) if wish.asked.by == act.by => {
                Some((Outcome::SamePerson, "refused: the same person asked for it"))
            }
            Some(_) => None,
        };
        if let Some((outcome, why)) = refused {
            store.audit(&entry(format!("destroy the key of footage day {day}"), why))?;
            return Ok(outcome);
        }
        let Destroyed { links, bytes, newest } = what;
        let text = format!("destroy the key of footage day {day}: {links} links, {bytes} bytes");
        if let Err(error) = refuse_held(store, day, Some(recorder)) {
            store.audit(&entry(text, "refused: held"))?;
            return Err(error);
        }
        let entry = entry(text, "destroyed");
        if store.destroy_key((day, recorder), newest, claims, act.clone(), &entry)? {
            return Ok(Outcome::Destroyed(what));
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
