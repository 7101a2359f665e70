//! Sealing bodies on their way into the footage, and opening them on their way out.
//!
//! A body is sealed under the key of its recorder and of the day on which it expires, bound to its recorder, its place and the digest
//! of the recorder's bytes: moved, exchanged or put under another link it does not open. The digest is compared with the opened bytes all
//! the same, by whoever reads. What lies in the ledger (marks, positions, health, initialisation segments) is no footage and not sealed.
//!
//! Promise: the key is durable before the first byte that is sealed under it. It must never store a body as it was received while
//! sealing is on.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use aigaq_proto::{Digest, RecorderId};
use bytes::Bytes;

use super::engine::NewBody;
use super::records::{Body, FootageKey};
use super::{Store, keys};
use crate::error::{Error, Kind, Result};
use crate::seal::{self, Ring};

/// From this sum of bodies on, bytes, they are sealed by several threads.
const APART_BYTES_MIN: usize = 2 << 20;
/// Threads that seal at once at most.
const THREADS_MAX: usize = 4;

/// How a store seals.
pub(super) struct Sealing {
    ring: Option<Ring>,
    on: bool,
}

/// A body as it was received, with where it will lie.
pub(super) struct Received {
    pub(super) key: FootageKey,
    pub(super) recorder: RecorderId,
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
}

impl Sealing {
    /// For a store without keys.
    pub(super) fn none() -> Self {
        Self { ring: None, on: false }
    }

    /// Of the store in `dir`, whose keys lie beside it.
    pub(super) fn open(dir: &Path, settings: &seal::Settings) -> Result<Self> {
        let ring = Ring::open(&keys_of(dir, settings), settings)?;
        Ok(Self { ring: Some(ring), on: settings.footage })
    }

    /// The same for reading.
    pub(super) fn open_read_only(dir: &Path, settings: &seal::Settings) -> Result<Self> {
        let ring = Ring::open_read_only(&keys_of(dir, settings), settings)?;
        Ok(Self { ring: Some(ring), on: false })
    }

    /// Seals under the keys of a ring.
    pub(super) fn with(ring: Ring) -> Self {
        Self { ring: Some(ring), on: true }
    }

    pub(super) fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    /// What seals from now on, if anything does.
    pub(super) fn sealing(&self) -> Option<&Ring> {
        self.ring.as_ref().filter(|_| self.on)
    }

    /// Where a body will lie.
    pub(super) fn place(&self, key: FootageKey) -> Body {
        if self.sealing().is_some() { Body::Sealed(key) } else { Body::Footage(key) }
    }

    /// Makes bodies ready for the engine, in order of their keys.
    ///
    /// # Errors
    /// As [`Ring::keys`].
    pub(super) fn seal(&self, mut bodies: Vec<Received>) -> Result<Vec<NewBody>> {
        bodies.sort_unstable_by_key(|body| body.key);
        let Some(ring) = self.sealing() else {
            return Ok(bodies.into_iter().map(|body| NewBody { key: body.key, bytes: body.bytes }).collect());
        };
        let wanted: BTreeSet<_> = bodies.iter().map(|body| (body.key.day, body.recorder)).collect();
        let keys = ring.keys(&wanted)?;
        let seal = |body: Received| {
            let missing = || Error::new(Kind::Internal, "a body has no key");
            let key = keys.get(&(body.key.day, body.recorder)).ok_or_else(missing)?;
            let sealed = key.seal(&bound(body.recorder, body.key, body.digest), &body.bytes)?;
            Ok(NewBody { key: body.key, bytes: sealed.into() })
        };
        let bytes: usize = bodies.iter().map(|body| body.bytes.len()).sum();
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(THREADS_MAX);
        if bytes < APART_BYTES_MIN || threads == 1 {
            return bodies.into_iter().map(seal).collect();
        }
        let mut parts = parts(bodies, bytes.div_ceil(threads)).into_iter();
        let (first, seal) = (parts.next().unwrap_or_default(), &seal);
        thread::scope(|scope| {
            let others: Vec<_> =
                parts.map(|part| scope.spawn(move || part.into_iter().map(seal).collect::<Result<Vec<_>>>())).collect();
            let mut sealed = first.into_iter().map(seal).collect::<Result<Vec<_>>>()?;
            for other in others {
                let died = |_| Error::new(Kind::Internal, "a thread that seals died");
                sealed.extend(other.join().map_err(died)??);
            }
            Ok(sealed)
        })
    }
}

impl Store {
    /// The bytes as they were received of what lies sealed at a place.
    ///
    /// # Errors
    /// [`Kind::Damaged`] without their key, or where they do not open under it; [`Kind::Busy`] when the KMS is away.
    pub(crate) fn open_body(
        &self,
        recorder: RecorderId,
        key: FootageKey,
        digest: Digest,
        sealed: &[u8],
    ) -> Result<Bytes> {
        let day = key.day;
        let opening = self.inner.sealing.ring.as_ref().map_or(Ok(None), |ring| ring.key(day, recorder))?;
        let missing = || Error::new(Kind::Damaged, format!("the key of {recorder} for day {day} is not there"));
        let plain = opening.ok_or_else(missing)?.open(&bound(recorder, key, digest), sealed);
        let changed =
            || Error::new(Kind::Damaged, "the sealed body does not open: it was changed, or its key is another");
        plain.map(|mut plain| Bytes::from(std::mem::take(&mut *plain))).ok_or_else(changed)
    }

    /// Whether there is a key of a recorder and footage day, and it opens.
    ///
    /// # Errors
    /// As [`Ring::key`].
    pub(crate) fn has_key(&self, day: u32, recorder: RecorderId) -> Result<bool> {
        let key = self.inner.sealing.ring.as_ref().map_or(Ok(None), |ring| ring.key(day, recorder));
        key.map(|key| key.is_some())
    }

    /// Whether there are keys at all: without them nothing that is sealed can be read.
    pub(crate) fn has_keys(&self) -> bool {
        self.inner.sealing.ring.is_some()
    }

    /// Opens every key, for the offline check.
    ///
    /// # Errors
    /// As [`Ring::check`].
    pub(crate) fn check_keys(&self, on_problem: &mut dyn FnMut(&str)) -> Result<seal::Counts> {
        let ring = self.inner.sealing.ring.as_ref();
        ring.map_or(Ok(seal::Counts::default()), |ring| ring.check(self.dropped_floor(), on_problem))
    }
}

/// Where the keys of the store in `dir` lie.
fn keys_of(dir: &Path, settings: &seal::Settings) -> PathBuf {
    settings.dir.clone().unwrap_or_else(|| dir.with_file_name(seal::DIR))
}

/// Neighbours in parts of about `bytes` each.
fn parts(bodies: Vec<Received>, bytes: usize) -> Vec<Vec<Received>> {
    let (mut parts, mut weight) = (Vec::new(), bytes);
    for body in bodies {
        if weight >= bytes {
            parts.push(Vec::new());
            weight = 0;
        }
        weight += body.bytes.len();
        if let Some(part) = parts.last_mut() {
            part.push(body);
        }
    }
    parts
}

fn bound(recorder: RecorderId, key: FootageKey, digest: Digest) -> Vec<u8> {
    [&b"aigaq footage v1\n"[..], &recorder.0, &keys::footage(key), &digest.0].concat()
}
