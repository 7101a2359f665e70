//! What is said of a deletion before the bytes go, so that it can be proved afterwards what was deleted, and by which rule.
//!
//! One statement for each recorder and rule of a day. Its digest is SHA-256 over [`DOMAIN`] and the digests of the links, in order:
//! those of the chain by sequence, then other sides of forks, then links in quarantine. Headers and signatures stay, so anybody who has
//! the links can compute it again.

use aigaq_proto::{Digest, RecorderId, link};
use sha2::{Digest as _, Sha256};

use crate::store::policy::Rule;
use crate::store::records::Owner;

/// What the digest of a statement begins with.
pub const DOMAIN: &[u8] = b"aigaq deletion v1\n";
/// Runs of sequences that a statement names; what lies beyond is in its counts and its digest.
const RUNS_MAX: usize = 64;

/// What is deleted of one recorder by one rule.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The expiry day.
    pub day: u32,
    /// Whose.
    pub recorder: RecorderId,
    /// By which rule it was kept until then.
    pub rule: Rule,
    /// Bodies.
    pub links: u64,
    /// Their length, bytes.
    pub bytes: u64,
    /// Runs of sequences of the chain, both ends included; the first 64.
    pub runs: Vec<(u64, u64)>,
    /// Runs that are not named.
    pub more_runs: u64,
    last: Option<u64>,
    hasher: Sha256,
}

impl Statement {
    pub(super) fn new(day: u32, recorder: RecorderId, rule: Rule) -> Self {
        let hasher = Sha256::new_with_prefix(DOMAIN);
        Self { day, recorder, rule, links: 0, bytes: 0, runs: Vec::new(), more_runs: 0, last: None, hasher }
    }

    /// One more link, in order.
    pub(super) fn add(&mut self, owner: Owner, header: &[u8], bytes: u32) {
        self.links += 1;
        self.bytes = self.bytes.saturating_add(u64::from(bytes));
        self.hasher.update(link::digest(header).0);
        let Owner::Link(sequence) = owner else { return };
        let goes_on = self.last.is_some_and(|last| last.checked_add(1) == Some(sequence));
        self.last = Some(sequence);
        if !goes_on && self.runs.len() < RUNS_MAX {
            self.runs.push((sequence, sequence));
        } else if !goes_on {
            self.more_runs += 1;
        } else if self.more_runs == 0
            && let Some(run) = self.runs.last_mut()
        {
            run.1 = sequence;
        }
    }

    /// The digest over the digests of its links.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(self.hasher.clone().finalize().into())
    }

    /// In one line.
    #[must_use]
    pub fn text(&self) -> String {
        let run =
            |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
        let mut runs = self.runs.iter().map(run).collect::<Vec<_>>().join(",");
        if self.more_runs > 0 {
            runs = format!("{runs} and {} more runs", self.more_runs);
        }
        let Self { day, rule, links, bytes, .. } = self;
        let digest = self.digest();
        format!(
            "delete day {day}, {links} links of {bytes} bytes, sequences {runs}, kept by {rule}, links sha256 {digest}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_names_runs_and_counts_the_rest() {
        let mut statement = Statement::new(7, RecorderId([1; 16]), Rule::Undo);
        for sequence in [1, 2, 3, 7].into_iter().chain((100..300).step_by(2)).chain([299]) {
            statement.add(Owner::Link(sequence), b"header", 10);
        }
        assert_eq!(statement.runs[..3], [(1, 3), (7, 7), (100, 100)]);
        assert_eq!((statement.runs.len(), statement.more_runs), (64, 38));
        assert_eq!((statement.links, statement.bytes), (105, 1_050));
    }

    #[test]
    fn the_digest_is_that_of_the_digests_of_the_links() {
        let mut statement = Statement::new(7, RecorderId([1; 16]), Rule::Undo);
        statement.add(Owner::Link(4), b"one", 1);
        statement.add(Owner::Quarantined(1, 0), b"two", 1);
        let all = [DOMAIN, &link::digest(b"one").0, &link::digest(b"two").0].concat();
        assert_eq!(statement.digest(), Digest::of(&all));
        assert!(statement.text().contains("2 links of 2 bytes, sequences 4, kept by undo"), "{}", statement.text());
    }
}
