//! Positions and marks: what the files for people say is what the signed headers say, all of it and nothing else.
//!
//! Neither is kept: what is said and what should be is hashed, value by value, in the order of the links.

use std::collections::BTreeMap;

use aigaq_proto::{Digest, LinkHeader, RecorderId};
use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;

use super::files::Files;
use super::hashing::finished;
use super::lines::elements;
use super::report::Fault;
use super::source::Source;
use crate::bundle;
use crate::bundle::about::{Marker, Position};
use crate::bundle::line::Clock;
use crate::error::Result;

/// A digest over values.
pub(super) struct Tally {
    count: u64,
    context: Context,
}

impl Default for Tally {
    fn default() -> Self {
        Self { count: 0, context: Context::new(&SHA256) }
    }
}

impl Tally {
    fn add(&mut self, value: &impl Serialize) {
        // What is made of strings and numbers alone always has a JSON form, and it has no line break.
        let text = serde_json::to_vec(value).unwrap_or_default();
        self.context.update(&text);
        self.context.update(b"\n");
        self.count = self.count.saturating_add(1);
    }

    fn finish(self) -> (u64, Digest) {
        (self.count, finished(&self.context.finish()))
    }
}

/// What the links of a recorder say.
#[derive(Default)]
pub(super) struct Told {
    positions: Tally,
    marks: Tally,
}

impl Told {
    /// One more link that touches the range.
    pub(super) fn link(&mut self, header: &LinkHeader, clock: Option<Clock>) {
        Position::all(header, clock).for_each(|position| self.positions.add(&position));
        if let Some(marker) = Marker::of(header, clock) {
            self.marks.add(&marker);
        }
    }

    /// Compares `track/<recorder>.json` with the links, if these are `clear`; returns what is to be compared with the marks.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn compare(
        self,
        source: &Source,
        files: &mut Files,
        recorder: RecorderId,
        clear: bool,
    ) -> Result<Tally> {
        let path = bundle::track(recorder);
        let mut said = Tally::default();
        match source.section(&path)? {
            Some(section) => {
                let (reads, digest) = elements(section, |position: Position| said.add(&position))?;
                files.compare(&path, digest);
                if !reads {
                    files.faults.add(&path, Fault::Unreadable);
                }
            }
            None => files.faults.add(&path, Fault::Missing),
        }
        if clear && !files.faults.broken(&path) && said.finish() != self.positions.finish() {
            files.faults.add(&path, Fault::Contradicts);
        }
        Ok(self.marks)
    }
}

/// Compares `markers.json` with what the links of those recorders say that are clear.
///
/// # Errors
/// Those of reading.
pub(super) fn marks(source: &Source, files: &mut Files, links: BTreeMap<RecorderId, (Tally, bool)>) -> Result<()> {
    let Some(section) = source.section(bundle::MARKERS)? else { return Ok(()) };
    let mut said: BTreeMap<RecorderId, Tally> = links.keys().map(|recorder| (*recorder, Tally::default())).collect();
    let mut strange = false;
    let (reads, digest) = elements(section, |marker: Marker| match said.get_mut(&marker.recorder) {
        Some(tally) => tally.add(&marker),
        None => strange = true,
    })?;
    files.compare(bundle::MARKERS, digest);
    if !reads {
        files.faults.add(bundle::MARKERS, Fault::Unreadable);
    }
    for (recorder, (should, clear)) in links {
        let said = said.remove(&recorder).unwrap_or_default();
        strange |= clear && said.finish() != should.finish();
    }
    if strange && !files.faults.broken(bundle::MARKERS) {
        files.faults.add(bundle::MARKERS, Fault::Contradicts);
    }
    Ok(())
}
