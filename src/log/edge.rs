//! The right edge of the tree: of every level the newest tile and those that were touched since the last commit. Pure
//! but for loading it from the store.
//!
//! It can append an entry, tell the root, and prove the entries whose tiles it still holds. It takes a few dozen KiB,
//! and 64 bytes for every entry of the commit.

use std::collections::VecDeque;
use std::ops::Range;

use aigaq_proto::Digest;
use aigaq_proto::receipt::ENTRY_BYTES;
use tlog_tiles::{Error as TreeError, Hash, HashReader, prove_record, record_hash, tree_hash};

use super::tile::{HEIGHT, Tile, WIDTH};
use crate::error::{Error, Kind, Result};
use crate::store::Store;

/// The newest tiles of every level.
#[derive(Debug, Clone, Default)]
pub(super) struct Edge {
    size: u64,
    levels: Vec<Level>,
}

/// Neighbouring tiles of one level, the newest last; at least one, and only the last may be partial or empty.
#[derive(Debug, Clone, Default)]
struct Level {
    first: u64,
    tiles: VecDeque<Tile>,
}

impl Edge {
    pub(super) fn load(store: &Store) -> Result<Self> {
        let size = store.log_size()?;
        let mut levels = Vec::new();
        let mut units = size;
        while units > 0 {
            let level = u8::try_from(levels.len()).unwrap_or(u8::MAX);
            let first = units / WIDTH as u64;
            let tile = Tile::of(units_of(store, level, first * WIDTH as u64..units)?);
            levels.push(Level { first, tiles: VecDeque::from([tile]) });
            units = first;
        }
        Ok(Self { size, levels })
    }

    /// Number of entries.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Appends an entry. `filled` is told of every tile that it fills: the level above it, its index there, its root.
    pub(super) fn append(&mut self, entry: &[u8; ENTRY_BYTES], mut filled: impl FnMut(u8, u64, Hash)) {
        let mut unit = record_hash(entry);
        let mut level = 0;
        while let Some(root) = self.push(level, unit) {
            level += 1;
            unit = root;
            filled(u8::try_from(level).unwrap_or(u8::MAX), self.next_unit(level), root);
        }
        self.size += 1;
    }

    /// The same without the tiles that no later entry needs.
    pub(super) fn newest_tiles(&self) -> Self {
        let levels = self.levels.iter().map(Level::newest_tile).collect();
        Self { size: self.size, levels }
    }

    fn push(&mut self, level: usize, unit: Hash) -> Option<Hash> {
        if level == self.levels.len() {
            self.levels.push(Level::default());
        }
        self.levels.get_mut(level).and_then(|level| level.push(unit))
    }

    /// Index of the unit that the level takes next.
    fn next_unit(&self, level: usize) -> u64 {
        self.levels.get(level).map_or(0, Level::next_unit)
    }

    pub(super) fn root(&self) -> Result<Digest> {
        tree_hash(self.size, self)
            .map(|hash| Digest(hash.0))
            .map_err(|error| Error::new(Kind::Internal, "the edge of the log lacks a node").because(error))
    }

    /// The inclusion proof of an entry whose tiles are still here.
    pub(super) fn prove(&self, index: u64) -> Result<Vec<Digest>> {
        let proof = prove_record(self.size, index, self)
            .map_err(|error| Error::new(Kind::Internal, "cannot prove an entry of the commit").because(error))?;
        Ok(proof.into_iter().map(|hash| Digest(hash.0)).collect())
    }
}

impl Level {
    fn newest_tile(&self) -> Self {
        let next = self.next_unit();
        let first = next / WIDTH as u64;
        let partial = self.tiles.back().filter(|tile| tile.root().is_none());
        Self { first, tiles: partial.cloned().into_iter().collect() }
    }

    fn push(&mut self, unit: Hash) -> Option<Hash> {
        if self.tiles.back().is_none_or(|tile| tile.root().is_some()) {
            self.tiles.push_back(Tile::default());
        }
        self.tiles.back_mut().and_then(|tile| tile.push(unit))
    }

    fn next_unit(&self) -> u64 {
        let units: usize = self.tiles.iter().map(Tile::width).sum();
        self.first * WIDTH as u64 + units as u64
    }

    fn node(&self, node: Node) -> Option<Hash> {
        let tile = usize::try_from(node.tile.checked_sub(self.first)?).ok()?;
        self.tiles.get(tile)?.node(node.height, node.index)
    }
}

impl HashReader for Edge {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, TreeError> {
        let read = |index: &u64| {
            let node = Node::of(*index);
            self.levels.get(usize::from(node.level)).and_then(|level| level.node(node))
        };
        indexes.iter().map(read).collect::<Option<_>>().ok_or(TreeError::IndexesNotInTree)
    }
}

/// Where a node of the tree lies: level and number of its tile, height and index within it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) level: u8,
    pub(super) tile: u64,
    pub(super) height: u8,
    pub(super) index: usize,
}

impl Node {
    /// The node with this index in the dense order of `tlog_tiles`.
    pub(super) fn of(stored_index: u64) -> Self {
        let (height, number) = tlog_tiles::split_stored_hash_index(stored_index);
        let (level, height) = (height / HEIGHT, height % HEIGHT);
        let per_tile = (WIDTH as u64) >> height;
        let index = usize::try_from(number % per_tile).unwrap_or(usize::MAX);
        Self { level, tile: number / per_tile, height, index }
    }
}

/// The hashes of the units of a level, from the rows of the store. `units` lie in one tile.
pub(super) fn units_of(store: &Store, level: u8, units: Range<u64>) -> Result<Vec<Hash>> {
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let count = units.end - units.start;
    let rows = store.log_rows(level, units)?;
    let hashes: Vec<Hash> = match level {
        0 => rows.chunks_exact(ENTRY_BYTES).map(record_hash).collect(),
        _ => rows.as_chunks::<32>().0.iter().map(|hash| Hash(*hash)).collect(),
    };
    if hashes.len() as u64 == count { Ok(hashes) } else { Err(Error::new(Kind::Damaged, "the log lacks rows")) }
}
