//! Where a recorder was: the fixes of its chain, in order of time.
//!
//! From the links themselves, those of marks and of health among them: a chain is evidence and stays when footage is deleted, with the positions
//! that the device signed.

use std::ops::Range;

use aigaq_proto::limits::FIX_OFFSET_MS_MAX;
use aigaq_proto::{LinkHeader, Micros, RecorderId, Sequence};

use super::Budget;
use crate::error::{Context as _, Error, Kind, Result};
use crate::place::Point;
use crate::store::{Direction, Store};

/// Fixes that are told at once: a shift of thirteen hours with one each second.
pub const FIXES_MAX: usize = 50_000;

/// A fix and the link that says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathFix {
    /// Device clock.
    pub at: Micros,
    /// Where.
    pub point: Point,
    /// Radius of 68 % confidence, decimetres; 65535 if not known or more.
    pub accuracy_dm: u16,
    /// The link.
    pub sequence: Sequence,
}

/// The fixes of a recorder in a range, in order of time. Blocks.
///
/// # Errors
/// [`Kind::Invalid`] if there are more than [`FIXES_MAX`], or too many links, and those of the store.
pub fn path(store: &Store, recorder: RecorderId, range: Range<Micros>) -> Result<Vec<PathFix>> {
    of(store, recorder, range, &mut Budget::new())
}

pub(super) fn of(
    store: &Store,
    recorder: RecorderId,
    range: Range<Micros>,
    budget: &mut Budget,
) -> Result<Vec<PathFix>> {
    let mut fixes = Vec::new();
    let earliest = range.start.saturating_sub(u64::from(FIX_OFFSET_MS_MAX) * 1_000);
    for entry in store.timeline(recorder, earliest..range.end, Direction::Forward) {
        let entry = entry?;
        budget.take(2)?;
        let Some(link) = store.link(recorder, entry.sequence)? else { continue };
        let header = LinkHeader::decode(&link.header).context(Kind::Damaged, "a stored header does not decode")?;
        for fix in &header.fixes {
            let at = header.captured_at.saturating_add(u64::from(fix.offset_ms) * 1_000);
            if range.contains(&at) {
                let (point, accuracy_dm) = (Point::of(fix), fix.accuracy_dm);
                fixes.push(PathFix { at, point, accuracy_dm, sequence: header.sequence });
            }
        }
        if fixes.len() > FIXES_MAX {
            return Err(Error::new(
                Kind::Invalid,
                format!("the path has more than {FIXES_MAX} positions: ask for a shorter range"),
            ));
        }
    }
    fixes.sort_by_key(|fix| (fix.at, fix.sequence));
    Ok(fixes)
}
