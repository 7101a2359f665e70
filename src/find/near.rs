//! Who was in an area: from the cells that cover it to the fixes that lie in it.

use std::collections::{BTreeMap, HashMap};

use aigaq_proto::{Micros, RecorderId};

use super::{Budget, Search};
use crate::error::Result;
use crate::place::Area;
use crate::store::Store;
use crate::store::index::{Seen, slot_of};

/// When each recorder was in the area, in order, and how far from the middle of a circle, metres.
pub(super) type Hits = BTreeMap<RecorderId, Vec<(Micros, f64)>>;

/// The fixes in the area and in the range, of recorders that are looked for.
pub(super) fn hits(search: &mut Search<'_>, area: &Area) -> Result<Hits> {
    let (store, range) = (search.store, search.question.range.clone());
    // A fix may be five minutes later than its segment begins.
    let slots = slot_of(range.start).saturating_sub(1)..slot_of(range.end.saturating_sub(1)).saturating_add(1);
    let after = search.question.after.map(|(recorder, _)| recorder);
    let mut wanted: HashMap<RecorderId, bool> = HashMap::new();
    let mut shown = Shown::new(store);
    let mut hits = Hits::new();
    for cell in area.cells()? {
        search.budget.take_seek()?;
        for present in store.presence(cell, slots.clone()) {
            let present = present?;
            search.budget.take_row(present.bytes())?;
            let recorder = present.recorder;
            let is_wanted = *wanted
                .entry(recorder)
                .or_insert_with(|| after.is_none_or(|after| recorder >= after) && search.wants_id(recorder));
            if !is_wanted {
                continue;
            }
            for seen in present.fixes()? {
                let Some(metres) = area.holds(seen.point).filter(|_| range.contains(&seen.at)) else { continue };
                if shown.shows(recorder, &seen, &mut search.budget)? {
                    hits.entry(recorder).or_default().push((seen.at, metres));
                }
            }
        }
    }
    hits.values_mut().for_each(|of| of.sort_unstable_by_key(|(at, _)| *at));
    Ok(hits)
}

/// Which fixes belong to footage that was not deleted.
pub(super) struct Shown<'a> {
    store: &'a Store,
    deleted_before: HashMap<RecorderId, Micros>,
    /// The segment that was asked for last, and whether it is there.
    last: Option<(RecorderId, u64, bool)>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, deleted_before: HashMap::new(), last: None }
    }

    pub(super) fn shows(&mut self, recorder: RecorderId, seen: &Seen, budget: &mut Budget) -> Result<bool> {
        let before = match self.deleted_before.get(&recorder) {
            Some(before) => *before,
            None => {
                let before = self.store.deleted_before(recorder)?;
                self.deleted_before.insert(recorder, before);
                before
            }
        };
        if seen.captured_at >= before {
            return Ok(true);
        }
        if let Some((of, sequence, is_there)) = self.last
            && (of, sequence) == (recorder, seen.sequence)
        {
            return Ok(is_there);
        }
        budget.take(1)?;
        let link = self.store.link(recorder, seen.sequence)?;
        let is_there = link.is_some_and(|link| !self.store.is_deleted(recorder, &link.body));
        self.last = Some((recorder, seen.sequence, is_there));
        Ok(is_there)
    }
}
