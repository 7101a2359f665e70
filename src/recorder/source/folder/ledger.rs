//! What became of the files of a folder, in `folder.state` in the directory of the recorder's identity.
//!
//! Each change is whole and durable before it is acted on. An entry goes when its file was removed. One whose file is missing
//! stays, because a card that was pulled out comes back; the oldest of very many go.

use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use aigaq_proto::{Micros, Sequence};

use super::scan::Key;
use crate::error::{Context, Error, Kind, Result};
use crate::recorder::source::Standing;

const NAME: &str = "folder.state";
/// Greatest number of entries.
const ENTRIES_MAX: usize = 20_000;

/// The ledger.
pub(super) struct Ledger {
    path: PathBuf,
    files: Files,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Files {
    #[serde(default)]
    file: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    modified_us: Micros,
    /// Sequence of its first link, and number of its first segment.
    sequence: Sequence,
    ordinal: u64,
    /// Sequence after its last link, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<Sequence>,
    /// Whether it cannot be recorded.
    #[serde(default)]
    bad: bool,
}

impl Entry {
    fn is(&self, key: &Key) -> bool {
        (&self.name, self.bytes, self.modified_us) == (&key.name, key.bytes, key.modified_us)
    }
}

impl Ledger {
    /// Reads the ledger in `dir`. Blocks.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it cannot be understood: then nothing is known of what was recorded.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let files = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|_| {
                let text = format!(
                    "{} is damaged; remove it to record what is in the folder from the beginning",
                    path.display()
                );
                Error::new(Kind::Damaged, text)
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Files::default(),
            Err(error) => return Err(error).context(Kind::Internal, format!("cannot read {}", path.display())),
        };
        Ok(Self { path, files })
    }

    fn entry(&self, key: &Key) -> Option<&Entry> {
        self.files.file.iter().find(|entry| entry.is(key))
    }

    pub(super) fn is_bad(&self, key: &Key) -> bool {
        self.entry(key).is_some_and(|entry| entry.bad)
    }

    /// The links of the file, if every one of them was made.
    pub(super) fn recorded(&self, key: &Key) -> Option<Range<Sequence>> {
        let entry = self.entry(key).filter(|entry| !entry.bad)?;
        Some(entry.sequence..entry.end?)
    }

    /// The file is being recorded from where the chain stands, unless it was begun before. Number of its first segment.
    pub(super) async fn begin(&mut self, key: &Key, standing: &Standing) -> Result<u64> {
        if let Some(entry) = self.entry(key) {
            return Ok(entry.ordinal);
        }
        let Key { name, bytes, modified_us } = key.clone();
        let Standing { sequence, ordinal, .. } = *standing;
        let surplus = (self.files.file.len() + 1).saturating_sub(ENTRIES_MAX);
        self.files.file.drain(..surplus);
        self.files.file.push(Entry { name, bytes, modified_us, sequence, ordinal, end: None, bad: false });
        self.save().await?;
        Ok(ordinal)
    }

    /// Every segment of the file was made.
    pub(super) async fn end(&mut self, key: &Key, standing: &Standing) -> Result<()> {
        self.change(key, |entry| entry.end = Some(standing.sequence)).await
    }

    /// The file cannot be recorded.
    pub(super) async fn bad(&mut self, key: &Key) -> Result<()> {
        self.change(key, |entry| entry.bad = true).await
    }

    /// The file is gone.
    pub(super) async fn forget(&mut self, key: &Key) -> Result<()> {
        self.files.file.retain(|entry| !entry.is(key));
        self.save().await
    }

    async fn change(&mut self, key: &Key, change: impl FnOnce(&mut Entry)) -> Result<()> {
        if let Some(entry) = self.files.file.iter_mut().find(|entry| entry.is(key)) {
            change(entry);
        }
        self.save().await
    }

    /// Durable on return.
    async fn save(&self) -> Result<()> {
        let text = toml::to_string(&self.files).context(Kind::Internal, format!("cannot encode {NAME}"))?;
        let path = self.path.clone();
        super::blocking(move || {
            replace(&path, text.as_bytes()).context(Kind::Internal, format!("cannot write {}", path.display()))
        })
        .await
    }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::source::Fate;

    fn key(name: &str, bytes: u64) -> Key {
        Key { name: name.to_owned(), bytes, modified_us: 7 }
    }

    fn standing(sequence: Sequence, ordinal: u64) -> Standing {
        Standing { sequence, ordinal, fate: Fate::Received }
    }

    #[tokio::test]
    async fn what_was_begun_and_ended_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::load(dir.path()).unwrap();
        assert_eq!(ledger.begin(&key("a", 1), &standing(10, 8)).await.unwrap(), 8);
        assert_eq!(ledger.begin(&key("b", 2), &standing(20, 16)).await.unwrap(), 16);
        ledger.end(&key("b", 2), &standing(25, 19)).await.unwrap();
        let mut ledger = Ledger::load(dir.path()).unwrap();
        assert_eq!(
            ledger.begin(&key("a", 1), &standing(14, 11)).await.unwrap(),
            8,
            "it goes on with its fourth segment"
        );
        assert_eq!(ledger.recorded(&key("b", 2)), Some(20..25));
        assert_eq!(ledger.recorded(&key("b", 3)), None, "another file of that name");
        assert_eq!(ledger.recorded(&key("a", 1)), None);
        ledger.forget(&key("b", 2)).await.unwrap();
        ledger.bad(&key("a", 1)).await.unwrap();
        let ledger = Ledger::load(dir.path()).unwrap();
        assert!(ledger.is_bad(&key("a", 1)) && ledger.recorded(&key("b", 2)).is_none());
    }

    #[test]
    fn a_damaged_ledger_is_not_guessed_at() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), "file = 3").unwrap();
        assert_eq!(Ledger::load(dir.path()).err().unwrap().kind(), Kind::Damaged);
    }
}
