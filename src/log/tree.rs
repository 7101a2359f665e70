//! The writer's side of the log: the right edge of the tree in memory, and what a commit adds to it.
//!
//! [`Log::stage`] copies the edge and appends to the copy; [`Log::settle`] makes the copy the edge, after the commit
//! that holds its rows is durable. A staged tree that is dropped has changed nothing, and its checkpoint was not
//! signed: signing happens in `settle` alone. Proofs for the entries of the commit come from memory.

use std::path::Path;
use std::sync::Arc;

use aigaq_proto::receipt::entry;
use aigaq_proto::{Digest, Micros};

use super::edge::Edge;
use super::sidecar::Sidecar;
use super::succession::check_key;
use super::tile::WIDTH;
use super::witness::refusal;
use super::{Identity, Reader, Stamped, Witnessed};
use crate::error::{Error, Kind, Result};
use crate::store::{LogRow, Store};

/// The log as the writer holds it.
pub struct Log {
    store: Store,
    identity: Identity,
    sidecar: Option<Sidecar>,
    edge: Edge,
    witnessed: Witnessed,
    stamped: Stamped,
    /// How it came after the logs before it.
    succession: Arc<str>,
}

/// The log as it will be after a commit.
#[derive(Debug)]
pub struct Staged {
    edge: Edge,
    before: u64,
    rows: Vec<LogRow>,
}

/// Proofs and the checkpoint of the newest commit.
pub struct Settled<'a> {
    log: &'a Log,
    checkpoint: String,
}

impl Log {
    /// Loads the right edge from the store. With `dir`, the newest checkpoint is kept in `dir/checkpoint` too and
    /// must agree with the store.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the store lacks rows of its log, or when the kept checkpoint is of a larger or another
    /// tree: acknowledged data was lost.
    pub fn open(store: Store, identity: Identity, dir: Option<&Path>) -> Result<Self> {
        let edge = Edge::load(&store)?;
        let (witnessed, stamped) = (Witnessed::default(), Stamped::default());
        let notes = dir.map(|dir| check_key(dir, &identity.key())).transpose()?.unwrap_or_default();
        let succession = notes.into();
        let log = Self { store, identity, sidecar: dir.map(Sidecar::new), edge, witnessed, stamped, succession };
        if let Some(dir) = dir {
            if let Some(unsettled) = log.store.restored()?.filter(|restored| !restored.is_settled()) {
                let text = unsettled_text(unsettled.log_size);
                tracing::error!("{}", refusal(&text));
                log.witnessed.contradict(&text);
            }
            if log.reader().check_kept(dir)?.is_none() && log.size() > 0 {
                tracing::warn!("no checkpoint lies beside the store: that it is the newest is taken on trust");
            }
            log.witnessed.keep_in(dir, &log.reader())?;
            log.stamped.keep_in(dir)?;
        }
        log.newest()?.keep()?;
        Ok(log)
    }

    /// Number of entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The side of everybody else.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.store.clone(), self.identity.clone()).with(
            self.witnessed.clone(),
            self.stamped.clone(),
            Arc::clone(&self.succession),
        )
    }

    /// Whether a witness has shown that this log signed another history: then nothing may be signed any more.
    #[must_use]
    pub fn is_contradicted(&self) -> bool {
        self.witnessed.contradiction().is_some()
    }

    /// Begins the log of the next commit.
    #[must_use]
    pub fn stage(&self) -> Staged {
        Staged { edge: self.edge.newest_tiles(), before: self.edge.size(), rows: Vec::new() }
    }

    /// Takes over what was staged and signs its checkpoint. Only after the commit with its rows is durable.
    ///
    /// # Errors
    /// [`Kind::Internal`] when `staged` does not follow this log or signing fails: the caller must stop acknowledging.
    pub fn settle(&mut self, staged: Staged) -> Result<Settled<'_>> {
        if staged.before != self.edge.size() {
            return Err(Error::new(Kind::Internal, "the staged log does not follow the log"));
        }
        self.edge = staged.edge;
        self.newest()
    }

    fn newest(&self) -> Result<Settled<'_>> {
        let checkpoint = self.identity.sign(self.edge.size(), self.edge.root()?)?;
        Ok(Settled { log: self, checkpoint })
    }
}

impl Staged {
    /// Appends an entry; its index.
    pub fn append(&mut self, digest: &Digest, received_at: Micros) -> u64 {
        let index = self.edge.size();
        let bytes = entry(digest, received_at);
        write(&mut self.rows, 0, index, &bytes);
        let rows = &mut self.rows;
        self.edge.append(&bytes, |level, unit, root| write(rows, level, unit, &root.0));
        index
    }

    /// Number of entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The rows to store with the commit, taken out.
    #[must_use]
    pub fn take_rows(&mut self) -> Vec<LogRow> {
        std::mem::take(&mut self.rows)
    }
}

/// What keeps a store from signing that was put back and not told how its log goes on.
fn unsettled_text(size: u64) -> String {
    format!("this store was put back from a backup with {size} entries, and its log may have signed more")
}

/// Adds a unit to the last row of its level, or opens a new row at a tile's border.
fn write(rows: &mut Vec<LogRow>, level: u8, index: u64, bytes: &[u8]) {
    let at_border = index.is_multiple_of(WIDTH as u64);
    match rows.iter_mut().rev().find(|row| row.level == level) {
        Some(row) if !at_border => row.bytes.extend_from_slice(bytes),
        _ => rows.push(LogRow { level, first: index, bytes: bytes.to_vec() }),
    }
}

impl Settled<'_> {
    /// The signed checkpoint of the commit.
    #[must_use]
    pub fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// Number of entries after the commit.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.log.edge.size()
    }

    /// Writes the checkpoint beside the store, where the log was opened with a directory.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it cannot be written. Nothing that was promised depends on it.
    pub fn keep(&self) -> Result<()> {
        self.log.sidecar.as_ref().map_or(Ok(()), |sidecar| sidecar.write(&self.checkpoint))
    }

    /// The inclusion proof of an entry of the commit.
    ///
    /// # Errors
    /// [`Kind::Internal`] for an entry that is older than the commit.
    pub fn prove(&self, index: u64) -> Result<Vec<Digest>> {
        self.log.edge.prove(index)
    }
}
