//! What the one who checks trusts: keys of logs, CAs, witnesses. It comes from a file of theirs, never from the bundle.
//!
//! ```toml
//! logs = ["log.example+1a2b3c4d+AW..."]      # vkeys (C2SP signed-note)
//! anchors = ["ca.pem"]                       # CAs of recorders and exporters: PEM files, paths from this file
//! witnesses = ["w1.example+5e6f7a8b+BA..."]  # vkeys of cosigners
//! quorum = 1                                 # how many of them must have signed the checkpoint; 0 if not given
//! timestamp_anchors = ["tsa.pem"]            # CAs of authorities for time stamps, as for anchors; none if not given
//! ```

use std::io::Read as _;
use std::path::{Path, PathBuf};

use aigaq_proto::cosignature::{self, WitnessKey};
use aigaq_proto::receipt::LogKey;
use serde::Deserialize;

use super::certificates;
use crate::error::{Context as _, Error, Kind, Result};

/// Longest file of trust or of anchors, bytes.
const BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    logs: Vec<String>,
    anchors: Vec<PathBuf>,
    #[serde(default)]
    witnesses: Vec<String>,
    #[serde(default)]
    quorum: usize,
    #[serde(default)]
    timestamp_anchors: Vec<PathBuf>,
}

/// Whom to believe.
#[derive(Debug, Clone)]
pub struct Trust {
    pub(super) logs: Vec<LogKey>,
    /// DER certificates of CAs.
    pub(super) anchors: Vec<Vec<u8>>,
    pub(super) witnesses: Vec<WitnessKey>,
    pub(super) quorum: usize,
    /// DER certificates of CAs of authorities for time stamps.
    pub(super) timestamp_anchors: Vec<Vec<u8>>,
}

impl Trust {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it, or a file that it names, is not what it should be.
    pub fn read(path: &Path) -> Result<Self> {
        let invalid = || format!("{} is no file of trust", path.display());
        let file: File = toml::from_str(&text(path)?).context(Kind::Invalid, invalid())?;
        let logs = file.logs.iter().map(|key| LogKey::parse(key)).collect::<Result<Vec<_>, _>>();
        let witnesses = file.witnesses.iter().map(|key| WitnessKey::parse(key)).collect::<Result<Vec<_>, _>>();
        let dir = path.parent().unwrap_or(Path::new(""));
        let (anchors, timestamp_anchors) =
            (certificates(dir, &file.anchors)?, certificates(dir, &file.timestamp_anchors)?);
        if file.quorum > file.witnesses.len() {
            return Err(Error::new(Kind::Invalid, "the quorum is greater than the number of witnesses"));
        }
        let witnesses = witnesses.context(Kind::Invalid, invalid())?;
        let logs = logs.context(Kind::Invalid, invalid())?;
        Ok(Self { logs, anchors, witnesses, quorum: file.quorum, timestamp_anchors })
    }

    /// How many of the witnesses that count have signed this checkpoint.
    pub(super) fn cosignatures(&self, checkpoint: &str) -> usize {
        cosignature::count(&self.witnesses, checkpoint)
    }
}

/// The certificates of these files.
fn certificates(dir: &Path, files: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for named in files {
        let named = dir.join(named);
        let found = certificates::pem(text(&named)?.as_bytes(), "CERTIFICATE");
        if found.is_empty() {
            return Err(Error::new(Kind::Invalid, format!("{} has no certificate", named.display())));
        }
        all.extend(found);
    }
    Ok(all)
}

fn text(path: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).context(Kind::Invalid, cannot())?;
    file.take(BYTES_MAX).read_to_string(&mut text).context(Kind::Invalid, cannot())?;
    Ok(text)
}
