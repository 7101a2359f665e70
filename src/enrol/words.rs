//! Words that the command line leaves for the server in the data directory, because only the server may open the store:
//! `DIR/enrolled/<id>.toml`, a recorder was enrolled; `DIR/revoked/<id>.toml`, its identity is taken back.
//!
//! A word is whole and durable when it is there, works before the first start, while the server runs and in between, and goes only
//! when what it says is durable in the store. The same word twice changes nothing.

use std::path::Path;

use aigaq_proto::signature::PublicKey;
use aigaq_proto::{Micros, RecorderId};
use data_encoding::HEXLOWER;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{files, text};
use crate::error::{Error, Kind, Result};
use crate::store::records::{RecorderKey, RecorderKind, RecorderRecord};

/// Where the words of enrolments are.
pub(super) const ENROLLED: &str = "enrolled";
/// Where the words of revocations are.
pub(super) const REVOKED: &str = "revoked";

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
