//! The writer's cache of chain states: what the store has under `heads`, by recorder, in bounded memory.
//!
//! What it holds of chains is durable: [`Staged`] works on copies and brings them here after the commit. When it is full it
//! is emptied; every entry can be read again.

use std::collections::{HashMap, HashSet};

use aigaq_proto::{Digest, RecorderId, link};

use super::Staged;
use crate::error::Result;
use crate::store::Store;
use crate::store::records::HeadRecord;

/// Runs, recorders and quarantined digests kept in memory, all counted alike; up to 100 bytes each.
const WEIGHT_MAX: usize = 262_144;
/// Links remembered that failed a check and were not kept; some 50 bytes each.
const UNKEPT_MAX: usize = 16_384;

/// How many links of one recorder are kept as evidence beside its chain. Beyond it they are refused and not stored,
/// so that one recorder cannot fill the disk with what no chain will ever hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Other sides of forks. 1,000.
    pub forks_max: u32,
    /// Links in quarantine. 1,000.
    pub quarantined_max: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { forks_max: 1_000, quarantined_max: 1_000 }
    }
}

/// The durable chain states that the writer has met.
pub struct Heads {
    pub(super) store: Store,
    pub(super) quotas: Quotas,
    known: HashMap<RecorderId, HeadRecord>,
    quarantined: HashMap<RecorderId, HashSet<Digest>>,
    /// Not durable: forgotten, it costs a transfer more.
    unkept: HashSet<(RecorderId, Digest)>,
    weight: usize,
}

impl Heads {
    /// An empty cache over `store`.
    #[must_use]
    pub fn new(store: Store, quotas: Quotas) -> Self {
        Self { store, quotas, known: HashMap::new(), quarantined: HashMap::new(), unkept: HashSet::new(), weight: 0 }
    }

    /// Begins a batch.
    #[must_use]
    pub fn stage(&mut self) -> Staged<'_> {
        self.make_room();
        Staged::new(self)
    }

    /// The durable state of a recorder's chain; the empty one for a recorder without links.
    ///
    /// # Errors
    /// Those of the store.
    pub fn head(&mut self, recorder: RecorderId) -> Result<&HeadRecord> {
        if !self.known.contains_key(&recorder) {
            let head = self.store.head(recorder)?.unwrap_or_default();
            self.put(recorder, head);
        }
        Ok(self.known.entry(recorder).or_default())
    }

    /// Whether the link with this digest is in quarantine.
    pub(super) fn is_quarantined(&mut self, recorder: RecorderId, digest: &Digest) -> Result<bool> {
        if self.head(recorder)?.quarantined == 0 {
            return Ok(false);
        }
        if let Some(digests) = self.quarantined.get(&recorder) {
            return Ok(digests.contains(digest));
        }
        let mut digests = HashSet::new();
        for entry in self.store.quarantine(recorder) {
            digests.insert(link::digest(&entry?.record.header));
        }
        self.weight += digests.len();
        let known = digests.contains(digest);
        self.quarantined.insert(recorder, digests);
        Ok(known)
    }

    /// Takes over a state that is durable now.
    pub(super) fn put(&mut self, recorder: RecorderId, head: HeadRecord) {
        self.weight += 1 + head.chain.runs().len();
        if let Some(before) = self.known.insert(recorder, head) {
            self.weight = self.weight.saturating_sub(1 + before.chain.runs().len());
        }
    }

    /// Takes over a digest that is in quarantine now, where the others are in memory.
    pub(super) fn put_quarantined(&mut self, recorder: RecorderId, digest: Digest) {
        if let Some(digests) = self.quarantined.get_mut(&recorder) {
            self.weight += usize::from(digests.insert(digest));
        }
    }

    /// Remembers a link that failed a check and is not kept; false if it was remembered already.
    pub(super) fn remember_unkept(&mut self, recorder: RecorderId, digest: Digest) -> bool {
        if self.unkept.len() >= UNKEPT_MAX {
            self.unkept.clear();
        }
        self.unkept.insert((recorder, digest))
    }

    fn make_room(&mut self) {
        if self.weight > WEIGHT_MAX {
            self.known.clear();
            self.quarantined.clear();
            self.weight = 0;
        }
    }
}
