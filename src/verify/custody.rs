//! `custody.jsonl`: each entry as its bytes say it, proven in the log, in order, about the recorders of the bundle; and the statements
//! among them that say which footage was deleted.
//!
//! What has no proof yet comes last: the trail goes into the log in its order. What is left out altogether nobody can see from here.

use std::collections::{BTreeMap, BTreeSet};

use aigaq_proto::{RecorderId, Sequence, receipt, statement};

use super::chain::Tree;
use super::files::Files;
use super::hashing::Hasher;
use super::lines::Lines;
use super::report::{CustodyReport, Fault};
use super::source::Source;
use crate::bundle::about::{self, Custody as Line};
use crate::bundle::deletion::Deletion;
use crate::bundle::entry::Entry;
use crate::bundle::{self, CUSTODY_MAX};
use crate::error::Result;

/// Most statements of deletions that are remembered: one a recorder, day and rule is usual.
const STATEMENTS_MAX: usize = 65_536;

/// What the trail of a bundle says.
#[derive(Default)]
pub(super) struct Custody {
    pub(super) report: CustodyReport,
    /// Proven statements of deletions by their index in the log.
    statements: BTreeMap<u64, Deletion>,
    /// Whether the file is at fault, or has more than is remembered: then nobody else is blamed for what it lacks.
    unclear: bool,
}

impl Custody {
    /// Whether the log has the statement with this index, and it speaks of this link; `None` for what is no link of the chain.
    pub(super) fn states(&self, index: Option<u64>, recorder: RecorderId, sequence: Option<Sequence>) -> Stated {
        match index.map(|index| self.statements.get(&index)) {
            Some(Some(statement)) if statement.covers(recorder, sequence) => Stated::Yes,
            Some(_) if self.unclear => Stated::Yes,
            Some(_) => Stated::Otherwise,
            None => Stated::No,
        }
    }
}

/// What a statement says of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stated {
    /// That it was deleted.
    Yes,
    /// None was named.
    No,
    /// The one that was named says something else, or is not there.
    Otherwise,
}

/// Goes through the entries; blocks.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for lines without an end, and those of reading.
pub(super) fn check(
    source: &Source,
    hasher: &mut Hasher,
    files: &mut Files,
    tree: Option<Tree>,
    recorders: &BTreeSet<String>,
) -> Result<Custody> {
    let mut custody = Custody::default();
    let Some(section) = source.section(bundle::CUSTODY)? else {
        custody.unclear = true;
        return Ok(custody);
    };
    let mut lines = Lines::new(hasher.file(section));
    let mut before = Before::default();
    while let Some(text) = lines.next(hasher)? {
        let fault = match serde_json::from_slice::<Line>(text) {
            Ok(line) => custody.entry(line, &mut before, tree, recorders),
            Err(_) => Some(Fault::Unreadable),
        };
        if let Some(fault) = fault {
            files.faults.add(bundle::CUSTODY, fault);
        }
    }
    let digest = lines.end(hasher)?;
    files.compare(bundle::CUSTODY, digest);
    custody.unclear |= files.faults.any(bundle::CUSTODY);
    Ok(custody)
}

/// The entry before.
#[derive(Default)]
struct Before {
    number: u64,
    at: u64,
    index: Option<u64>,
    /// Whether one had no place in the log.
    unproven: bool,
}

impl Custody {
    /// What is wrong with an entry, if anything is.
    fn entry(
        &mut self,
        line: Line,
        before: &mut Before,
        tree: Option<Tree>,
        recorders: &BTreeSet<String>,
    ) -> Option<Fault> {
        self.report.entries = self.report.entries.saturating_add(1);
        let Some(entry) = Entry::read(&line.entry) else { return Some(Fault::Unreadable) };
        let deletion = Deletion::of(&entry);
        let concerns = recorders.iter().any(|id| entry.object.contains(&**id) || entry.action.contains(&**id))
            || deletion.as_ref().is_some_and(|deletion| deletion.recorder.is_none());
        let agrees = (about::time(entry.at), &entry.actor, &entry.source) == (line.at, &line.actor, &line.source)
            && (&entry.action, &entry.reason, &entry.outcome) == (&line.action, &line.reason, &line.outcome);
        let in_order = entry.number > before.number && entry.at >= before.at;
        (before.number, before.at) = (entry.number, entry.at);
        let place = line.log_index;
        let rises = place.is_none_or(|index| !before.unproven && before.index.is_none_or(|before| index > before));
        before.unproven |= place.is_none();
        before.index = place.or(before.index);
        if !agrees || !concerns || !in_order || !rises || self.report.entries > CUSTODY_MAX as u64 {
            return Some(Fault::Contradicts);
        }
        let (Some(index), Some(tree)) = (place, tree) else { return None };
        let of_log = receipt::entry(&statement::digest(&line.entry), entry.at);
        if receipt::verify_inclusion(&of_log, index, &line.proof, tree.size, &tree.root).is_err() {
            return Some(Fault::NotProven);
        }
        self.report.proven = self.report.proven.saturating_add(1);
        if let Some(deletion) = deletion {
            self.unclear |= self.statements.len() >= STATEMENTS_MAX;
            if self.statements.len() < STATEMENTS_MAX {
                self.statements.insert(index, deletion);
            }
        }
        None
    }
}
