//! Packs: bodies of one commit that expire on one day, one after the other in an object that is never changed.
//!
//! ```text
//! packs / day / commit - first index - serial          each a fixed number of hexadecimal digits
//! ```
//!
//! A pack takes bodies until it holds about 8 MiB: one object for each body would cost about 13 times as many requests. Where a body lies in
//! its pack, and its CRC-32C, is in the ledger ([`Place`]). The serial is another one for every pack that any process ever made, so a name that
//! is taken is taken by this very pack, put by an attempt whose answer was lost; its bytes are compared all the same.
//!
//! Promises: a pack is durable before [`Packs::put`] returns; bytes that are not those that were put are damage. A pack that no row
//! names, left by a commit that was never finished, is swept at open by its commit; one that a writer who was fenced put later than that
//! goes with its day, as every pack does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};

use crate::error::{Error, Kind, Result};
use crate::store::engine::NewBody;
use crate::store::records::FootageKey;

/// A pack that holds this much takes no further body, bytes.
const PACK_BYTES: usize = 8 << 20;
/// One attempt to put a pack.
const PUT_TIMEOUT: Duration = Duration::from_secs(25);
/// Wait before the second attempt; then twice as long each time.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// … and at most.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Days that are listed at the same time.
const LISTS_AT_ONCE: usize = 8;
/// Length of an encoded place, bytes.
const PLACE_BYTES: usize = 24;

/// Where packs lie. Cheap to clone.
#[derive(Clone)]
pub(super) struct Packs {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    serial: Arc<AtomicU64>,
}

/// Where a body lies.
///
/// ```text
/// serial u64 · first index of the pack u32 · offset u32 · length u32 · CRC-32C u32      big-endian
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    serial: u64,
    first: u32,
    offset: u32,
    length: u32,
    crc: u32,
}

impl Place {
    pub(super) fn encode(self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        let (serial, rest) = bytes.split_at_mut(8);
        serial.copy_from_slice(&self.serial.to_be_bytes());
        let fields = [self.first, self.offset, self.length, self.crc];
        rest.chunks_exact_mut(4).zip(fields).for_each(|(place, field)| place.copy_from_slice(&field.to_be_bytes()));
        bytes
    }

    /// # Errors
    /// [`Kind::Damaged`] for any other bytes than [`Place::encode`] makes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::new(Kind::Damaged, "where a body lies does not decode");
        let (serial, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
        let (fields, []) = rest.as_chunks::<4>() else { return Err(damaged()) };
        let &[first, offset, length, crc] = fields else { return Err(damaged()) };
        let number = u32::from_be_bytes;
        Ok(Self {
            serial: u64::from_be_bytes(*serial),
            first: number(first),
            offset: number(offset),
            length: number(length),
            crc: number(crc),
        })
    }

    /// The body out of its whole pack.
    pub(super) fn cut(self, pack: &Bytes) -> Result<Bytes> {
        let from = self.offset as usize;
        let to = from.saturating_add(self.length as usize);
        if to > pack.len() {
            return Err(Error::new(Kind::Damaged, "a pack is too short"));
        }
        self.sound(pack.slice(from..to))
    }

    fn sound(self, body: Bytes) -> Result<Bytes> {
        if body.len() != self.length as usize || crc32c::crc32c(&body) != self.crc {
            return Err(Error::new(Kind::Damaged, "a body has not the checksum that it was put with"));
        }
        Ok(body)
    }
}

/// A pack on its way.
pub(super) struct NewPack {
    path: Path,
    pieces: Vec<Bytes>,
    bytes: usize,
    /// Where its bodies will lie.
    pub(super) places: Vec<(FootageKey, Place)>,
}

impl Packs {
    /// # Errors
    /// [`Kind::Internal`] without randomness.
    pub(super) fn new(objects: Arc<dyn ObjectStore>, prefix: Path) -> Result<Self> {
        let mut random = [0; 8];
        let none = |_| Error::new(Kind::Internal, "no random bytes are to be had");
        aws_lc_rs::rand::fill(&mut random).map_err(none)?;
        Ok(Self { objects, prefix, serial: Arc::new(AtomicU64::new(u64::from_be_bytes(random))) })
    }

    fn day(&self, day: u32) -> Path {
        self.prefix.clone().join(format!("{day:08x}"))
    }

    /// Where the pack lies that a body is in.
    pub(super) fn path(&self, key: FootageKey, place: Place) -> Path {
        let Place { serial, first, .. } = place;
        self.day(key.day).join(format!("{:016x}-{first:08x}-{serial:016x}", key.commit))
    }

    /// Cuts the bodies of a commit into packs.
    ///
    /// # Errors
    /// [`Kind::Internal`] for a body that no pack holds.
    pub(super) fn cut(&self, bodies: &[NewBody]) -> Result<Vec<NewPack>> {
        let mut packs: Vec<NewPack> = Vec::new();
        let (mut serial, mut first, mut of) = (0, 0, None);
        for body in bodies {
            let key = body.key;
            let fits = packs.last().is_some_and(|pack| pack.bytes < PACK_BYTES) && of == Some((key.day, key.commit));
            if !fits {
                serial = self.serial.fetch_add(1, Ordering::Relaxed);
                (first, of) = (key.index, Some((key.day, key.commit)));
            }
            let held = packs.last().filter(|_| fits).map_or(0, |pack| pack.bytes);
            let (Ok(offset), Ok(length)) = (u32::try_from(held), u32::try_from(body.bytes.len())) else {
                return Err(Error::new(Kind::Internal, "a body is too large for a pack"));
            };
            let place = Place { serial, first, offset, length, crc: crc32c::crc32c(&body.bytes) };
            if !fits {
                let path = self.path(key, place);
                packs.push(NewPack { path, pieces: Vec::new(), bytes: 0, places: Vec::new() });
            }
            let Some(pack) = packs.last_mut() else { continue };
            pack.bytes += body.bytes.len();
            pack.pieces.push(body.bytes.clone());
            pack.places.push((key, place));
        }
        Ok(packs)
    }

    /// Puts a pack where nothing is; durable on return. Tries until it is done, or until whoever waits gives up.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when it is of no use to try again.
    pub(super) async fn put(&self, pack: NewPack) -> Result<()> {
        let mut pause = PAUSE_FIRST;
        loop {
            let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let payload = PutPayload::from_iter(pack.pieces.iter().cloned());
            match tokio::time::timeout(PUT_TIMEOUT, self.objects.put_opts(&pack.path, payload, create)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(
                    error @ (object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }),
                )) => match self.whole(&pack.path).await {
                    Ok(there) if is_made_of(&there, &pack.pieces) => return Ok(()),
                    Ok(_) => return Err(Error::new(Kind::Fatal, "the name of a pack is taken").because(error)),
                    Err(error) if error.kind() == Kind::Busy => {}
                    Err(error) => return Err(error),
                },
                Ok(Err(error)) if is_final(&error) => {
                    return Err(Error::new(Kind::Fatal, "the object store takes no pack").because(error));
                }
                Ok(Err(error)) => tracing::warn!(%error, "a pack was not put; it is tried again"),
                Err(_) => tracing::warn!("a pack was not put in time; it is tried again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The body at a place.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it is not what was put, [`Kind::Busy`] without an answer.
    pub(super) async fn read(&self, key: FootageKey, place: Place) -> Result<Bytes> {
        if place.length == 0 {
            return place.sound(Bytes::new());
        }
        let from = u64::from(place.offset);
        let range = from..from + u64::from(place.length);
        let read = self.objects.get_range(&self.path(key, place), range).await;
        place.sound(read.map_err(read_error)?)
    }

    /// A whole pack.
    pub(super) async fn whole(&self, path: &Path) -> Result<Bytes> {
        let read = async { self.objects.get(path).await?.bytes().await };
        read.await.map_err(read_error)
    }

    /// The days of which there are packs.
    async fn days(&self) -> Result<Vec<u32>> {
        let listed = self.objects.list_with_delimiter(Some(&self.prefix)).await.map_err(read_error)?;
        let day = |path: &Path| u32::from_str_radix(path.filename()?, 16).ok();
        Ok(listed.common_prefixes.iter().filter_map(day).collect())
    }

    /// Removes the packs of commits after `last`.
    pub(super) async fn sweep_after(&self, last: u64) -> Result<bool> {
        let lists = stream::iter(self.days().await?).map(|day| async move {
            let day = self.day(day);
            let before = day.clone().join(format!("{last:016x}-"));
            let of = |path: &Path| u64::from_str_radix(path.filename()?.split('-').next()?, 16).ok();
            let listed = self.objects.list_with_offset(Some(&day), &before);
            let later = listed
                .map_ok(|object| object.location)
                .try_filter(move |path| std::future::ready(of(path).is_some_and(|commit| commit > last)));
            later.try_collect::<Vec<_>>().await.map_err(read_error)
        });
        let orphans = lists.buffer_unordered(LISTS_AT_ONCE).try_concat().await?;
        let found = !orphans.is_empty();
        self.delete(orphans).await?;
        Ok(found)
    }

    /// Removes the packs of every day before `day`.
    pub(super) async fn drop_days_before(&self, day: u32) -> Result<()> {
        for gone in self.days().await?.into_iter().filter(|of| *of < day) {
            let listed = self.objects.list(Some(&self.day(gone))).map_ok(|object| object.location);
            self.delete(listed.try_collect().await.map_err(read_error)?).await?;
        }
        Ok(())
    }

    async fn delete(&self, paths: Vec<Path>) -> Result<()> {
        let gone = self.objects.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
        let failed = gone.filter_map(async |one| one.err().filter(|error| !is_absent(error)));
        match Box::pin(failed).next().await {
            None => Ok(()),
            Some(error) => Err(Error::new(Kind::Busy, "cannot remove packs").because(error)),
        }
    }
}

/// Whether the pieces one after the other are these bytes.
fn is_made_of(whole: &[u8], pieces: &[Bytes]) -> bool {
    let mut rest = whole;
    for piece in pieces {
        match rest.strip_prefix(piece.as_ref()) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

fn is_absent(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
}

/// Whether the same again will fail again.
fn is_final(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(
        error,
        E::NotFound { .. }
            | E::InvalidPath { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::UnknownConfigurationKey { .. }
    )
}

/// An error of a read: bytes that are not there are damage, anything else may pass.
pub(super) fn read_error(error: object_store::Error) -> Error {
    if is_absent(&error) {
        return Error::new(Kind::Damaged, "a pack is missing").because(error);
    }
    Error::new(Kind::Busy, "the object store does not answer").because(error)
}
