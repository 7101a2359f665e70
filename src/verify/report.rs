//! What the verifier says, for programs (JSON) and for people.

use std::fmt::Write as _;

use aigaq_proto::RecorderId;
use aigaq_proto::link::controls;
use aigaq_proto::verdict::{Finding, Report as Links, Verdict};
use serde::Serialize;

use crate::bundle::encoding::text;

/// Whose keys the check rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Those in the bundle: it holds together, which proves nothing of who made it.
    Bundle,
    /// Those that the one who checks brought along.
    File,
}

/// What is wrong with a file of a bundle, or with what the whole of it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Its digest or length is not that of the manifest.
    Altered,
    /// The manifest names it and it is not there.
    Missing,
    /// It is there and the manifest does not name it.
    NotNamed,
    /// It does not read as what it should be.
    Unreadable,
    /// It contradicts the manifest or the links.
    Contradicts,
    /// Bytes of it belong to no link, or to more than one.
    Uncovered,
    /// The signature is not by the key that it should be by.
    BadSignature,
    /// Nothing that is trusted leads to it.
    NotTrusted,
    /// The certificate was taken back before links came in under it.
    Revoked,
    /// It says what the log does not prove.
    NotProven,
    /// It does not say that footage is missing where it is.
    UndeclaredGap,
    /// It names a gap where there is footage, or a cause that the links deny.
    FalseGap,
}

impl Fault {
    fn meaning(self) -> &'static str {
        match self {
            Self::Altered => "is not the file that was exported",
            Self::Missing => "is not there",
            Self::NotNamed => "is no part of what was exported",
            Self::Unreadable => "does not read as what it should be",
            Self::Contradicts => "contradicts the manifest or the links",
            Self::Uncovered => "has bytes that belong to no signed link, or to two",
            Self::BadSignature => "is not signed by the key that it should be signed by",
            Self::NotTrusted => "leads to nothing that you trust",
            Self::Revoked => "was taken back before links came in under it",
            Self::NotProven => "says what the log does not prove",
            Self::UndeclaredGap => "does not say that footage is missing where it is",
            Self::FalseGap => "names a gap where there is footage, or a cause that the links deny",
        }
    }
}

/// A file with what is wrong with it. Each weighs `not-authentic`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileFinding {
    /// Which.
    pub path: String,
    /// What.
    pub fault: Fault,
}

/// What the links of one recorder came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecorderReport {
    /// The recorder.
    #[serde(with = "text")]
    pub recorder: RecorderId,
    /// The verdict on its links and footage; that on the files of the bundle is the whole's.
    pub verdict: Verdict,
    /// What the exporter said.
    pub exporter_says: Option<String>,
    /// Links that were checked.
    pub links: u64,
    /// Gaps that `gaps.json` names.
    pub gaps: u64,
    /// Links in quarantine.
    pub quarantined: u64,
    /// What decides.
    pub findings: Vec<Finding>,
    /// How many more findings there are.
    pub more: u64,
}

impl RecorderReport {
    pub(super) fn new(recorder: RecorderId, links: Links, gaps: u64, quarantined: u64, says: Option<String>) -> Self {
        let Links { verdict, links, findings, more } = links;
        Self { recorder, verdict, exporter_says: says, links, gaps, quarantined, findings, more }
    }
}

/// The entries of the audit trail that a bundle has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CustodyReport {
    /// How many.
    pub entries: u64,
    /// How many of them the log of the bundle has; the newest may not be in it yet.
    pub proven: u64,
}

/// A time stamp over the log of the bundle. It weighs nothing in the verdict: it says since when at the latest the links were there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimeStamp {
    /// How many entries of the log it covers.
    pub entries: u64,
    /// Its time, RFC 3339 UTC.
    pub at: String,
    /// The name in the certificate of its authority.
    pub authority: String,
    /// Whether that leads to an authority that the one who checks believes.
    pub trusted: bool,
    /// Why not, if it was looked at.
    pub because: Option<&'static str>,
}

/// A log that ended before the log of the bundle, which has its first entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Its key.
    pub log: String,
    /// How many of its entries go on.
    pub entries: u64,
    /// When it ended, by its own word.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What it comes to.
    pub verdict: Verdict,
    /// What that rests on.
    pub trust: Basis,
    /// Number of the export.
    pub export: String,
    /// What was asked for, RFC 3339 UTC.
    pub from: String,
    /// End of it.
    pub to: String,
    /// The log.
    pub log: String,
    /// The logs that it came after, oldest first.
    pub ended: Vec<Ended>,
    /// Witnesses that count and have signed the checkpoint.
    pub cosignatures: usize,
    /// How many must have.
    pub quorum: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Who had the footage before.
    pub custody: CustodyReport,
    /// Time stamps over the log, those that hold.
    pub timestamps: Vec<TimeStamp>,
    /// One entry a recorder.
    pub recorders: Vec<RecorderReport>,
    /// Files that are not what they should be.
    pub files: Vec<FileFinding>,
    /// How many more there are.
    pub more_files: u64,
}

impl Report {
    /// The exit code of `aigaq verify`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Authentic => 0,
            Verdict::AuthenticWithGaps => 1,
            Verdict::Pending => 2,
            Verdict::NotAuthentic => 3,
            Verdict::Unsigned => 4,
        }
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = match self.trust {
            Basis::Bundle => writeln!(
                text,
                "Checked with the keys in the bundle: this proves that it holds together, not who made it. Use --trust."
            ),
            Basis::File => writeln!(text, "Checked with the keys that you trust."),
        };
        let (export, from, to) = (shown(&self.export), shown(&self.from), shown(&self.to));
        let _ = writeln!(text, "{}: export {export}, {from} .. {to}", self.verdict);
        if self.quorum > 0 {
            let _ = writeln!(text, "witnesses: {} of {} that are needed", self.cosignatures, self.quorum);
        }
        for Ended { log, entries, at, reason } in &self.ended {
            let (log, at, reason) = (shown(log), shown(at), shown(reason));
            let _ = writeln!(text, "log: {log} ended with {entries} entries at {at}, and this one goes on: {reason}");
        }
        let CustodyReport { entries, proven } = self.custody;
        let _ = writeln!(text, "custody: {entries} entries of the audit trail, {proven} of them in the log");
        for one in &self.timestamps {
            let trusted = match (one.trusted, one.because) {
                (true, _) => "an authority that you trust".to_owned(),
                (false, Some(why)) => format!("NOT trusted: {why}"),
                (false, None) => "whom the bundle alone vouches for".to_owned(),
            };
            let (entries, at, authority) = (one.entries, &one.at, &one.authority);
            let _ = writeln!(
                text,
                "time stamp: the first {entries} entries of the log were there at {at}, says {authority}, {trusted}"
            );
        }
        for one in &self.recorders {
            let _ = writeln!(text, "{}: {}, {} links, {} gaps", one.recorder, one.verdict, one.links, one.gaps);
            for Finding { first, last, what } in &one.findings {
                let name = serde_json::to_value(what).ok().and_then(|name| name.as_str().map(str::to_owned));
                let links = if first == last { format!("link {first}") } else { format!("links {first} to {last}") };
                let _ = writeln!(text, "  {links}: {}: {}", name.unwrap_or_default(), what.meaning());
            }
            if one.more > 0 {
                let _ = writeln!(text, "  and {} more", one.more);
            }
            if one.quarantined > 0 {
                let _ = writeln!(text, "  {} links in quarantine, which are no part of the chain", one.quarantined);
            }
        }
        for FileFinding { path, fault } in &self.files {
            let _ = writeln!(text, "{} {}", shown(path), fault.meaning());
        }
        if self.more_files > 0 {
            let _ = writeln!(text, "and {} more files", self.more_files);
        }
        text
    }
}

/// Longest word of a bundle that is shown, characters.
const SHOWN_MAX: usize = 512;

/// What a bundle says, so that a terminal shows it in its order and does nothing else.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).map(|letter| if controls(letter) { '?' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bundle_says_neither_moves_the_cursor_nor_turns_the_line() {
        let said = "a\u{1b}[2J\u{202e}b\u{2066}c\u{2028}d\u{9f}айғақ";
        assert_eq!(shown(said), "a?[2J?b?c?d?айғақ");
    }
}
