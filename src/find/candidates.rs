//! Which recorders may have what is looked for, in order, from the cursor on.
//!
//! The index that says most is asked: places, marks and names give sets, which are intersected. Without any, a short range is asked
//! for who recorded in its ten minutes, all of them at once and only as far as the page needs; a long one, or few recorders, one recorder
//! after the other.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use aigaq_proto::RecorderId;

use super::near::{self, Hits};
use super::{Micros, SEEK, Search};
use crate::error::Result;
use crate::store::Store;
use crate::store::index::slot_of;

/// Lists of ten minutes that are read side by side at most: about ten hours.
const LISTS_MAX: u32 = 64;
/// So few recorders are asked one after the other.
const FEW: usize = 256;

/// The recorders that come next.
enum Order<'a> {
    /// These.
    Listed(std::collections::btree_set::IntoIter<RecorderId>),
    /// Those who recorded in any of a few ten minutes.
    Recorded(Lists<'a>),
}

/// Recorders in order, and where they were.
pub(super) struct Candidates<'a> {
    order: Order<'a>,
    hits: Option<Hits>,
}

impl<'a> Candidates<'a> {
    pub(super) fn of(search: &mut Search<'a>) -> Result<Self> {
        let question = search.question;
        let from = question.after.map_or(RecorderId([0; 16]), |(recorder, _)| recorder);
        let mut known: Option<BTreeSet<RecorderId>> = question.recorder.map(|recorder| BTreeSet::from([recorder]));
        let narrow = |known: &mut Option<BTreeSet<RecorderId>>, set: BTreeSet<RecorderId>| {
            *known = Some(match known.take() {
                Some(before) => before.intersection(&set).copied().collect(),
                None => set,
            });
        };
        if let Some(name) = &question.assignee {
            narrow(&mut known, assigned(search, name)?);
        }
        if let Some(category) = &question.mark {
            narrow(&mut known, marked(search, category)?);
        }
        let hits = question.area.as_ref().map(|area| near::hits(search, area)).transpose()?;
        if let Some(hits) = &hits {
            narrow(&mut known, hits.keys().copied().collect());
        }
        let order = match known {
            Some(known) => Order::Listed(wanted(search, known.into_iter().filter(|one| *one >= from))),
            None => everybody(search, from)?,
        };
        Ok(Self { order, hits })
    }

    /// The next recorder that is looked for and seen.
    pub(super) fn next(&mut self, search: &mut Search<'_>) -> Result<Option<RecorderId>> {
        match &mut self.order {
            Order::Listed(listed) => Ok(listed.next()),
            Order::Recorded(lists) => loop {
                let Some(recorder) = lists.next(search)? else { return Ok(None) };
                if search.wants_id(recorder) {
                    return Ok(Some(recorder));
                }
            },
        }
    }

    /// When it was in the area, where one is looked at.
    pub(super) fn hits(&self, recorder: RecorderId) -> Option<&[(Micros, f64)]> {
        let hits = self.hits.as_ref()?;
        Some(hits.get(&recorder).map_or(&[], Vec::as_slice))
    }
}

fn wanted(
    search: &mut Search<'_>,
    from: impl Iterator<Item = RecorderId>,
) -> std::collections::btree_set::IntoIter<RecorderId> {
    from.filter(|recorder| search.wants_id(*recorder)).collect::<BTreeSet<_>>().into_iter()
}

/// Those who had this name in the range.
fn assigned(search: &mut Search<'_>, name: &str) -> Result<BTreeSet<RecorderId>> {
    let range = search.question.range.clone();
    search.budget.take_seek()?;
    let mut found = BTreeSet::new();
    for entry in search.store.assigned_to(name, range.end) {
        search.budget.take(1)?;
        let recorder = entry?.1;
        if !found.contains(&recorder) {
            search.budget.take(2 * SEEK)?;
            let held = search.fleet.assigned_within(recorder, range.start, range.end)?;
            if held.iter().any(|held| held.assignee == name) {
                found.insert(recorder);
            }
        }
    }
    Ok(found)
}

/// Those with a mark of this category in the range.
fn marked(search: &mut Search<'_>, category: &str) -> Result<BTreeSet<RecorderId>> {
    search.budget.take_seek()?;
    let mut found = BTreeSet::new();
    for place in search.store.marks_of(category, search.question.range.clone()) {
        search.budget.take(1)?;
        found.insert(place?.recorder);
    }
    Ok(found)
}

/// Everybody who may have recorded in the range.
fn everybody<'a>(search: &mut Search<'a>, from: RecorderId) -> Result<Order<'a>> {
    let range = &search.question.range;
    let slots = slot_of(range.start).saturating_sub(1)..slot_of(range.end.saturating_sub(1)).saturating_add(1);
    let is_long = slots.end - slots.start > LISTS_MAX;
    let directory = search.directory;
    let mut known = directory.from(from).iter().filter(|record| search.wants(record)).map(|record| record.id);
    let first: BTreeSet<RecorderId> = if is_long { known.collect() } else { known.by_ref().take(FEW + 1).collect() };
    if is_long || first.len() <= FEW {
        return Ok(Order::Listed(first.into_iter()));
    }
    let mut lists = Lists { lists: Vec::new(), heads: BinaryHeap::new(), last: None };
    for slot in slots {
        search.budget.take_seek()?;
        lists.add(search.store, slot, from)?;
    }
    Ok(Order::Recorded(lists))
}

/// Sorted lists, read side by side.
struct Lists<'a> {
    lists: Vec<Box<dyn Iterator<Item = Result<RecorderId>> + 'a>>,
    heads: BinaryHeap<Reverse<(RecorderId, usize)>>,
    last: Option<RecorderId>,
}

impl<'a> Lists<'a> {
    fn add(&mut self, store: &'a Store, slot: u32, from: RecorderId) -> Result<()> {
        let mut list = store.recorded_in(slot, from);
        if let Some(head) = list.next().transpose()? {
            self.heads.push(Reverse((head, self.lists.len())));
            self.lists.push(Box::new(list));
        }
        Ok(())
    }

    /// The next recorder that is in any of them.
    fn next(&mut self, search: &mut Search<'_>) -> Result<Option<RecorderId>> {
        while let Some(Reverse((recorder, of))) = self.heads.pop() {
            search.budget.take(1)?;
            if let Some(next) = self.lists.get_mut(of).and_then(Iterator::next).transpose()? {
                self.heads.push(Reverse((next, of)));
            }
            if self.last.replace(recorder) != Some(recorder) {
                return Ok(Some(recorder));
            }
        }
        Ok(None)
    }
}
