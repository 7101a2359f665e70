//! Words that the command line leaves for the server in the data directory, because only the server may open the store:
//! `DIR/enrolled/<id>.toml`, a recorder was enrolled; `DIR/revoked/<id>.toml`, its identity is taken back.
//!
//! A word is whole and durable when it is there, works before the first start, while the server runs and in between, and goes only
//! when what it says is durable in the store. The same word twice changes nothing. A revocation of a recorder that nobody knows
//! becomes `DIR/revoked/<id>.refused`, so that the one who left it finds out.

use std::path::{Path, PathBuf};

use aigaq_proto::signature::PublicKey;
use aigaq_proto::{Micros, RecorderId};
use data_encoding::HEXLOWER;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{files, text};
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::records::{RecorderKey, RecorderKind, RecorderRecord};

/// Where the words of enrolments are.
pub(super) const ENROLLED: &str = "enrolled";
/// Where the words of revocations are.
pub(super) const REVOKED: &str = "revoked";
/// What the word of a revocation ends in once it was refused.
const REFUSED: &str = "refused";

/// `DIR/enrolled/<id>.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Enrolled {
    pub(super) id: String,
    pub(super) kind: RecorderKind,
    pub(super) department: String,
    pub(super) label: String,
    /// DER `SubjectPublicKeyInfo`, hexadecimal.
    pub(super) spki: String,
    pub(super) enrolled_at: Micros,
    /// When its certificate ends; absent where an existing CA says that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) not_after: Option<Micros>,
}

/// `DIR/revoked/<id>.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Revoked {
    pub(super) id: String,
    pub(super) reason: String,
}

impl Enrolled {
    pub(super) fn leave(&self, data: &Path) -> Result<()> {
        leave(&data.join(ENROLLED), &self.id, self)
    }

    /// Whether word of this recorder waits.
    pub(super) fn waits(data: &Path, id: RecorderId) -> bool {
        word(&data.join(ENROLLED), id).exists()
    }

    /// The record in a file; `None` if the file is gone. The identity must be that of the key and of the file's name.
    pub(super) fn read(path: &Path) -> Result<Option<RecorderRecord>> {
        let Some(word) = read::<Self>(path)? else { return Ok(None) };
        let spki = HEXLOWER.decode(word.spki.as_bytes()).map_err(|_| damaged(path, "the key is not hexadecimal"))?;
        PublicKey::from_spki(&spki).map_err(|_| damaged(path, "the key is not one for recorders"))?;
        let key = RecorderKey { spki, since: word.enrolled_at, not_after: word.not_after };
        let record = RecorderRecord::new(word.kind, word.department, word.label, key);
        if word.id != record.id.to_string() || !is_named(path, &word.id) {
            return Err(damaged(path, "the identity is not that of the key"));
        }
        Ok(Some(record))
    }
}

impl Revoked {
    pub(super) fn leave(&self, data: &Path) -> Result<()> {
        leave(&data.join(REVOKED), &self.id, self)
    }

    /// Whether word of this recorder waits.
    pub(super) fn waits(data: &Path, id: RecorderId) -> bool {
        word(&data.join(REVOKED), id).exists()
    }

    /// Removes the word.
    pub(super) fn take_back(data: &Path, id: RecorderId) -> Result<()> {
        gone(&word(&data.join(REVOKED), id)).map(|_| ())
    }

    /// Says that nobody knows the recorder of this word.
    pub(super) fn refuse(path: &Path) -> Result<()> {
        std::fs::rename(path, path.with_extension(REFUSED)).context(Kind::Internal, "cannot refuse a revocation")
    }

    /// Whether the word of this recorder was refused; told once.
    pub(super) fn take_refusal(data: &Path, id: RecorderId) -> Result<bool> {
        gone(&word(&data.join(REVOKED), id).with_extension(REFUSED))
    }

    /// Whose identity is taken back and why; `None` if the file is gone.
    pub(super) fn read(path: &Path) -> Result<Option<(RecorderId, String)>> {
        let Some(word) = read::<Self>(path)? else { return Ok(None) };
        let id = word.id.parse().map_err(|_| damaged(path, "no recorder has such an identity"))?;
        if !is_named(path, &word.id) {
            return Err(damaged(path, "the identity is not that of the file's name"));
        }
        Ok(Some((id, word.reason)))
    }
}

fn word(dir: &Path, id: RecorderId) -> PathBuf {
    dir.join(format!("{id}.toml"))
}

/// Removes a file; whether it was there.
fn gone(path: &Path) -> Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context(Kind::Internal, format!("cannot remove {}", path.display())),
    }
}

fn leave(dir: &Path, id: &str, word: &impl Serialize) -> Result<()> {
    files::make_private_dir(dir)?;
    files::write(&dir.join(format!("{id}.toml")), text(word)?.as_bytes(), files::SECRET)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = files::read(path)? else { return Ok(None) };
    toml::from_str(&text).map(Some).map_err(|_| damaged(path, "it does not read"))
}

fn is_named(path: &Path, id: &str) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_string_lossy() == id)
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::new(Kind::Invalid, format!("{}: {what}", path.display()))
}
