//! Receipts: the log entry of a link, and the check of the promise that it is in the log (SPEC.md section 10).

use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{Checkpoint, Hash, check_record, check_tree, record_hash};

use crate::limits::{CHECKPOINT_BYTES_MAX, PROOF_HASHES_MAX};
use crate::message::Receipt;
use crate::{Digest, Error, Micros};

/// Length of a log entry, bytes.
pub const ENTRY_BYTES: usize = 40;

/// The log entry of a link: its digest, then the server's received-at, 8 bytes big-endian.
#[must_use]
pub fn entry(digest: &Digest, received_at: Micros) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    let (head, tail) = entry.split_at_mut(32);
    head.copy_from_slice(&digest.0);
    tail.copy_from_slice(&received_at.to_be_bytes());
    entry
}

/// Who a log is: the key that signs its checkpoints, in the `vkey` encoding of C2SP signed-note, whose name is the
/// log's origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey(String);

impl LogKey {
    /// Reads the `vkey` text, such as `aigaq.example+1a2b3c4d+AW...`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not an Ed25519 `vkey`, [`Error::NotCanonical`] if its key id is not in lower case.
    pub fn parse(vkey: &str) -> Result<Self, Error> {
        StandardVerifier::new(vkey).map_err(|_| Error::Malformed("log key"))?;
        let lower_case = vkey.split('+').nth(1).is_some_and(|id| !id.bytes().any(|digit| digit.is_ascii_uppercase()));
        if lower_case { Ok(Self(vkey.to_owned())) } else { Err(Error::NotCanonical("log key")) }
    }

    /// The text that [`LogKey::parse`] reads.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The log's origin: the first line of each of its checkpoints.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.0.split('+').next().unwrap_or_default()
    }

    /// Reads a signed checkpoint of this log: tree size and root hash.
    ///
    /// # Errors
    /// [`Error::OverLimit`] if it is too long, [`Error::Malformed`] if it is no signed checkpoint,
    /// [`Error::BadSignature`] if this log did not sign it, [`Error::Mismatch`] if its origin is another.
    pub fn open(&self, checkpoint: &str) -> Result<(u64, Digest), Error> {
        within("checkpoint", CHECKPOINT_BYTES_MAX, checkpoint.len())?;
        let verifier = StandardVerifier::new(&self.0).map_err(|_| Error::Malformed("log key"))?;
        let note = Note::from_bytes(checkpoint.as_bytes()).map_err(|_| Error::Malformed("checkpoint"))?;
        note.verify(&VerifierList::new(vec![Box::new(verifier)])).map_err(|_| Error::BadSignature)?;
        let tree = Checkpoint::from_bytes(note.text()).map_err(|_| Error::Malformed("checkpoint"))?;
        if tree.origin() != self.origin() {
            return Err(Error::Mismatch("log origin"));
        }
        Ok((tree.size(), Digest(tree.hash().0)))
    }
}

fn within(field: &'static str, limit: usize, actual: usize) -> Result<(), Error> {
    if actual > limit { Err(Error::OverLimit { field, limit: limit as u64, actual: actual as u64 }) } else { Ok(()) }
}

/// Checks that `receipt` is this log's promise for the link with `digest`. The receipt's sequence is only a name: the
/// digest covers the true one, so take `digest` from the link that was sent with that sequence.
///
/// # Errors
/// [`Error::Mismatch`] if it speaks of another link or its proof does not lead to the checkpoint's root,
/// [`Error::OverLimit`] if the proof is too long, and whatever [`LogKey::open`] finds.
pub fn verify(receipt: &Receipt, digest: &Digest, log: &LogKey) -> Result<(), Error> {
    if receipt.digest != *digest {
        return Err(Error::Mismatch("receipt and link digest"));
    }
    let (size, root) = log.open(&receipt.checkpoint)?;
    verify_inclusion(&entry(&receipt.digest, receipt.received_at), receipt.log_index, &receipt.proof, size, &root)
}

/// Checks that the tree with `size` entries and this root has `entry` at `index` (RFC 6962 section 2.1.1).
///
/// # Errors
/// [`Error::OverLimit`] if the proof is too long, [`Error::Mismatch`] if the index is beyond the tree or the proof does not
/// lead to the root.
pub fn verify_inclusion(
    entry: &[u8; ENTRY_BYTES],
    index: u64,
    proof: &[Digest],
    size: u64,
    root: &Digest,
) -> Result<(), Error> {
    within("proof", PROOF_HASHES_MAX, proof.len())?;
    if index >= size {
        return Err(Error::Mismatch("log index and tree size"));
    }
    let proof: Vec<Hash> = proof.iter().map(|hash| Hash(hash.0)).collect();
    check_record(&proof, size, Hash(root.0), index, record_hash(entry)).map_err(|_| Error::Mismatch("inclusion proof"))
}

/// Checks that the tree with the first `old` entries of a log and the root `before` is the beginning of the tree with `size`
/// entries and this root (RFC 6962 section 2.1.2). Of equal trees the proof is empty.
///
/// # Errors
/// [`Error::OverLimit`] if the proof is too long, [`Error::Mismatch`] if it does not lead from the one root to the other.
pub fn verify_consistency(old: u64, before: &Digest, proof: &[Digest], size: u64, root: &Digest) -> Result<(), Error> {
    within("proof", PROOF_HASHES_MAX, proof.len())?;
    let wrong = Error::Mismatch("consistency proof");
    if old == size {
        return if proof.is_empty() && before == root { Ok(()) } else { Err(wrong) };
    }
    if old == 0 || old > size {
        return Err(wrong);
    }
    let proof: Vec<Hash> = proof.iter().map(|hash| Hash(hash.0)).collect();
    check_tree(&proof, size, Hash(root.0), old, Hash(before.0)).map_err(|_| wrong)
}
