//! A pass over a day that is over: what is kept is moved on, the rest is summed up.
//!
//! What must be kept and cannot be read stops the deletion of its day until a person has looked: nothing is taken for worthless
//! because it is damaged.

use std::collections::BTreeMap;

use aigaq_proto::{Micros, RecorderId};

use super::claims::Claims;
use super::statement::Statement;
use crate::error::Result;
use crate::store::policy::Rule;
use crate::store::records::ExpiryRecord;
use crate::store::{ExpiryEntry, Move, Store};

/// Payload that is moved with one sync at most, bytes: it bounds for how long the writer waits.
const MOVED_BYTES_MAX: u64 = 8 << 20;
/// The same, bodies.
const MOVED_LINKS_MAX: usize = 512;

/// What is to become of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing keeps it.
    Goes,
    /// It is kept until this day, for this reason.
    Stays(u32, Rule),
}

/// One body of the day.
pub(super) struct Seen<'a> {
    pub(super) entry: &'a ExpiryEntry,
    /// By which rule it was kept until then.
    pub(super) rule: &'a Rule,
    /// Its length.
    pub(super) bytes: u32,
    /// When it was captured.
    pub(super) captured_at: Micros,
    pub(super) fate: Fate,
}

/// What is left of a day when the rest was moved on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Bodies.
    pub(super) links: u64,
    /// Their length, bytes.
    pub(super) bytes: u64,
    /// When the newest segment of each recorder was captured.
    pub(super) newest: BTreeMap<RecorderId, Micros>,
}

/// Shows every body of a day to `look`, as things stand on the day `today`. Blocks.
///
/// # Errors
/// Those of the store and of `look`.
pub(super) fn each(store: &Store, day: u32, today: u32, mut look: impl FnMut(Seen<'_>) -> Result<()>) -> Result<()> {
    let mut of: Option<(RecorderId, Claims)> = None;
    for entry in store.expiring(day, None) {
        let entry = entry?;
        let ExpiryRecord::Kept { rule, bytes, captured_at } = &entry.record else { continue };
        let recorder = entry.recorder;
        let claims = match &of {
            Some((last, claims)) if *last == recorder => claims,
            _ => &of.insert((recorder, Claims::of(store, recorder, today)?)).1,
        };
        let link = if claims.is_empty() { None } else { Some(store.stored(recorder, entry.owner)?) };
        let kept = link.as_ref().and_then(|link| claims.keep(link, today));
        let fate = kept.map_or(Fate::Goes, |(until, rule)| Fate::Stays(until, rule));
        look(Seen { entry: &entry, rule, bytes: *bytes, captured_at: *captured_at, fate })?;
    }
    Ok(())
}

/// Moves what is kept of a day to later days; tells each batch to `moved`. Returns what is left. Blocks.
///
/// # Errors
/// [`Kind::Damaged`](crate::error::Kind::Damaged) if what must be kept cannot be read,
/// [`Kind::StorageFull`](crate::error::Kind::StorageFull) if there is no room for it, and those of the store.
pub(super) fn move_on(store: &Store, day: u32, today: u32, mut moved: impl FnMut(&Rule, u64)) -> Result<Left> {
    let mut left = Left::default();
    let (mut moves, mut weight) = (Vec::new(), 0);
    each(store, day, today, |seen| {
        let Fate::Stays(until_day, rule) = seen.fate else {
            left.links += 1;
            left.bytes = left.bytes.saturating_add(u64::from(seen.bytes));
            let newest = left.newest.entry(seen.entry.recorder).or_default();
            *newest = seen.captured_at.max(*newest);
            return Ok(());
        };
        moved(&rule, u64::from(seen.bytes));
        moves.push(Move { recorder: seen.entry.recorder, owner: seen.entry.owner, until_day, rule });
        weight += u64::from(seen.bytes);
        if weight >= MOVED_BYTES_MAX || moves.len() >= MOVED_LINKS_MAX {
            store.relocate(&std::mem::take(&mut moves))?;
            weight = 0;
        }
        Ok(())
    })?;
    store.relocate(&moves)?;
    Ok(left)
}

/// What is left of a day, recorder by recorder, for whoever says that it goes. Blocks.
///
/// # Errors
/// Those of the store and of `say`.
pub(super) fn statements(store: &Store, day: u32, mut say: impl FnMut(Vec<Statement>) -> Result<()>) -> Result<()> {
    let mut open: Option<(RecorderId, BTreeMap<Rule, Statement>)> = None;
    for entry in store.expiring(day, None) {
        let ExpiryEntry { recorder, owner, record, .. } = entry?;
        let ExpiryRecord::Kept { rule, bytes, .. } = record else { continue };
        if open.as_ref().is_some_and(|(last, _)| *last != recorder)
            && let Some((_, done)) = open.take()
        {
            say(done.into_values().collect())?;
        }
        let link = store.stored(recorder, owner)?;
        let (_, rules) = open.get_or_insert_with(|| (recorder, BTreeMap::new()));
        let statement = rules.entry(rule).or_insert_with_key(|rule| Statement::new(day, recorder, rule.clone()));
        statement.add(owner, link.header_bytes(), bytes);
    }
    match open {
        Some((_, done)) => say(done.into_values().collect()),
        None => Ok(()),
    }
}
