//! The footage: every body once, in the order of its places, against the link that owns it; what is sealed is opened. A key that is
//! missing or does not open is one problem of its recorder and day, and not one of each body.

use std::collections::BTreeSet;

use aigaq_proto::{Digest, RecorderId};
use bytes::Bytes;

use super::chains::CHAIN;
use super::{Findings, UNREAD};
use crate::error::Error;
use crate::store::Store;
use crate::store::records::{Body, FootageKey, Owner};

/// A body that must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owned {
    /// Where.
    pub(super) key: FootageKey,
    /// With this digest.
    pub(super) digest: Digest,
    /// Because of this link.
    pub(super) owner: (RecorderId, Owner),
    /// Whether it is sealed.
    pub(super) is_sealed: bool,
}

impl Owned {
    pub(super) fn place(&self) -> String {
        match self.owner {
            (recorder, Owner::Link(sequence) | Owner::Fork(sequence, _)) => format!("{recorder}/{sequence}"),
            (recorder, Owner::Quarantined(..)) => format!("{recorder} quarantine"),
        }
    }

    fn check(&self, body: Bytes, opening: &mut Opening<'_>, findings: &mut Findings<'_>) {
        let body_of = (self.owner.0, Body::Sealed(self.key));
        if self.is_sealed && opening.store.is_destroyed(body_of.0, &body_of.1) {
            findings.report.destroyed += 1;
            return;
        }
        findings.report.bodies += 1;
        findings.report.body_bytes += body.len() as u64;
        let Some(body) = opening.open(self, body, findings) else { return };
        if Digest::of(&body) != self.digest {
            findings.problem("footage", format!("{}: the body has not the digest that its header says", self.place()));
        }
    }
}

/// Opens what is sealed, and knows what it has no keys for.
struct Opening<'a> {
    store: &'a Store,
    /// Whose keys are a problem already, by day.
    keyless: BTreeSet<(u32, RecorderId)>,
}

impl Opening<'_> {
    fn open(&mut self, owned: &Owned, body: Bytes, findings: &mut Findings<'_>) -> Option<Bytes> {
        if !owned.is_sealed {
            return Some(body);
        }
        if !self.store.has_keys() {
            findings.report.unopened += 1;
            return None;
        }
        let of = (owned.key.day, owned.owner.0);
        if self.keyless.contains(&of) {
            findings.not_checked("sealed bodies", 1);
            return None;
        }
        let error = match self.store.open_body(owned.owner.0, owned.key, owned.digest, &body) {
            Ok(body) => return Some(body),
            Err(error) => error,
        };
        match self.store.has_key(of.0, of.1) {
            Ok(true) => findings.problem("footage", format!("{}: {error}", owned.place())),
            Ok(false) | Err(_) => {
                self.keyless.insert(of);
                findings.problem("keys", format!("{} and whatever else has this key: {error}", owned.place()));
            }
        }
        None
    }
}

/// Walks all footage. `owned` may come in any order; `moved` are copies without an owner.
pub(super) fn check(store: &Store, mut owned: Vec<Owned>, moved: &BTreeSet<FootageKey>, findings: &mut Findings<'_>) {
    let floor = store.dropped_floor();
    owned.sort_unstable();
    let hidden = owned.iter().filter(|owned| (floor..store.footage_floor()).contains(&owned.key.day)).count();
    findings.report.hidden = hidden as u64;
    for pair in owned.windows(2) {
        if let [a, b] = pair
            && a.key == b.key
        {
            findings.problem("footage", format!("{} and {}: they claim the same body", a.place(), b.place()));
        }
    }
    let mut opening = Opening { store, keyless: BTreeSet::new() };
    let is_complete = !findings.has_hole(&CHAIN);
    let mut expected = owned.iter().peekable();
    let mut unread = None;
    for entry in store.engine().bodies() {
        let (key, body) = match entry {
            Ok(entry) => entry,
            Err(error) => {
                unread = Some(error);
                break;
            }
        };
        while let Some(missing) = expected.next_if(|owned| owned.key < key) {
            absent(missing, floor, findings);
        }
        match expected.next_if(|owned| owned.key == key) {
            Some(owned) => owned.check(body, &mut opening, findings),
            None if key.commit > store.last_commit() => findings.report.unfinished += 1,
            None if key.day < floor => {}
            None if moved.contains(&key) => findings.report.moved += 1,
            None if is_complete => findings.problem(
                "footage",
                format!(
                    "footage: the body {} of commit {} that expires on day {} has no owner",
                    key.index, key.commit, key.day
                ),
            ),
            None => findings.not_checked("bodies", 1),
        }
    }
    match unread {
        None => expected.for_each(|owned| absent(owned, floor, findings)),
        Some(error) => one_by_one(&mut opening, expected, &error, findings),
    }
}

/// Neighbours that do not read.
struct Run<'a> {
    first: &'a Owned,
    last: &'a Owned,
    count: u64,
    error: Error,
}

/// Reads the rest by its keys, behind a body that does not read. Neighbours that do not read are one problem.
fn one_by_one<'a>(
    opening: &mut Opening<'_>,
    expected: impl Iterator<Item = &'a Owned>,
    error: &Error,
    findings: &mut Findings<'_>,
) {
    let before = findings.report.problems;
    let (store, floor) = (opening.store, opening.store.dropped_floor());
    let mut run: Option<Run<'_>> = None;
    for owned in expected {
        let read = store.engine().body(owned.key);
        if let Err(error) = read {
            match &mut run {
                Some(run) => (run.last, run.count) = (owned, run.count + 1),
                None => run = Some(Run { first: owned, last: owned, count: 1, error }),
            }
            continue;
        }
        end(run.take(), findings);
        match read {
            Ok(Some(body)) => owned.check(body, opening, findings),
            _ => absent(owned, floor, findings),
        }
    }
    end(run, findings);
    if findings.report.problems == before {
        findings.problem(UNREAD, format!("footage: {error}"));
    }
}

fn end(run: Option<Run<'_>>, findings: &mut Findings<'_>) {
    let Some(Run { first, last, count, error }) = run else { return };
    let line = match count {
        1 => format!("{}: its body does not read: {error}", first.place()),
        _ => format!("{} to {}: {count} bodies do not read: {error}", first.place(), last.place()),
    };
    findings.problem(UNREAD, line);
}

fn absent(owned: &Owned, floor: u32, findings: &mut Findings<'_>) {
    if owned.key.day < floor {
        findings.report.expired += 1;
    } else {
        findings.problem("footage", format!("{}: its body is missing", owned.place()));
    }
}
