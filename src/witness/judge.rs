//! What a request to `add-checkpoint` deserves (C2SP tlog-witness), given what was cosigned before. Pure.

use aigaq_proto::Digest;
use aigaq_proto::receipt::LogKey;
use signed_note::Note;
use tlog_tiles::{Checkpoint, Hash, check_tree};

/// Most lines of a consistency proof.
const PROOF_LINES_MAX: usize = 63;
/// Largest tree: no sum of two sizes overflows.
const SIZE_MAX: u64 = 1 << 62;

/// A request, understood but not judged.
pub(super) struct Request {
    old: u64,
    proof: Vec<Hash>,
    pub(super) checkpoint: String,
    /// The body of the checkpoint, which cosignatures are over.
    pub(super) body: Vec<u8>,
    pub(super) origin: String,
    size: u64,
    root: Digest,
}

/// Size and root of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) size: u64,
    pub(super) root: Digest,
}

/// What is answered, other than a cosignature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 400: the request is not one, or the old size is larger than the checkpoint's.
    Malformed,
    /// 403: not signed by the log.
    Unsigned,
    /// 404: a log that is not followed.
    Unknown,
    /// 409: the newest cosigned tree has another size.
    Conflict(u64),
    /// 422: it does not continue what was cosigned.
    Inconsistent,
}

impl Request {
    /// Reads the body of a request.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        Self::read(text).ok_or(Refusal::Malformed)
    }

    fn read(text: &str) -> Option<Self> {
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let old = lines.next()?.strip_prefix("old ")?;
        let old = old.parse::<u64>().ok().filter(|size| size.to_string() == old)?;
        let proof: Vec<Hash> = lines.map(|line| Hash::parse_hash(line).ok()).collect::<Option<_>>()?;
        let note = Note::from_bytes(checkpoint.as_bytes()).ok()?;
        let tree = Checkpoint::from_bytes(note.text()).ok()?;
        if proof.len() > PROOF_LINES_MAX || old > tree.size() || tree.size() > SIZE_MAX {
            return None;
        }
        Some(Self {
            old,
            proof,
            checkpoint: checkpoint.to_owned(),
            body: note.text().to_vec(),
            origin: tree.origin().to_owned(),
            size: tree.size(),
            root: Digest(tree.hash().0),
        })
    }

    /// The tree to be cosigned by somebody who follows `log` and cosigned `newest` last.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn judge(&self, log: &LogKey, newest: Option<Head>) -> Result<Head, Refusal> {
        let opened = log.open(&self.checkpoint).map_err(|_| Refusal::Unsigned)?;
        if opened != (self.size, self.root) {
            return Err(Refusal::Unsigned);
        }
        let known = newest.map_or(0, |head| head.size);
        if self.old != known {
            return Err(Refusal::Conflict(known));
        }
        let consistent = match newest {
            _ if self.size == 0 => self.proof.is_empty() && self.root == Digest::of(b""),
            Some(head) if head.size == self.size => self.proof.is_empty() && head.root == self.root,
            Some(head) if head.size > 0 => {
                let (new, old) = (Hash(self.root.0), Hash(head.root.0));
                check_tree(&self.proof, self.size, new, head.size, old).is_ok()
            }
            _ => self.proof.is_empty(),
        };
        if consistent { Ok(Head { size: self.size, root: self.root }) } else { Err(Refusal::Inconsistent) }
    }
}
