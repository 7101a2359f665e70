//! An engine in memory, with the faults that tests ask for.
//!
//! [`Memory`] keeps what was committed and nothing else: [`Memory::restart`] gives the engine that a new process would find.
//! It behaves as a disk engine must: a failed commit poisons it, a poisoned engine stays poisoned until the restart.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Batch, Direction, Engine, Entry, Family, NewBody, Space};
use crate::error::{Error, Kind, Result};
use crate::store::records::FootageKey;

/// How far a commit gets that is made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailAt {
    /// Nothing of it is kept.
    Start,
    /// Its bodies are kept, its batch is not.
    Bodies,
    /// All of it is kept, and the caller is told that it failed.
    End,
}

/// The engine. Cheap to clone; every clone is the same engine.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    ledger: BTreeMap<(Family, Vec<u8>), Vec<u8>>,
    bodies: BTreeMap<FootageKey, Bytes>,
    faults: Faults,
}

#[derive(Debug, Clone, Default)]
struct Faults {
    fail: Option<(u64, FailAt)>,
    full: bool,
    unreadable: bool,
    poisoned: bool,
}

fn fatal() -> Error {
    Error::new(Kind::Fatal, "the engine in memory was made to fail")
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine that a new process would find: what was kept, without any fault.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut state = self.state().clone();
        state.faults = Faults::default();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Makes the `nth` commit from now fail, 1 being the next.
    pub fn fail_commit(&self, nth: u64, at: FailAt) {
        self.state().faults.fail = Some((nth, at));
    }

    /// Says whether there is room.
    pub fn set_full(&self, full: bool) {
        self.state().faults.full = full;
    }

    /// Says whether every read finds damage.
    pub fn set_unreadable(&self, unreadable: bool) {
        self.state().faults.unreadable = unreadable;
    }

    /// Flips the lowest bit of one byte of a stored body, so that no checksum of an engine notices. Returns whether there was one.
    pub fn flip_body(&self, key: FootageKey, at: usize) -> bool {
        let mut state = self.state();
        let Some(body) = state.bodies.get_mut(&key) else { return false };
        let mut bytes = body.to_vec();
        let Some(byte) = bytes.get_mut(at) else { return false };
        *byte ^= 1;
        *body = Bytes::from(bytes);
        true
    }

    /// Flips the lowest bit of one byte of a stored value. Returns whether there was one.
    pub fn flip_value(&self, family: Family, key: &[u8], at: usize) -> bool {
        let mut state = self.state();
        let byte = state.ledger.get_mut(&(family, key.to_vec())).and_then(|value| value.get_mut(at));
        byte.map(|byte| *byte ^= 1).is_some()
    }

    /// Puts a value, or takes it away, without a commit.
    pub fn set_value(&self, family: Family, key: &[u8], value: Option<Vec<u8>>) {
        let mut state = self.state();
        match value {
            Some(value) => state.ledger.insert((family, key.to_vec()), value),
            None => state.ledger.remove(&(family, key.to_vec())),
        };
    }

    /// Puts a body, or takes it away, without a commit.
    pub fn set_body(&self, key: FootageKey, body: Option<Bytes>) {
        let mut state = self.state();
        match body {
            Some(body) => state.bodies.insert(key, body),
            None => state.bodies.remove(&key),
        };
    }
}

impl State {
    fn readable(&self) -> Result<()> {
        if self.faults.unreadable {
            return Err(Error::new(Kind::Damaged, "the engine in memory was made unreadable"));
        }
        Ok(())
    }

    /// Where this commit fails, if it does.
    fn failure(&mut self) -> Option<FailAt> {
        let (nth, at) = self.faults.fail?;
        if nth > 1 {
            self.faults.fail = Some((nth - 1, at));
            return None;
        }
        self.faults.fail = None;
        self.faults.poisoned = true;
        Some(at)
    }
}

impl Engine for Memory {
    fn commit(&self, bodies: &[NewBody], batch: &Batch) -> Result<()> {
        let full = self.state().faults.full;
        if full && !bodies.is_empty() {
            self.healthy()?;
            return Err(Error::new(Kind::StorageFull, "no room is left for footage"));
        }
        self.relocate(bodies, batch)
    }

    fn relocate(&self, bodies: &[NewBody], batch: &Batch) -> Result<()> {
        let mut state = self.state();
        if state.faults.poisoned {
            return Err(fatal());
        }
        let failure = state.failure();
        if failure == Some(FailAt::Start) {
            return Err(fatal());
        }
        state.bodies.extend(bodies.iter().map(|body| (body.key, body.bytes.clone())));
        if failure == Some(FailAt::Bodies) {
            return Err(fatal());
        }
        for (family, key, value) in &batch.puts {
            state.ledger.insert((*family, key.clone()), value.clone());
        }
        for (family, key, bytes) in &batch.appends {
            state.ledger.entry((*family, key.clone())).or_default().extend_from_slice(bytes);
        }
        if failure == Some(FailAt::End) { Err(fatal()) } else { Ok(()) }
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let state = self.state();
        state.readable()?;
        Ok(state.ledger.get(&(family, key.to_vec())).cloned())
    }

    fn scan<'a>(
        &'a self,
        family: Family,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Entry>> + 'a> {
        let state = self.state();
        if let Err(error) = state.readable() {
            return Box::new(std::iter::once(Err(error)));
        }
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let found = state.ledger.range((family, range.start)..(family, range.end));
        let found: Vec<Result<Entry>> =
            found.map(|((_, key), value)| Ok((key.clone().into(), value.clone().into()))).collect();
        match direction {
            Direction::Forward => Box::new(found.into_iter()),
            Direction::Backward => Box::new(found.into_iter().rev()),
        }
    }

    fn body(&self, key: FootageKey) -> Result<Option<Bytes>> {
        let state = self.state();
        state.readable()?;
        Ok(state.bodies.get(&key).cloned())
    }

    fn bodies<'a>(&'a self) -> Box<dyn Iterator<Item = Result<(FootageKey, Bytes)>> + 'a> {
        let state = self.state();
        if let Err(error) = state.readable() {
            return Box::new(std::iter::once(Err(error)));
        }
        let found: Vec<_> = state.bodies.iter().map(|(key, body)| Ok((*key, body.clone()))).collect();
        Box::new(found.into_iter())
    }

    fn sweep_after(&self, last: u64) -> Result<bool> {
        let mut state = self.state();
        let before = state.bodies.len();
        state.bodies.retain(|key, _| key.commit <= last);
        Ok(state.bodies.len() < before)
    }

    fn forget(&self, family: Family, keys: &[Vec<u8>]) -> Result<()> {
        self.healthy()?;
        let mut state = self.state();
        keys.iter().for_each(|key| drop(state.ledger.remove(&(family, key.clone()))));
        Ok(())
    }

    fn drop_days_before(&self, day: u32) -> Result<()> {
        let mut state = self.state();
        state.bodies.retain(|key, _| key.day >= day);
        let expired = |family: &Family, key: &[u8]| *family == Family::Expiry && key < day.to_be_bytes().as_slice();
        state.ledger.retain(|(family, key), _| !expired(family, key));
        Ok(())
    }

    fn space(&self) -> Result<Space> {
        let free = if self.state().faults.full { 0 } else { 1 << 40 };
        Ok(Space { free, total: 1 << 40 })
    }

    fn healthy(&self) -> Result<()> {
        if self.state().faults.poisoned { Err(fatal()) } else { Ok(()) }
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}
