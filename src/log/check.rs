//! Is the log what it was? Against the checkpoint kept beside the store, and from the first entry to the last.
//!
//! Reads only. `Log::open` uses the first check at every start, `aigaq check` both.

use std::path::Path;

use aigaq_proto::receipt::ENTRY_BYTES;
use tlog_tiles::Hash;

use super::Reader;
use super::edge::{Edge, units_of};
use super::sidecar::Sidecar;
use super::tile::WIDTH;

use crate::error::{Error, Kind, Result};

impl Reader {
    /// Compares the store with the checkpoint in `dir/checkpoint`: the size of its tree, or `None` when there is none.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when that tree is larger than the store's or another one: acknowledged data was lost; also when the file is not
    /// what was written.
    pub fn check_kept(&self, dir: &Path) -> Result<Option<u64>> {
        let Some((kept, root)) = Sidecar::new(dir).read(&self.key())? else { return Ok(None) };
        let size = self.size()?;
        if kept > size {
            let text = format!(
                "the store has lost acknowledged data: its log has {size} entries, a checkpoint over {kept} was signed"
            );
            return Err(Error::new(Kind::Damaged, text));
        }
        if self.root(kept)? != root {
            let text = format!("the first {kept} entries of the log are not those that a checkpoint was signed over");
            return Err(Error::new(Kind::Damaged, text));
        }
        Ok(Some(kept))
    }

    /// Computes the whole tree from its entries, compares every stored hash with it, and shows each entry with its
    /// index to `each`. The number of entries.
    ///
    /// # Errors
    /// [`Kind::Damaged`] at the first hash that differs or row that is missing.
    pub fn check(&self, mut each: impl FnMut(u64, &[u8; ENTRY_BYTES])) -> Result<u64> {
        let size = self.size()?;
        let mut edge = Edge::default();
        while edge.size() < size {
            let first = edge.size();
            let end = size.min(first + WIDTH as u64);
            let rows = self.store.log_rows(0, first..end)?;
            let mut filled = Vec::new();
            for entry in rows.as_chunks::<ENTRY_BYTES>().0 {
                each(edge.size(), entry);
                edge.append(entry, |level, unit, root| filled.push((level, unit, root)));
            }
            if edge.size() != end {
                return Err(Error::new(Kind::Damaged, "the log lacks entries"));
            }
            filled.into_iter().try_for_each(|(level, unit, root)| self.check_unit(level, unit, root))?;
            edge = edge.newest_tiles();
        }
        if edge.root()? != self.root(size)? {
            return Err(Error::new(Kind::Damaged, "the log's root is not that of its entries"));
        }
        Ok(size)
    }

    fn check_unit(&self, level: u8, unit: u64, root: Hash) -> Result<()> {
        if units_of(&self.store, level, unit..unit + 1)? == [root] {
            return Ok(());
        }
        Err(Error::new(Kind::Damaged, format!("hash {unit} of level {level} of the log is not that of its entries")))
    }
}
