//! Which footage there is: by time, place, recorder, department, person, mark and words; where a recorder was, and who was with it.
//!
//! A *recording* is what a recorder recorded without a pause of more than a minute ([`PAUSE_US`]), by its own clock, whatever it sent
//! when. It is found if any of it lies in the range that is asked for, and told whole, as far as [`LOOK_US`] beyond the range. Footage that was
//! deleted or is hidden has no part in it.
//!
//! A page is in the order of recorders and, for each, of time; a cursor is the end of the last recording that was told, since its
//! begin moves when its first footage is deleted. While footage
//! arrives that place does not move: whatever was there when the first page was made comes on one of the pages, unless it has grown
//! together with what was told already; nothing is told twice. What arrives late lies at its recorded time, before the cursor or behind.
//!
//! Nothing here decides who may see what: the caller says of each recorder whether it is seen, and what is not takes no part in anything. No
//! question reads more than [`ROWS_MAX`] rows of the index: it is refused and has to be narrowed.

mod candidates;
mod near;
mod path;
mod runs;
mod together;

use std::ops::Range;

use aigaq_proto::{Micros, RecorderId, Sequence};

use crate::error::{Error, Kind, Result};
use crate::fleet::{Assignment, Fleet};
use crate::place::Area;
use crate::store::index::PAUSE_US;
use crate::store::records::{MarkRecord, RecorderKind, RecorderRecord};
use crate::store::{Directory, Store};

use candidates::Candidates;
pub use path::{FIXES_MAX, PathFix, path};
pub use runs::LOOK_US;
use runs::Run;
pub use together::{Meeting, SECONDS_MAX, Together, WITHIN_METRES_MAX, together};

/// Rows of the index that a question may read.
pub const ROWS_MAX: u64 = 200_000;
/// What going to another place of the index costs, in rows.
const SEEK: u64 = 4;
/// Bytes of a row beyond which it counts as several.
const ROW_BYTES: usize = 256;
/// Marks that are told of one recording.
pub const MARKS_MAX: usize = 100;
/// Until so long after its last segment a recording of a connected recorder goes on, microseconds.
const LIVE_US: Micros = 60_000_000;

/// What is looked for. What is not given does not matter.
#[derive(Debug, Clone)]
pub struct Question {
    /// Footage of this range, device clock.
    pub range: Range<Micros>,
    /// Of this recorder.
    pub recorder: Option<RecorderId>,
    /// Of recorders of this kind.
    pub kind: Option<RecorderKind>,
    /// Of recorders of this department.
    pub department: Option<String>,
    /// Assigned to this person, vehicle or place during some of it.
    pub assignee: Option<String>,
    /// With a mark of this category in the range.
    pub mark: Option<String>,
    /// With these words in the recorder's label, in the name of who had it, or in a mark; case does not matter.
    pub text: Option<String>,
    /// Taken there, in the range.
    pub area: Option<Area>,
    /// After this place: recorder, and end of a recording.
    pub after: Option<(RecorderId, Micros)>,
    /// So many at most.
    pub limit: usize,
}

/// A recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Whose.
    pub recorder: RecorderId,
    /// When the first segment begins, device clock.
    pub from: Micros,
    /// When the last one ends.
    pub to: Micros,
    /// Whether it began even earlier than it was looked.
    pub begins_earlier: bool,
    /// Whether it ends even later than it was looked.
    pub ends_later: bool,
    /// The lowest sequence of a segment.
    pub first_sequence: Sequence,
    /// The greatest.
    pub last_sequence: Sequence,
    /// Number of segments.
    pub segments: u64,
    /// Their payload, bytes.
    pub bytes: u64,
    /// Whether it goes on now.
    pub live: bool,
    /// Who had the recorder while it was recorded.
    pub assignments: Vec<Assignment>,
    /// The marks in it, and in the minute before and after, that no other took the place of; the first [`MARKS_MAX`].
    pub marks: Vec<MarkRecord>,
    /// Whether there are more.
    pub more_marks: bool,
    /// When it was nearest to the middle of a circle in the range, and how far away, metres; 0 for other areas.
    pub nearest: Option<(Micros, f64)>,
}

/// A page of recordings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// By recorder and begin.
    pub recordings: Vec<Recording>,
    /// Whether there are more.
    pub more: bool,
}

/// How much a question may read still.
pub(crate) struct Budget(u64);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(ROWS_MAX)
    }

    /// Counts rows.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when there were too many.
    pub(crate) fn take(&mut self, rows: u64) -> Result<()> {
        let left = self.0.checked_sub(rows).ok_or_else(|| {
            let text = format!(
                "the question touches more than {ROWS_MAX} rows of the index: narrow the time, the place, the recorder or the department"
            );
            Error::new(Kind::Invalid, text)
        })?;
        self.0 = left;
        Ok(())
    }

    /// Counts a row of so many bytes.
    pub(crate) fn take_row(&mut self, bytes: usize) -> Result<()> {
        self.take(1 + (bytes / ROW_BYTES) as u64)
    }

    pub(crate) fn take_seek(&mut self) -> Result<()> {
        self.take(SEEK)
    }
}

/// What the parts of a search share.
struct Search<'a> {
    store: &'a Store,
    fleet: &'a Fleet,
    directory: &'a Directory,
    question: &'a Question,
    /// The words, in lower case.
    words: Option<String>,
    sees: &'a mut dyn FnMut(&RecorderRecord) -> bool,
    budget: Budget,
    now: Micros,
}

/// A page of the recordings that are looked for, of recorders that are seen; `now` is the server's clock. Blocks.
///
/// # Errors
/// [`Kind::Invalid`] if it would read too much, and those of the store.
pub fn recordings(
    store: &Store,
    fleet: &Fleet,
    question: &Question,
    now: Micros,
    sees: &mut dyn FnMut(&RecorderRecord) -> bool,
) -> Result<Page> {
    let directory = store.directory()?;
    let words = question.text.as_ref().map(|text| text.to_lowercase());
    let budget = Budget::new();
    let mut search = Search { store, fleet, directory: &directory, question, words, sees, budget, now };
    let mut candidates = Candidates::of(&mut search)?;
    let mut page = Page::default();
    while let Some(recorder) = candidates.next(&mut search)? {
        for recording in search.of_recorder(recorder, candidates.hits(recorder))? {
            if page.recordings.len() == question.limit {
                page.more = true;
                return Ok(page);
            }
            page.recordings.push(recording);
        }
    }
    Ok(page)
}

impl Search<'_> {
    /// Whether a recorder is one of those that are looked for, as far as its record says, and seen.
    fn wants(&mut self, record: &RecorderRecord) -> bool {
        let Question { recorder, kind, department, .. } = self.question;
        recorder.is_none_or(|wanted| wanted == record.id)
            && kind.is_none_or(|wanted| wanted == record.kind)
            && department.as_ref().is_none_or(|wanted| *wanted == record.department)
            && (self.sees)(record)
    }

    fn wants_id(&mut self, recorder: RecorderId) -> bool {
        let directory = self.directory;
        directory.get(recorder).is_some_and(|record| self.wants(record))
    }

    /// The recordings of a recorder that are looked for, behind the cursor, in order.
    fn of_recorder(&mut self, recorder: RecorderId, hits: Option<&[(Micros, f64)]>) -> Result<Vec<Recording>> {
        let after = self.question.after.filter(|(last, _)| *last == recorder).map(|(_, end)| end);
        let runs = runs::touching(self.store, recorder, self.question.range.clone(), &mut self.budget)?;
        let mut found = Vec::new();
        for run in runs.into_iter().filter(|run| after.is_none_or(|after| run.from > after)) {
            found.extend(self.recording(recorder, &run, hits)?);
            if found.len() > self.question.limit {
                break;
            }
        }
        Ok(found)
    }

    /// What is told of a run, if it is looked for.
    fn recording(
        &mut self,
        recorder: RecorderId,
        run: &Run,
        hits: Option<&[(Micros, f64)]>,
    ) -> Result<Option<Recording>> {
        let pause = u64::from(PAUSE_US);
        let reach = run.from.saturating_sub(pause)..run.to.saturating_add(pause);
        let nearest = match hits {
            None => None,
            Some(hits) => {
                let begin = hits.partition_point(|(at, _)| *at < reach.start);
                let near = hits.iter().skip(begin).take_while(|(at, _)| *at < reach.end);
                let Some(nearest) = near.min_by(|a, b| a.1.total_cmp(&b.1)) else { return Ok(None) };
                Some(*nearest)
            }
        };
        self.budget.take(2 * SEEK)?;
        let assignments = self.fleet.assigned_within(recorder, run.from, run.to.max(run.from.saturating_add(1)))?;
        let mut marks = self.marks(recorder, reach)?;
        if !self.is_wanted(recorder, &assignments, &marks) {
            return Ok(None);
        }
        let more_marks = marks.len() > MARKS_MAX;
        marks.truncate(MARKS_MAX);
        Ok(Some(Recording {
            recorder,
            from: run.from,
            to: run.to,
            begins_earlier: run.begins_earlier,
            ends_later: run.ends_later,
            first_sequence: run.first,
            last_sequence: run.last,
            segments: run.segments,
            bytes: run.bytes,
            live: self.is_live(recorder, run.to)?,
            assignments,
            marks,
            more_marks,
            nearest,
        }))
    }

    fn marks(&mut self, recorder: RecorderId, reach: Range<Micros>) -> Result<Vec<MarkRecord>> {
        let mut all = Vec::new();
        let store = self.store;
        for mark in store.marks_on(recorder, reach) {
            self.budget.take(2 * SEEK)?;
            let mark = mark?;
            if store.corrected_by(mark.place)?.is_none() {
                all.push(mark);
            }
        }
        Ok(all)
    }

    /// Whether who had it and what was marked in it are what is looked for.
    fn is_wanted(&self, recorder: RecorderId, assignments: &[Assignment], marks: &[MarkRecord]) -> bool {
        let Question { range, assignee, mark, .. } = self.question;
        let in_range = |held: &&Assignment| held.from < range.end && held.end() > range.start;
        let mut held = assignments.iter().filter(in_range);
        let mut marked = marks.iter().filter(|mark| range.contains(&mark.place.at));
        assignee.as_ref().is_none_or(|wanted| held.clone().any(|held| held.assignee == *wanted))
            && mark.as_ref().is_none_or(|wanted| marked.clone().any(|mark| mark.category == *wanted))
            && self.words.as_ref().is_none_or(|words| {
                let has = |text: &str| text.to_lowercase().contains(words);
                self.directory.get(recorder).is_some_and(|record| has(&record.label))
                    || held.any(|held| has(&held.assignee))
                    || marked.any(|mark| has(&mark.category) || has(&mark.note))
            })
    }

    /// Whether a recording that ends then goes on now.
    fn is_live(&self, recorder: RecorderId, to: Micros) -> Result<bool> {
        if !self.fleet.is_connected(recorder) {
            return Ok(false);
        }
        let clock = self.fleet.announcement(recorder)?.and_then(|said| said.clock);
        let theirs = self.now.saturating_add_signed(clock.map_or(0, |clock| clock.offset_us));
        Ok(to.saturating_add(LIVE_US) >= theirs)
    }
}
