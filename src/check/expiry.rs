//! What expires when, from both sides: every body in the footage is said to expire on its day, and what is said to expire is
//! the body of a link, or a copy that was left behind when the body was moved.
//!
//! What is said of days that are gone does not count: a crash may leave it, and the next start takes it away.

use std::collections::BTreeSet;

use super::chains::CHAIN;
use super::footage::Owned;
use super::{Findings, Walk, place_of};
use crate::error::{Error, Kind, Result};
use crate::store::engine::{Entry, Family};
use crate::store::records::{self, ExpiryRecord, FootageKey};
use crate::store::{Store, keys};

/// Compares them; returns the copies that nobody owns any more.
pub(super) fn check(store: &Store, owned: &[Owned], findings: &mut Findings<'_>) -> BTreeSet<FootageKey> {
    let floor = store.dropped_floor();
    let (mut kept, mut moved) = (0_u64, BTreeSet::new());
    for entry in Walk::new(store.engine(), Family::Expiry) {
        let Some(entry) = findings.read(entry) else { continue };
        let place = place_of(Family::Expiry, &entry.0);
        let taken = said(&entry, floor, &mut moved);
        kept += u64::from(findings.keep("expiry", place, taken).unwrap_or_default());
    }
    let mut lacking = 0_u64;
    for body in owned.iter().filter(|body| body.key.day >= floor) {
        match store.engine().get(Family::Expiry, &keys::expiry(body.key.day, body.owner.0, body.owner.1)) {
            Ok(Some(value)) if is_kept(&value) => {}
            Ok(_) => {
                lacking += 1;
                let day = body.key.day;
                findings.problem("expiry", format!("{}: nothing says that it expires on day {day}", body.place()));
            }
            Err(_) => findings.not_checked("entries of expiry", 1),
        }
    }
    let expected = owned.iter().filter(|body| body.key.day >= floor).count() as u64 - lacking;
    if findings.has_hole(&CHAIN) || findings.has_hole(&[Family::Expiry]) {
        findings.not_checked("count of expiry", 1);
    } else if kept != expected {
        findings.problem("expiry", format!("expiry: it has {kept} bodies for {expected} in the footage"));
    }
    moved
}

fn is_kept(value: &[u8]) -> bool {
    // One that does not decode was a problem already.
    !matches!(records::decode(value, "expiry"), Ok(ExpiryRecord::Moved { .. }))
}

/// Whether the entry speaks of a body that must be there.
fn said((key, value): &Entry, floor: u32, moved: &mut BTreeSet<FootageKey>) -> Result<bool> {
    let (day, ..) = keys::read_expiry(key)?;
    let record: ExpiryRecord = records::decode(value, "expiry")?;
    match record {
        _ if day < floor => Ok(false),
        ExpiryRecord::Kept { .. } => Ok(true),
        ExpiryRecord::Moved { from } if from.day == day => {
            moved.insert(from);
            Ok(false)
        }
        ExpiryRecord::Moved { .. } => Err(Error::new(Kind::Damaged, "it names a copy of another day")),
    }
}
