//! One tile of the tree in memory: up to 256 units and the complete nodes above them. Pure.
//!
//! ```text
//! height 8            o              the unit of the level above, once the tile is full
//! ...              /     \
//! height 1       o   o   o   .
//! height 0      o o o o o o o        units: leaf hashes at level 0, roots of full tiles above it
//! ```

use tlog_tiles::{Hash, node_hash};

/// Units in a full tile.
pub(super) const WIDTH: usize = 256;
/// Levels of nodes within a tile, without its units.
pub(super) const HEIGHT: u8 = 8;

/// A tile with at least its first units.
#[derive(Debug, Clone, Default)]
pub(super) struct Tile {
    /// `rows[h][i]` is the node over the units `i << h .. (i + 1) << h`.
    rows: [Vec<Hash>; HEIGHT as usize + 1],
}

impl Tile {
    /// A tile of these units, at most [`WIDTH`].
    pub(super) fn of(units: impl IntoIterator<Item = Hash>) -> Self {
        let mut tile = Self::default();
        for unit in units {
            tile.push(unit);
        }
        tile
    }

    /// Number of units.
    pub(super) fn width(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    /// Adds a unit and the nodes that it completes; the root when the tile is full now. A full tile takes no more.
    pub(super) fn push(&mut self, unit: Hash) -> Option<Hash> {
        debug_assert!(self.width() < WIDTH, "a full tile takes no more units");
        let mut node = unit;
        let mut left = None;
        for row in &mut self.rows {
            if let Some(left) = left {
                node = node_hash(left, node);
            }
            row.push(node);
            if row.len() % 2 == 1 {
                break;
            }
            left = row.len().checked_sub(2).and_then(|index| row.get(index)).copied();
        }
        self.root()
    }

    /// The node at `height` (0 to 8) and `index` within the tile, if it is complete.
    pub(super) fn node(&self, height: u8, index: usize) -> Option<Hash> {
        self.rows.get(usize::from(height)).and_then(|row| row.get(index)).copied()
    }

    /// The root, if the tile is full.
    pub(super) fn root(&self) -> Option<Hash> {
        self.node(HEIGHT, 0)
    }
}
