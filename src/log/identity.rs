//! Who the log is: its origin and the Ed25519 key that signs its checkpoints, kept in `DIR/log.key`.
//!
//! The file holds two lines, the `skey` and the `vkey` of C2SP signed-note, mode 0600. It is made once, at first
//! start, before there is a store, from the system's random source, and never replaced: two processes that start together
//! end with the same key, and beside a store without its key none is made. To bring a key and an origin of one's own, put such a file there first. The private half never leaves this
//! file and has no `Debug`.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use aigaq_proto::Digest;
use aigaq_proto::receipt::LogKey;
use aigaq_proto::succession::Succession;
use signed_note::{Note, Signer as _, StandardSigner};
use tlog_tiles::{Checkpoint, Hash};

use super::succession;
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::{self, Store};

/// Name of the key file in the data directory.
pub(super) const FILE: &str = "log.key";

/// The log's origin and signing key. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    signer: Arc<StandardSigner>,
    key: LogKey,
}

impl Identity {
    /// Reads `dir/log.key`, or makes it if there is none. `dir` must exist. To be called before the store in `dir` is made.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it is missing and the store is there: every recorder would refuse the receipts of another key.
    /// [`Kind::Invalid`] when the file cannot be read or is no such key, [`Kind::Internal`] when it cannot be made.
    pub fn load_or_create(dir: &Path) -> Result<Self> {
        if let Some(identity) = Self::load(dir)? {
            succession::check_key(dir, &identity.key)?;
            return Ok(identity);
        }
        if Store::exists(&dir.join(store::DIR)) {
            let lost = format!("{FILE} is missing, and the store has a log that it signed: restore it");
            return Err(Error::new(Kind::Damaged, lost));
        }
        let path = dir.join(FILE);
        create(dir, &path).context(Kind::Internal, format!("cannot write the log's key {}", path.display()))?;
        Self::load(dir)?.ok_or_else(|| Error::new(Kind::Internal, "the log's key vanished while it was made"))
    }

    /// Reads `dir/log.key`; `None` if there is none. Changes nothing.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the file cannot be read or is no such key.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        read(&dir.join(FILE))
    }

    /// A new key that is kept nowhere; for tests and benches.
    #[must_use]
    pub fn ephemeral() -> Option<Self> {
        Self::parse(&generate(&origin())).ok()
    }

    /// The public half and the origin: what a verifier needs.
    #[must_use]
    pub fn key(&self) -> LogKey {
        self.key.clone()
    }

    /// The signed checkpoint of the tree with `size` entries and this root. The same tree gives the same bytes. The
    /// caller vouches that the tree is durable.
    pub(super) fn sign(&self, size: u64, root: Digest) -> Result<String> {
        let failed = |what: &str| Error::new(Kind::Internal, format!("cannot sign the checkpoint: {what}"));
        let tree =
            Checkpoint::new(self.signer.name(), size, Hash(root.0), "").map_err(|error| failed(&error.to_string()))?;
        let mut note = Note::new(&tree.to_bytes(), &[]).map_err(|error| failed(&error.to_string()))?;
        note.add_sigs(&[&*self.signer]).map_err(|error| failed(&error.to_string()))?;
        String::from_utf8(note.to_bytes()).map_err(|_| failed("not text"))
    }

    /// The statement that ends this log: the last thing that its key signs.
    pub(super) fn end(&self, statement: &Succession) -> Result<String> {
        let failed = |error: &dyn std::fmt::Display| Error::new(Kind::Internal, format!("cannot end the log: {error}"));
        let mut note = Note::new(statement.text().as_bytes(), &[]).map_err(|error| failed(&error))?;
        note.add_sigs(&[&*self.signer]).map_err(|error| failed(&error))?;
        String::from_utf8(note.to_bytes()).map_err(|error| failed(&error))
    }

    fn parse(text: &str) -> Result<Self> {
        let mismatch = || Error::new(Kind::Invalid, "the log's signing key and vkey do not belong together");
        let mut lines = text.lines();
        let (Some(skey), Some(vkey), None) = (lines.next(), lines.next(), lines.next()) else {
            return Err(Error::new(Kind::Invalid, "the log's key file does not have two lines"));
        };
        let signer = StandardSigner::new(skey).map_err(|_| mismatch())?;
        let key = LogKey::parse(vkey).map_err(|_| mismatch())?;
        let identity = Self { signer: Arc::new(signer), key };
        identity.key.open(&identity.sign(0, Digest::ZERO)?).map_err(|_| mismatch())?;
        Ok(identity)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.key.as_str()).finish()
    }
}

/// The key in a file; `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Identity>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Error::new(Kind::Invalid, format!("cannot read {}", path.display())).because(error));
        }
    };
    Identity::parse(&text)
        .map(Some)
        .map_err(|_| Error::new(Kind::Invalid, format!("{} does not hold a signing key and its vkey", path.display())))
}

/// A new key with this origin: what goes into its file, and its public half.
pub(super) fn make(origin: &str) -> Result<(String, LogKey)> {
    let text = generate(origin);
    let key = Identity::parse(&text)?.key();
    Ok((text, key))
}

/// An origin that no other log has.
fn origin() -> String {
    use rand_core::{OsRng, RngCore as _};
    format!("aigaq.local/{:08x}", OsRng.next_u32())
}

fn generate(origin: &str) -> String {
    let (skey, vkey) = signed_note::generate_key(&mut rand_core::OsRng, origin);
    format!("{skey}\n{vkey}\n")
}

/// Writes the file under another name, then links it to its own: whoever comes second leaves the first one's key alone.
fn create(dir: &Path, path: &Path) -> std::io::Result<()> {
    let draft = dir.join(format!("{FILE}.{}", std::process::id()));
    let _ = fs::remove_file(&draft);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(generate(&origin()).as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => fs::File::open(dir)?.sync_all(),
    }
}
