//! What a recorder keeps beside its identity: the lock of the chain, the newest receipt, and the directory of the spool, in
//! whose newest file the chain's next place stands.
//!
//! `chain.lock` is held while the recorder runs, so that two processes cannot use one identity. `chain.state`, where older
//! versions wrote the next place, is read as long as the spool has never held a link.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use aigaq_proto::message::Receipt;
use aigaq_proto::{Digest, Micros, Sequence};

use crate::error::{Context, Error, Kind, Result};

const CHAIN: &str = "chain.state";
const LOCK: &str = "chain.lock";
const SPOOL: &str = "spool";
const RECEIPT: &str = "last_receipt";
const DEPARTED: &str = "departed";

/// The next place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Sequence of the next link.
    pub(super) sequence: Sequence,
    /// Digest of the link before it.
    pub(super) previous: Digest,
    /// Number of the next segment.
    pub(super) ordinal: u64,
}

#[derive(Serialize, Deserialize)]
struct ChainFile {
    next_sequence: u64,
    last_digest: String,
    next_ordinal: u64,
}

#[derive(Serialize, Deserialize)]
struct ReceiptFile {
    sequence: Sequence,
    digest: String,
    received_at: Micros,
    log_index: u64,
    proof: Vec<String>,
    checkpoint: String,
}

impl ReceiptFile {
    fn of(receipt: &Receipt) -> Self {
        Self {
            sequence: receipt.sequence,
            digest: receipt.digest.to_string(),
            received_at: receipt.received_at,
            log_index: receipt.log_index,
            proof: receipt.proof.iter().map(Digest::to_string).collect(),
            checkpoint: receipt.checkpoint.clone(),
        }
    }

    fn into_receipt(self) -> Option<Receipt> {
        Some(Receipt {
            sequence: self.sequence,
            digest: self.digest.parse().ok()?,
            received_at: self.received_at,
            log_index: self.log_index,
            proof: self.proof.iter().map(|hash| hash.parse().ok()).collect::<Option<_>>()?,
            checkpoint: self.checkpoint,
        })
    }
}

/// The directory of a recorder that runs.
pub(super) struct StateDir {
    dir: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Takes the directory for this process.
    ///
    /// # Errors
    /// [`Kind::Busy`] if another process has it, [`Kind::Internal`] if it cannot be written.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.context(Kind::Internal, format!("cannot write {}", path.display()))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            Error::new(Kind::Busy, format!("another process records with {}", dir.display())).because(error)
        })?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// The next place in the chain as an older version wrote it; `None` if none did.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if the file cannot be understood.
    pub(super) fn place(&self) -> Result<Option<Place>> {
        let Some(file) = self.read::<ChainFile>(CHAIN)? else { return Ok(None) };
        let previous = file.last_digest.parse().map_err(|_| self.damaged(CHAIN))?;
        if (file.next_sequence == 0) != (previous == Digest::ZERO) {
            return Err(self.damaged(CHAIN));
        }
        Ok(Some(Place { sequence: file.next_sequence, previous, ordinal: file.next_ordinal }))
    }

    /// Where the spool is.
    pub(super) fn spool(&self) -> PathBuf {
        self.dir.join(SPOOL)
    }

    /// Where it is written down what left the spool.
    pub(super) fn departed(&self) -> PathBuf {
        self.dir.join(DEPARTED)
    }

    /// The newest receipt; `None` if there is none, or only one that cannot be read: it is not needed to go on.
    pub(super) fn receipt(&self) -> Option<Receipt> {
        self.read::<ReceiptFile>(RECEIPT).ok()??.into_receipt()
    }

    /// Remembers the newest receipt. Whole on disk, but only `durable` says that it survives a loss of power.
    ///
    /// # Errors
    /// [`Kind::Internal`] if it cannot be written.
    pub(super) fn save_receipt(&self, receipt: &Receipt, durable: bool) -> Result<()> {
        self.write(RECEIPT, &ReceiptFile::of(receipt), durable)
    }

    fn damaged(&self, name: &str) -> Error {
        let path = self.dir.join(name);
        let text =
            format!("{} is damaged; remove it to go on after the newest link that the server has", path.display());
        Error::new(Kind::Damaged, text)
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<Option<T>> {
        match std::fs::read_to_string(self.dir.join(name)) {
            Ok(text) => toml::from_str(&text).map(Some).map_err(|_| self.damaged(name)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(Kind::Internal, format!("cannot read {}", self.dir.join(name).display())),
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T, durable: bool) -> Result<()> {
        let path = self.dir.join(name);
        let text = toml::to_string(value).context(Kind::Internal, format!("cannot encode {name}"))?;
        self.replace(&path, text.as_bytes(), durable)
            .context(Kind::Internal, format!("cannot write {}", path.display()))
    }

    fn replace(&self, path: &Path, bytes: &[u8], durable: bool) -> std::io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&new, path)?;
        if durable { File::open(&self.dir)?.sync_all() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(sequence: Sequence, digest: u8, ordinal: u64) -> Place {
        Place { sequence, previous: Digest([digest; 32]), ordinal }
    }

    #[test]
    fn what_is_remembered_is_read_again_and_only_by_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!((state.place().unwrap(), state.receipt()), (None, None));
        let digest = Digest([1; 32]);
        let text = format!("next_sequence = 7\nlast_digest = \"{digest}\"\nnext_ordinal = 5\n");
        std::fs::write(dir.path().join(CHAIN), text).unwrap();
        let receipt = Receipt {
            sequence: 6,
            digest: Digest([1; 32]),
            received_at: 1_768_641_245_500_000,
            log_index: 40,
            proof: vec![Digest([2; 32]), Digest([3; 32])],
            checkpoint: "log\n41\nAAAA\n\n— log BBBB\n".to_owned(),
        };
        state.save_receipt(&receipt, true).unwrap();
        assert_eq!(StateDir::open(dir.path()).err().unwrap().kind(), Kind::Busy);
        drop(state);
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!((state.place().unwrap(), state.receipt()), (Some(place(7, 1, 5)), Some(receipt)));
    }

    #[test]
    fn a_damaged_chain_state_is_not_guessed_at() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        std::fs::write(dir.path().join(CHAIN), "next_sequence = 7\n").unwrap();
        assert_eq!(state.place().unwrap_err().kind(), Kind::Damaged);
    }
}
