//! The footage: every body once, in the order of the keys, against the link that owns it.

use std::collections::BTreeSet;

use aigaq_proto::{Digest, RecorderId};
use bytes::Bytes;

use super::chains::CHAIN;
use super::{Findings, UNREAD};
use crate::error::Error;
use crate::store::Store;
use crate::store::records::{FootageKey, Owner};

/// A body that must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owned {
    /// Where.
    pub(super) key: FootageKey,
    /// With this digest.
    pub(super) digest: Digest,
    /// Because of this link.
    pub(super) owner: (RecorderId, Owner),
}

impl Owned {
    pub(super) fn place(&self) -> String {
        match self.owner {
            (recorder, Owner::Link(sequence) | Owner::Fork(sequence, _)) => format!("{recorder}/{sequence}"),
            (recorder, Owner::Quarantined(..)) => format!("{recorder} quarantine"),
        }
    }

    fn check(&self, body: &Bytes, findings: &mut Findings<'_>) {
        findings.report.bodies += 1;
        findings.report.body_bytes += body.len() as u64;
        if Digest::of(body) != self.digest {
            findings.problem("footage", format!("{}: the body has not the digest that its header says", self.place()));
        }
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
            Some(owned) => owned.check(&body, findings),
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
        Some(error) => one_by_one(store, expected, &error, findings),
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
    store: &Store,
    expected: impl Iterator<Item = &'a Owned>,
    error: &Error,
    findings: &mut Findings<'_>,
) {
    let before = findings.report.problems;
    let floor = store.dropped_floor();
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
            Ok(Some(body)) => owned.check(&body, findings),
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
