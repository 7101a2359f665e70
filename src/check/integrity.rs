//! Integrity checks: each case, draw and check is what its audit entries say, and none that they speak of is gone.
//!
//! What a check was made as and what was scored are digests in the trail, which the log has. An entry of a check that was made before they
//! were carries none: then nothing can be held against it.

use std::collections::{BTreeMap, BTreeSet};

use aigaq_proto::Digest;

use super::trail::TRAIL;
use super::tree::Log;
use super::{Findings, place_of, walk};
use crate::error::{Error, Kind, Result};
use crate::integrity::case::Case;
use crate::integrity::check::{self as judging, State};
use crate::integrity::{draw as drawing, said};
use crate::store::engine::Family;
use crate::store::records::{self, AuditRecord, CaseRecord, CheckId, CheckRecord, DrawRecord, Event};
use crate::store::{Store, keys};

/// How the action of an entry begins by which a check is made.
const MAKES: &str = "make check ";

/// What the trail says of each draw and check, by its name: the digests in its entries.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<CheckId, BTreeSet<Digest>>);

impl Told {
    /// Takes an entry of the trail in.
    pub(super) fn note(&mut self, entry: &AuditRecord) {
        let is_of_one = entry.event == Event::Check && (entry.content.is_some() || entry.action.starts_with(MAKES));
        let name = data_encoding::HEXLOWER.decode(entry.object.as_bytes()).ok();
        let name = name.and_then(|name| name.try_into().ok()).filter(|_| is_of_one);
        if let Some(name) = name {
            // What was made without a digest has that of nothing.
            self.0.entry(CheckId(name)).or_default().insert(entry.content.unwrap_or(Digest::ZERO));
        }
    }
}

pub(super) fn check(store: &Store, log: &Log<'_>, mut told: Told, findings: &mut Findings<'_>) {
    let is_whole = !findings.has_hole(&TRAIL);
    cases(store, findings);
    for (key, value) in walk(store, Family::Draws, findings) {
        let read = keys::read_check(&key).and_then(|id| {
            told.0.remove(&id);
            let record: DrawRecord = records::decode(&value, "draws")?;
            if is_whole { draw(store, log, &record) } else { Ok(()) }
        });
        findings.keep("draws", place_of(Family::Draws, &key), read);
    }
    for (key, value) in walk(store, Family::Checks, findings) {
        let read = keys::read_check(&key).and_then(|id| {
            let said = told.0.remove(&id).unwrap_or_default();
            let record: CheckRecord = records::decode(&value, "checks")?;
            if is_whole { one(store, &record, &said) } else { Ok(()) }
        });
        findings.keep("checks", place_of(Family::Checks, &key), read);
    }
    let unread = findings.has_hole(&[Family::Draws, Family::Checks]);
    if !is_whole || unread {
        findings.not_checked("draws and checks against the trail", 1);
    }
    if !unread {
        for id in told.0.keys() {
            let name = place_of(Family::Checks, &id.0);
            findings.problem("checks", format!("{name}: the trail has it, and it is gone"));
        }
    }
}

fn differs() -> Error {
    Error::new(Kind::Damaged, "it is not what its audit entries say")
}

/// Each version of a case is what its name and its audit entry say.
fn cases(store: &Store, findings: &mut Findings<'_>) {
    for (key, value) in walk(store, Family::Cases, findings) {
        let read = keys::read_case(&key).and_then(|digest| {
            let record: CaseRecord = records::decode(&value, "cases")?;
            let is_same = Digest::of(record.canonical.as_bytes()) == digest;
            let damaged = || Error::new(Kind::Damaged, "it is not what its name and its audit entry say");
            if is_same && content(store, record.entry)? == Some(digest) { Ok(()) } else { Err(damaged()) }
        });
        findings.keep("cases", place_of(Family::Cases, &key), read);
    }
}

/// The digest in an entry of the trail.
fn content(store: &Store, entry: u64) -> Result<Option<Digest>> {
    let entry = store.audit_entry(entry)?;
    let entry = entry.map(|(stored, _)| records::decode::<AuditRecord>(&stored, "audit")).transpose()?;
    Ok(entry.and_then(|entry| entry.content))
}

/// A draw is what was committed to, and drew whom its seed and the log draw.
fn draw(store: &Store, log: &Log<'_>, record: &DrawRecord) -> Result<()> {
    if content(store, record.entry)? != Some(said::committed(record)?) {
        return Err(differs());
    }
    let Some(revealed) = &record.revealed else { return Ok(()) };
    let leaf = store.audit_leaf(record.entry)?;
    let is_drawn = Digest::of(&revealed.seed.0) == record.seed_digest
        && leaf.is_some_and(|leaf| leaf.tree_size == revealed.tree_size)
        && log.root(revealed.tree_size)? == revealed.root
        && drawing::draw(revealed.seed, &record.roster, revealed.root, record.count) == revealed.drawn;
    if is_drawn { Ok(()) } else { Err(Error::new(Kind::Damaged, "its seed and the log draw others")) }
}

/// A check is what was made, with every sheet that was scored and no other, and closed by the one that left nothing to decide.
fn one(store: &Store, record: &CheckRecord, said: &BTreeSet<Digest>) -> Result<()> {
    if said.contains(&Digest::ZERO) {
        return Ok(());
    }
    let mut stored = BTreeSet::from([said::made(record)?]);
    for sheet in &record.sheets {
        stored.insert(said::scored(record.id, sheet)?);
    }
    let case = store.case(record.case)?.ok_or_else(|| Error::new(Kind::Damaged, "its case is gone"))?;
    let is_closed = judging::state(&Case::read(&case.canonical)?, record) == State::Closed;
    let closed_at = record.sheets.last().map(|sheet| sheet.at).filter(|_| is_closed);
    if stored == *said && record.closed_at == closed_at { Ok(()) } else { Err(differs()) }
}
