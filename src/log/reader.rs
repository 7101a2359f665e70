//! The log as everybody but the writer sees it: checkpoints, tiles in the C2SP layout, and receipts, from what is
//! stored.
//!
//! A receipt belongs to the tree of the commit that stored its link and signing is deterministic, so that a link's
//! receipt is the same bytes whenever it is asked for. Each proof is checked before it is signed for: damaged rows
//! give [`Kind::Damaged`], never a checkpoint that contradicts another.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aigaq_proto::message::Receipt;
use aigaq_proto::receipt::{ENTRY_BYTES, LogKey, entry};
use aigaq_proto::{Digest, LinkHeader, link};
use data_encoding::BASE64;
use tlog_tiles::{
    Error as TreeError, Hash, HashReader, check_record, check_tree, prove_record, prove_tree, record_hash, tree_hash,
};

use super::edge::{Node, units_of};
use super::tile::{HEIGHT, Tile, WIDTH};
use super::{Identity, Stamped, Witnessed};

use crate::error::{Context as _, Error, Kind, Result};
use crate::store::Store;
use crate::store::records::LinkRecord;

/// Full tiles kept in memory, about 16 KiB each.
const TILES_MAX: usize = 64;
/// Highest level of a tile in a log with 2^64 entries.
const LEVEL_MAX: u8 = 7;

/// A tree of the log, with its signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Number of its entries.
    pub size: u64,
    /// Its root.
    pub root: Digest,
    /// The signed note.
    pub checkpoint: String,
}

/// Reads the log. Cheap to clone; its methods block on the store.
#[derive(Clone)]
pub struct Reader {
    pub(super) store: Store,
    identity: Identity,
    cache: Arc<Mutex<Cache>>,
    witnessed: Witnessed,
    pub(super) stamped: Stamped,
    succession: Arc<str>,
}

#[derive(Debug, Default)]
struct Cache {
    /// Full tiles by level and number: they never change.
    tiles: HashMap<(u8, u64), Arc<Tile>>,
    /// The checkpoint that was signed last, with its tree.
    checkpoint: Option<(u64, Digest, String)>,
}

impl Reader {
    /// A reader of the log in `store`.
    #[must_use]
    pub fn new(store: Store, identity: Identity) -> Self {
        Self {
            store,
            identity,
            cache: Arc::default(),
            witnessed: Witnessed::default(),
            stamped: Stamped::default(),
            succession: Arc::default(),
        }
    }

    /// The same with what witnesses and authorities said, and how it came after the logs before it.
    pub(super) fn with(self, witnessed: Witnessed, stamped: Stamped, succession: Arc<str>) -> Self {
        Self { witnessed, stamped, succession, ..self }
    }

    /// The statements by which the logs before this one ended, oldest first; empty for the first (SPEC.md section 10.3).
    #[must_use]
    pub fn succession(&self) -> &str {
        &self.succession
    }

    /// The keys of the logs before this one, oldest first.
    #[must_use]
    pub fn predecessors(&self) -> Vec<LogKey> {
        let read = aigaq_proto::succession::read(&self.succession).unwrap_or_default();
        read.into_iter().map(|statement| statement.old).collect()
    }

    /// Somebody shows a tree that this log signed. If the store does not have it, or has it otherwise, that is a contradiction, after which
    /// nothing is signed any more. Whether the store has it.
    ///
    /// # Errors
    /// Those of [`Reader::root`].
    pub fn show(&self, who: &str, size: u64, root: Digest) -> Result<bool> {
        let ours = self.size()?;
        let contradiction = match size <= ours {
            true if self.root(size)? == root => return Ok(true),
            true => format!("{who} shows that this log signed other {size} first entries than the store has"),
            false => format!("{who} shows that this log signed {size} entries, the store has {ours}"),
        };
        tracing::error!("{}", super::witness::refusal(&contradiction));
        self.witnessed.contradict(&contradiction);
        Ok(false)
    }

    /// Who the log is.
    #[must_use]
    pub fn key(&self) -> LogKey {
        self.identity.key()
    }

    /// Number of durable entries.
    ///
    /// # Errors
    /// Those of the store.
    pub fn size(&self) -> Result<u64> {
        self.store.log_size()
    }

    /// The signed checkpoint of the newest durable tree.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when rows of the log are missing.
    pub fn checkpoint(&self) -> Result<String> {
        let size = self.size()?;
        Ok(self.checkpoint_of(size)?.1)
    }

    /// The newest durable tree.
    ///
    /// # Errors
    /// As [`Reader::checkpoint`].
    pub fn newest(&self) -> Result<Tree> {
        self.tree(self.size()?)
    }

    /// The tree with the first `size` entries, which must be durable; its checkpoint has the signature of the log alone.
    ///
    /// # Errors
    /// As [`Reader::root`].
    pub fn tree(&self, size: u64) -> Result<Tree> {
        let (root, checkpoint) = self.checkpoint_of(size)?;
        Ok(Tree { size, root, checkpoint })
    }

    /// The inclusion proof of an entry in a tree, checked against its root.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the log does not have it there.
    pub fn prove_entry(&self, entry: &[u8; ENTRY_BYTES], index: u64, tree: &Tree) -> Result<Vec<Digest>> {
        let nodes = Nodes::new(self, tree.size);
        let proof = prove_record(tree.size, index, &nodes).map_err(|error| nodes.explain(error))?;
        check_record(&proof, tree.size, Hash(tree.root.0), index, record_hash(entry)).map_err(damaged)?;
        Ok(proof.into_iter().map(|hash| Digest(hash.0)).collect())
    }

    /// The proof that the tree with the first `old` entries is the beginning of `tree` (RFC 6962 section 2.1.2), checked.
    /// Empty for no entries and for all.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when `tree` is shorter, [`Kind::Damaged`] when rows are missing.
    pub fn prove_consistency(&self, old: u64, tree: &Tree) -> Result<Vec<Digest>> {
        if old > tree.size {
            return Err(Error::new(Kind::NotFound, "the tree is shorter"));
        }
        if old == 0 {
            return Ok(Vec::new());
        }
        let before = self.root(old)?;
        let nodes = Nodes::new(self, tree.size);
        let proof = prove_tree(tree.size, old, &nodes).map_err(|error| nodes.explain(error))?;
        check_tree(&proof, tree.size, Hash(tree.root.0), old, Hash(before.0)).map_err(damaged)?;
        Ok(proof.into_iter().map(|hash| Digest(hash.0)).collect())
    }

    /// The C2SP tlog-proof of an entry in a tree, with the tree's checkpoint and its cosignatures.
    ///
    /// # Errors
    /// As [`Reader::prove_entry`].
    pub fn tlog_proof(&self, entry: &[u8; ENTRY_BYTES], index: u64, tree: &Tree) -> Result<String> {
        let line = |hash: &Digest| format!("{}\n", BASE64.encode(&hash.0));
        let proof: String = self.prove_entry(entry, index, tree)?.iter().map(line).collect();
        Ok(format!("c2sp.org/tlog-proof@v1\nindex {index}\n{proof}\n{}", tree.checkpoint))
    }

    /// The tree to prove an entry in: the newest one that the quorum of witnesses cosigned, if the entry is in it, else the
    /// newest.
    ///
    /// # Errors
    /// As [`Reader::checkpoint`].
    pub fn tree_with(&self, index: u64) -> Result<Tree> {
        match self.witnessed.tree() {
            Some(tree) if index < tree.size => Ok(tree),
            _ => self.newest(),
        }
    }

    /// The checkpoint that is published: the newest that the quorum of witnesses cosigned; the newest of all while there is none.
    ///
    /// # Errors
    /// As [`Reader::checkpoint`].
    pub fn published(&self) -> Result<String> {
        self.witnessed.tree().map_or_else(|| self.checkpoint(), |tree| Ok(tree.checkpoint))
    }

    /// What witnesses said of this log.
    #[must_use]
    pub fn witnessed(&self) -> &Witnessed {
        &self.witnessed
    }

    /// The root of the tree with the first `size` entries, which must be durable.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the log is shorter, [`Kind::Damaged`] when rows are missing.
    pub fn root(&self, size: u64) -> Result<Digest> {
        if size > self.size()? {
            return Err(Error::new(Kind::NotFound, "the log is shorter"));
        }
        let nodes = Nodes::new(self, size);
        tree_hash(size, &nodes).map(|hash| Digest(hash.0)).map_err(|error| nodes.explain(error))
    }

    /// A tile of hashes (C2SP tlog-tiles `tile/<level>/<n>[.p/<width>]`): `width` (1 to 256) hashes, concatenated.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the log does not have that many.
    pub fn tile(&self, level: u8, n: u64, width: u16) -> Result<Vec<u8>> {
        let units = self.units(level, n, width)?;
        Ok(units_of(&self.store, level, units)?.iter().flat_map(|hash| hash.0).collect())
    }

    /// An entry bundle (C2SP tlog-tiles `tile/entries/<n>[.p/<width>]`): each of `width` (1 to 256) entries after its
    /// length as 16 bits, big-endian.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the log does not have that many.
    pub fn entries(&self, n: u64, width: u16) -> Result<Vec<u8>> {
        let rows = self.store.log_rows(0, self.units(0, n, width)?)?;
        let length = (ENTRY_BYTES as u16).to_be_bytes();
        Ok(rows.chunks_exact(ENTRY_BYTES).flat_map(|entry| [&length[..], entry]).flatten().copied().collect())
    }

    /// The receipt of a stored link: the same as on the day of its commit, byte for byte.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the link or the log is not what was committed.
    pub fn receipt(&self, record: &LinkRecord, digest: &Digest) -> Result<Receipt> {
        if link::digest(&record.header) != *digest {
            return Err(Error::new(Kind::Damaged, "a stored link does not have its digest"));
        }
        let header = LinkHeader::decode(&record.header).context(Kind::Damaged, "a stored header does not decode")?;
        let tree = self.tree(record.tree_size)?;
        let proof = self.prove_entry(&entry(digest, record.received_at), record.log_index, &tree)?;
        let Tree { checkpoint, .. } = tree;
        Ok(Receipt {
            sequence: header.sequence,
            digest: *digest,
            received_at: record.received_at,
            log_index: record.log_index,
            proof,
            checkpoint,
        })
    }

    /// The root of the tree with the first `size` entries and its signed checkpoint.
    fn checkpoint_of(&self, size: u64) -> Result<(Digest, String)> {
        if let Some((_, root, checkpoint)) = self.cache().checkpoint.as_ref().filter(|kept| kept.0 == size) {
            return Ok((*root, checkpoint.clone()));
        }
        let root = self.root(size)?;
        let checkpoint = self.identity.sign(size, root)?;
        self.cache().checkpoint = Some((size, root, checkpoint.clone()));
        Ok((root, checkpoint))
    }

    /// The units of a tile, if the log has that many.
    fn units(&self, level: u8, n: u64, width: u16) -> Result<Range<u64>> {
        let absent = || Error::new(Kind::NotFound, "the log has no such tile");
        if width == 0 || usize::from(width) > WIDTH || level > LEVEL_MAX {
            return Err(absent());
        }
        let first = n.checked_mul(WIDTH as u64).ok_or_else(absent)?;
        let end = first.checked_add(u64::from(width)).ok_or_else(absent)?;
        if end > units_in(self.size()?, level) { Err(absent()) } else { Ok(first..end) }
    }

    /// The tile with this number in the tree with `size` entries.
    fn pyramid(&self, level: u8, n: u64, size: u64) -> Result<Arc<Tile>> {
        if let Some(tile) = self.cache().tiles.get(&(level, n)) {
            return Ok(Arc::clone(tile));
        }
        let first = n.saturating_mul(WIDTH as u64);
        let end = units_in(size, level).min(first.saturating_add(WIDTH as u64));
        let tile = Arc::new(Tile::of(units_of(&self.store, level, first..end)?));
        if tile.root().is_some() {
            let tiles = &mut self.cache().tiles;
            if tiles.len() >= TILES_MAX {
                tiles.clear();
            }
            tiles.insert((level, n), Arc::clone(&tile));
        }
        Ok(tile)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The nodes of the tree with the first `size` entries.
struct Nodes<'a> {
    reader: &'a Reader,
    size: u64,
    /// What the store said when a node could not be read.
    failure: Cell<Option<Error>>,
}

impl<'a> Nodes<'a> {
    fn new(reader: &'a Reader, size: u64) -> Self {
        Self { reader, size, failure: Cell::default() }
    }

    fn explain(&self, error: TreeError) -> Error {
        self.failure.take().unwrap_or_else(|| damaged(error))
    }

    fn tile(&self, node: Node) -> Result<Arc<Tile>, TreeError> {
        self.reader.pyramid(node.level, node.tile, self.size).map_err(|error| {
            self.failure.set(Some(error));
            TreeError::IndexesNotInTree
        })
    }
}

impl HashReader for Nodes<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, TreeError> {
        let mut last: Option<(u8, u64, Arc<Tile>)> = None;
        let mut hashes = Vec::with_capacity(indexes.len());
        for index in indexes {
            let node = Node::of(*index);
            let tile = match &last {
                Some((level, n, tile)) if (*level, *n) == (node.level, node.tile) => Arc::clone(tile),
                _ => self.tile(node)?,
            };
            hashes.push(tile.node(node.height, node.index).ok_or(TreeError::IndexesNotInTree)?);
            last = Some((node.level, node.tile, tile));
        }
        Ok(hashes)
    }
}

/// Number of units at a level of a tree: entries at level 0, full tiles of the level below above it.
fn units_in(size: u64, level: u8) -> u64 {
    size.checked_shr(u32::from(level) * u32::from(HEIGHT)).unwrap_or(0)
}

fn damaged(error: TreeError) -> Error {
    Error::new(Kind::Damaged, "the log does not hold together").because(error)
}
