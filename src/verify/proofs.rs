//! `proofs/<recorder>-<sequence>.tlog-proof`: the proof of one link for whoever has no reader of bundles. Each leads from a link that is
//! there to the tree of the bundle.

use std::collections::BTreeSet;

use aigaq_proto::receipt::{self, LogKey};
use aigaq_proto::{Digest, RecorderId, Sequence, limits};
use data_encoding::BASE64;

use super::chain::Tree;
use super::files::Files;
use super::report::Fault;
use super::source::Source;
use crate::bundle::{self, line::Link};
use crate::error::Result;

/// First line of a proof (C2SP tlog-proof).
const FORMAT: &str = "c2sp.org/tlog-proof@v1";

/// The proofs of a recorder whose links have not come by yet.
pub(super) struct Proofs {
    recorder: RecorderId,
    left: BTreeSet<Sequence>,
    log: Option<LogKey>,
}

impl Proofs {
    /// Those that the manifest names.
    pub(super) fn of(files: &Files, recorder: RecorderId, log: Option<LogKey>) -> Self {
        let prefix = format!("proofs/{recorder}-");
        let sequence = |path: &str| {
            let sequence: Sequence = path.strip_prefix(&prefix)?.strip_suffix(".tlog-proof")?.parse().ok()?;
            (bundle::proof(recorder, sequence) == path).then_some(sequence)
        };
        Self { recorder, left: files.below(&prefix).filter_map(sequence).collect(), log }
    }

    /// A link of the chain whose line is what it should be: its proof, if there is one, leads to the tree.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn link(&mut self, link: &Link, source: &Source, files: &mut Files, tree: Option<Tree>) -> Result<()> {
        if !self.left.remove(&link.sequence) {
            return Ok(());
        }
        let path = bundle::proof(self.recorder, link.sequence);
        let Some(text) = files.small_if_there(source, &path)? else { return Ok(()) };
        let (Some(tree), Some(log)) = (tree, &self.log) else { return Ok(()) };
        let proven = std::str::from_utf8(&text).ok().and_then(|text| read(text, log)).is_some_and(|read| {
            let entry = receipt::entry(&link.digest, link.received_at);
            (read.index, read.size, read.root) == (link.log_index, tree.size, tree.root)
                && receipt::verify_inclusion(&entry, read.index, &read.proof, read.size, &read.root).is_ok()
        });
        if !proven {
            files.faults.add(&path, Fault::NotProven);
        }
        Ok(())
    }

    /// What is left proves no link that is there; nobody is blamed while the chain is not `clear`.
    pub(super) fn finish(self, files: &mut Files, clear: bool) {
        for sequence in self.left.into_iter().filter(|_| clear) {
            files.faults.add(&bundle::proof(self.recorder, sequence), Fault::Contradicts);
        }
    }
}

/// A proof.
struct Read {
    index: u64,
    proof: Vec<Digest>,
    size: u64,
    root: Digest,
}

fn read(text: &str, log: &LogKey) -> Option<Read> {
    let (head, checkpoint) = text.split_once("\n\n")?;
    let mut lines = head.lines();
    if lines.next()? != FORMAT {
        return None;
    }
    let index = lines.next()?.strip_prefix("index ")?.parse().ok()?;
    let hash = |line: &str| Some(Digest(BASE64.decode(line.as_bytes()).ok()?.try_into().ok()?));
    let proof: Option<Vec<Digest>> = lines.take(limits::PROOF_HASHES_MAX + 1).map(hash).collect();
    let (size, root) = log.open(checkpoint).ok()?;
    Some(Read { index, proof: proof?, size, root })
}
