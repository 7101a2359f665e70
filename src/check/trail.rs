//! The audit trail: dense numbers, times that never run backwards, and for each entry the one leaf of the log that is its own.
//!
//! What the log does not have yet can only be the end of the trail: a crash may leave that. An entry that the log has and the trail
//! lacks was cut off or taken out.

use aigaq_proto::{Micros, statement};

use super::integrity::Told;
use super::tree::{Claim, Log};
use super::{Findings, Walk, place_of};
use crate::error::{Error, Kind, Result};
use crate::store::engine::{Entry, Family};
use crate::store::records::{self, AuditRecord, LeafRecord};
use crate::store::{Store, keys};

/// The families of the trail.
pub(super) const TRAIL: [Family; 2] = [Family::Audit, Family::Leaves];

/// How far the walk is.
struct Walked {
    next: u64,
    at: Micros,
    /// Index in the log of the last entry that has one.
    log_index: Option<u64>,
    /// The first entry that the log does not have.
    unlogged: Option<u64>,
    /// What it says of integrity checks.
    told: Told,
}

/// Walks the trail from end to end, and from the side of the log; returns what it says of integrity checks.
pub(super) fn check(store: &Store, log: &mut Log<'_>, findings: &mut Findings<'_>) -> Told {
    let mut walked = Walked { next: 1, at: 0, log_index: None, unlogged: None, told: Told::default() };
    let mut behind_hole = false;
    for entry in Walk::new(store.engine(), Family::Audit) {
        let Some(entry) = findings.read(entry) else {
            behind_hole = true;
            continue;
        };
        findings.report.audit_entries += 1;
        let place = place_of(Family::Audit, &entry.0);
        let goes_on = std::mem::take(&mut behind_hole);
        let read = one(store, log, findings, &entry, &mut walked, goes_on);
        findings.keep("audit", place, read);
    }
    let mut gone = Vec::new();
    for entry in Walk::new(store.engine(), Family::Leaves) {
        let Some((key, value)) = findings.read(entry) else { continue };
        let read =
            keys::read_audit(&key).and_then(|number| Ok((number, records::decode::<LeafRecord>(&value, "leaves")?)));
        let place = format!("the leaf of {}", place_of(Family::Audit, &key));
        let Some((number, leaf)) = findings.keep("audit", place, read) else { continue };
        if let Ok(None) = store.engine().get(Family::Audit, &keys::audit(number)) {
            gone.push((number, leaf.log_index));
        }
    }
    if findings.has_hole(&[Family::Audit]) {
        findings.not_checked("entries of the trail that the log has", gone.len() as u64);
        return walked.told;
    }
    for (number, log_index) in gone {
        findings.problem("audit", format!("audit entry {number} is gone; the log has it as entry {log_index}"));
    }
    walked.told
}

fn damaged(what: impl Into<String>) -> Error {
    Error::new(Kind::Damaged, what)
}

fn one(
    store: &Store,
    log: &mut Log<'_>,
    findings: &mut Findings<'_>,
    (key, value): &Entry,
    walked: &mut Walked,
    behind_hole: bool,
) -> Result<()> {
    let number = keys::read_audit(key)?;
    if number != walked.next && !behind_hole {
        let missing = format!("audit entries {} to {} are missing", walked.next, number.saturating_sub(1));
        findings.problem("audit", missing);
    }
    walked.next = number.saturating_add(1);
    let record: AuditRecord = records::decode(value, "audit")?;
    if record.number != number {
        return Err(damaged(format!("it says that it is entry {}", record.number)));
    }
    if record.at < walked.at {
        findings.problem("audit", format!("audit entry {number}: it is older than the one before"));
    }
    walked.at = record.at;
    walked.told.note(&record);
    let Ok(leaf) = store.audit_leaf(number) else {
        findings.not_checked("leaves of the trail", 1);
        return Ok(());
    };
    let Some(leaf) = leaf else {
        walked.unlogged.get_or_insert(number);
        return Ok(());
    };
    if let Some(unlogged) = walked.unlogged.take() {
        if findings.has_hole(&[Family::Leaves]) {
            findings.not_checked("leaves of the trail", number - unlogged);
        } else {
            let last = number - 1;
            findings
                .problem("audit", format!("audit entries {unlogged} to {last} are not in the log, and later ones are"));
        }
    }
    if walked.log_index.is_some_and(|before| before >= leaf.log_index) {
        findings.problem("audit", format!("audit entry {number}: the log has it before the one before"));
    }
    walked.log_index = Some(leaf.log_index);
    match log.claim(leaf.log_index, leaf.tree_size, &statement::digest(value), record.at) {
        Claim::Held => Ok(()),
        Claim::Unread => {
            findings.not_checked("leaves of the trail", 1);
            Ok(())
        }
        Claim::Wrong(why) => Err(damaged(why)),
    }
}
