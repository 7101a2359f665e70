//! What an entry of the audit trail says of footage that is gone: the statement that a line of a chain names instead of a payload.
//!
//! The words are those of BUNDLE.md, section "What was deleted".

use aigaq_proto::{RecorderId, Sequence};

use super::entry::Entry;

/// What kind of entry a deletion is, and the destruction of a key.
const DELETION: &str = "deletion";
const DESTRUCTION: &str = "key-destruction";

/// A statement of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Whose footage; none where it is that of all whose day is over.
    pub recorder: Option<RecorderId>,
    /// The footage day that it is about, days since 1970-01-01.
    pub day: u32,
    /// What of it.
    pub what: What,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The day is over by policy: nobody is shown it any more, and it can be brought back for some days.
    Hidden,
    /// The bytes of these links went, by the rule that is named.
    Gone {
        /// Runs of sequences, both ends included.
        runs: Vec<(Sequence, Sequence)>,
        /// Runs that are not named.
        more: u64,
        /// By which rule they were kept until then.
        rule: String,
    },
    /// The key of the recorder and day was destroyed.
    Destroyed,
}

impl Deletion {
    /// What an entry says, if it says that something was deleted.
    #[must_use]
    pub fn of(entry: &Entry) -> Option<Self> {
        Self::read(entry.event?, &entry.object, &entry.action, &entry.outcome)
    }

    /// The same from the parts of an entry.
    #[must_use]
    pub fn read(event: &str, object: &str, action: &str, outcome: &str) -> Option<Self> {
        let recorder = object.parse::<RecorderId>().ok();
        match (event, outcome) {
            (DELETION, "hidden") => {
                let day = action.strip_prefix("hide day ")?.parse().ok()?;
                object.is_empty().then_some(Self { recorder: None, day, what: What::Hidden })
            }
            (DELETION, "deleted") => {
                let rest = action.strip_prefix("delete day ")?;
                let (day, rest) = rest.split_once(", ")?;
                let (_, rest) = rest.split_once(" bytes, sequences ")?;
                let (runs, rest) = rest.split_once(", kept by ")?;
                let (rule, _) = rest.rsplit_once(", links sha256 ")?;
                let (runs, more) = match runs.split_once(" and ") {
                    Some((runs, more)) => (runs, more.strip_suffix(" more runs")?.parse().ok()?),
                    None => (runs, 0),
                };
                let run = |run: &str| {
                    let (first, last) = run.split_once('-').unwrap_or((run, run));
                    Some((first.parse().ok()?, last.parse().ok()?))
                };
                let runs: Option<Vec<_>> = runs.split(',').filter(|run| !run.is_empty()).map(run).collect();
                let what = What::Gone { runs: runs?, more, rule: rule.to_owned() };
                Some(Self { recorder: Some(recorder?), day: day.parse().ok()?, what })
            }
            (DESTRUCTION, "destroyed") => {
                let (day, _) = action.strip_prefix("destroy the key of footage day ")?.split_once(':')?;
                Some(Self { recorder: Some(recorder?), day: day.parse().ok()?, what: What::Destroyed })
            }
            _ => None,
        }
    }

    /// Whether it speaks of this link of this recorder, as far as it says; `None` for what is no link of the chain.
    #[must_use]
    pub fn covers(&self, recorder: RecorderId, sequence: Option<Sequence>) -> bool {
        if self.recorder.is_some_and(|of| of != recorder) {
            return false;
        }
        match (&self.what, sequence) {
            (What::Gone { runs, more, .. }, Some(sequence)) => {
                let named = runs.iter().any(|(first, last)| (*first..=*last).contains(&sequence));
                named || *more > 0 && runs.last().is_none_or(|(_, last)| *last < sequence)
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RecorderId = RecorderId([1; 16]);

    #[test]
    fn a_statement_says_which_links_went_and_by_which_rule() {
        let action = "delete day 20561, 5 links of 50 bytes, sequences 1-3,7 and 2 more runs, kept by mark, kept by, links \
                      sha256 x, links sha256 00; the disk is full";
        let read = Deletion::read(DELETION, &ID.to_string(), action, "deleted").unwrap();
        assert_eq!(read.day, 20_561);
        let What::Gone { runs, more, rule } = &read.what else { panic!("{read:?}") };
        assert_eq!((&runs[..], *more, &**rule), (&[(1, 3), (7, 7)][..], 2, "mark, kept by, links sha256 x"));
        let covered: Vec<_> = (0..10).filter(|sequence| read.covers(ID, Some(*sequence))).collect();
        assert_eq!(covered, [1, 2, 3, 7, 8, 9], "what is beyond the runs that are named may be meant");
        assert!(!read.covers(RecorderId([2; 16]), Some(1)) && read.covers(ID, None));
    }

    #[test]
    fn a_day_that_is_hidden_and_a_key_that_is_destroyed_are_statements_too() {
        let hidden = Deletion::read(DELETION, "", "hide day 7", "hidden").unwrap();
        assert!(hidden.day == 7 && hidden.covers(ID, Some(4)));
        let text = "destroy the key of footage day 9: 3 links, 70 bytes";
        let destroyed = Deletion::read(DESTRUCTION, &ID.to_string(), text, "destroyed").unwrap();
        assert!(destroyed.covers(ID, Some(4)) && !destroyed.covers(RecorderId([2; 16]), Some(4)));
        for (event, object, action, outcome) in [
            (DESTRUCTION, &*ID.to_string(), text, "refused: held"),
            (DESTRUCTION, "", text, "destroyed"),
            (DELETION, "", "undo the deletion of it", "granted"),
            (DELETION, "", "hide day soon", "hidden"),
            ("view", "", "hide day 7", "hidden"),
        ] {
            assert_eq!(Deletion::read(event, object, action, outcome), None, "{action} {outcome}");
        }
    }
}
