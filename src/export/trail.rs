//! The audit trail in a bundle: the entries about its recorders, and the statements of what was deleted of them.
//!
//! The trail is gone through once; what is kept of it are numbers, and what deletions say.

use std::collections::{BTreeMap, BTreeSet};

use aigaq_proto::{Micros, RecorderId, Sequence, receipt, statement};

use super::archive::Archive;
use super::job::{Job, Order};
use crate::bundle::deletion::{Deletion, What};
use crate::bundle::{self, CUSTODY_MAX, about};
use crate::error::{Error, Kind, Result};
use crate::log::{Reader, Tree};
use crate::store::Store;
use crate::store::records::{self, AuditRecord, Body, Event};

/// What the trail says of footage that was deleted.
#[derive(Debug, Default)]
pub(super) struct Statements {
    /// By footage day, in the order of the trail, each with its place in the log of the bundle.
    days: BTreeMap<u32, Vec<(u64, Deletion)>>,
}

/// What belongs into a bundle of the trail.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// The entries, rising.
    numbers: BTreeSet<u64>,
    pub(super) statements: Statements,
}

impl Statements {
    /// The index in the log of what says that this body is gone: that its bytes went before that it was hidden.
    pub(super) fn about(&self, recorder: RecorderId, sequence: Option<Sequence>, body: &Body) -> Option<u64> {
        let stated = self.days.get(&body.place()?.day)?;
        let covers = |one: &&(u64, Deletion)| one.1.covers(recorder, sequence);
        let weight = |one: &&(u64, Deletion)| (one.1.what != What::Hidden, one.0);
        stated.iter().filter(covers).max_by_key(weight).map(|(index, _)| *index)
    }
}

impl Trail {
    /// Goes through the trail until `now`; blocks.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if more of it is about these recorders than a bundle holds, [`Kind::Busy`] when the job was given up, and
    /// those of the store.
    pub(super) fn of(store: &Store, order: &Order, now: Micros, tree: &Tree, job: &Job) -> Result<Self> {
        let mut trail = Self::default();
        for entry in store.audit_entries(0..now.saturating_add(1)) {
            let entry = entry?;
            job.go_on()?;
            // What was seen for an integrity check is for inspectors alone; the log has it.
            if entry.event == Event::Check {
                continue;
            }
            let concerns = |recorder: &String| entry.object.contains(recorder) || entry.action.contains(recorder);
            let concerned = order.recorders.iter().any(concerns);
            let AuditRecord { number, event, object, action, outcome, .. } = &entry;
            let deletion = Deletion::read(event.name(), object, action, outcome);
            let general = deletion.as_ref().is_some_and(|deletion| deletion.recorder.is_none());
            if !concerned && !general {
                continue;
            }
            if let Some(deletion) = deletion
                && let Some(leaf) = store.audit_leaf(*number)?.filter(|leaf| leaf.log_index < tree.size)
            {
                trail.statements.days.entry(deletion.day).or_default().push((leaf.log_index, deletion));
            }
            trail.numbers.insert(*number);
            if trail.numbers.len() > CUSTODY_MAX {
                let text = format!(
                    "more than {CUSTODY_MAX} entries of the audit trail are about these recorders: order fewer recorders at a time"
                );
                return Err(Error::new(Kind::Invalid, text));
            }
        }
        Ok(trail)
    }

    /// Writes the entries, each with its proof where the log of the bundle has it; blocks.
    ///
    /// # Errors
    /// Those of the store, the log and the archive.
    pub(super) fn write(&self, store: &Store, log: &Reader, tree: &Tree, archive: &mut Archive) -> Result<()> {
        archive.begin(bundle::CUSTODY)?;
        for number in &self.numbers {
            let Some((stored, leaf)) = store.audit_entry(*number)? else { continue };
            let entry: AuditRecord = records::decode(&stored, "audit")?;
            let leaf = leaf.filter(|leaf| leaf.log_index < tree.size);
            let proof = leaf.map(|leaf| {
                let of_log = receipt::entry(&statement::digest(&stored), entry.at);
                log.prove_entry(&of_log, leaf.log_index, tree)
            });
            archive.line(&about::Custody {
                at: about::time(entry.at),
                entry: stored,
                actor: entry.actor,
                source: entry.source,
                action: entry.action,
                reason: entry.reason,
                outcome: entry.outcome,
                log_index: leaf.map(|leaf| leaf.log_index),
                proof: proof.transpose()?.unwrap_or_default(),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::entry::{EVENTS, Entry};
    use crate::store::records::Event;

    #[test]
    fn what_is_stored_reads_without_the_code_of_a_server() {
        let names: Vec<_> = Event::ALL.iter().map(|event| event.name()).collect();
        assert_eq!(names, EVENTS, "the numbers of BUNDLE.md");
        for (number, event) in (1..).zip(Event::ALL) {
            let entry =
                AuditRecord::new(7 << number, event, "account:\u{430}", "::1", "GET /").about("it").because("court");
            let content = (number % 2 == 0).then_some(aigaq_proto::Digest([7; 32]));
            let entry = AuditRecord { number, content, ..entry.ended("denied") };
            let read = Entry::read(&records::encode(&entry).unwrap()).unwrap();
            assert_eq!(
                (read.number, read.at, read.event, read.content),
                (number, entry.at, Some(event.name()), content)
            );
            assert_eq!([&read.actor, &read.source, &read.object], [&entry.actor, &entry.source, &entry.object]);
            assert_eq!([&read.action, &read.reason, &read.outcome], [&entry.action, &entry.reason, &entry.outcome]);
        }
    }
}
