//! The sample tables of a track (ISO/IEC 14496-12 section 8.6 and 8.7), walked from the first sample to the last where they
//! lie in `moov`. The types of `mp4-atom` for them are lists with an entry for each sample; hours of footage have millions.
//!
//! | box | says |
//! |---|---|
//! | `stsz`, `stz2` | how many samples there are, and the size of each |
//! | `stts` | the duration of each |
//! | `ctts` | its composition offset; zero without the box |
//! | `stss` | which are sync samples; all without the box |
//! | `stsc`, `stco`, `co64` | in which chunk each lies, and where that begins |

use bytes::{Buf, Bytes};

use crate::media::boxes::{Child, Error, Kind, find};

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::media) struct Sample {
    /// Where it begins in the file, bytes.
    pub(in crate::media) offset: u64,
    /// Its length, bytes.
    pub(in crate::media) size: u32,
    /// Decode time, ticks.
    pub(in crate::media) decode_time: u64,
    /// Ticks to the next.
    pub(in crate::media) duration: u32,
    /// Composition time less decode time, ticks.
    pub(in crate::media) composition: i32,
    /// Whether decoding can begin here.
    pub(in crate::media) sync: bool,
    /// Number of its sample description, from 1.
    pub(in crate::media) description: u32,
}

/// The samples of a track.
#[derive(Debug, Clone)]
pub(super) struct Samples {
    sizes: Sizes,
    durations: Runs,
    compositions: Option<Runs>,
    syncs: Option<Entries<4>>,
    chunks: Chunks,
    decode_time: u64,
    /// Number of the next sample, from 1.
    number: u64,
}

impl Samples {
    /// The samples that a `stbl` describes.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a table is missing or shorter than it says.
    pub(super) fn read(stbl: &Bytes) -> Result<Self, Error> {
        let table = |kind: Kind| -> Result<Option<Bytes>, Error> {
            Ok(find(stbl, kind)?.map(|Child { body, .. }| stbl.slice_ref(body)))
        };
        let required = |kind: Kind, what| table(kind)?.ok_or(Error::Malformed(what));
        let offsets = match table(*b"co64")? {
            Some(table) => Offsets::Long(Entries::read(&table, "co64")?),
            None => Offsets::Short(Entries::read(&required(*b"stco", "stbl without stco")?, "stco")?),
        };
        let sizes = match table(*b"stsz")? {
            Some(table) => Sizes::read(&table)?,
            None => Sizes::read_compact(&required(*b"stz2", "stbl without stsz")?)?,
        };
        Ok(Self {
            sizes,
            durations: Runs::read(&required(*b"stts", "stbl without stts")?, "stts")?,
            compositions: table(*b"ctts")?.map(|table| Runs::read(&table, "ctts")).transpose()?,
            syncs: table(*b"stss")?.map(|table| Entries::read(&table, "stss")).transpose()?,
            chunks: Chunks {
                stretches: Entries::read(&required(*b"stsc", "stbl without stsc")?, "stsc")?,
                offsets,
                chunk: 0,
                left: 0,
                at: 0,
                samples_per_chunk: 0,
                description: 1,
            },
            decode_time: 0,
            number: 1,
        })
    }

    /// Number of samples that have not been given.
    pub(super) fn left(&self) -> u64 {
        self.sizes.left()
    }

    /// The size that all samples have, if one is given for all.
    pub(super) fn common_size(&self) -> Option<u32> {
        match self.sizes {
            Sizes::Same { size, .. } => Some(size),
            _ => None,
        }
    }

    /// The next sample.
    ///
    /// # Errors
    /// [`Error::Malformed`] if another table ends before that of the sizes.
    pub(super) fn next(&mut self) -> Result<Option<Sample>, Error> {
        let Some(size) = self.sizes.next() else { return Ok(None) };
        let (offset, description) = self.chunks.place(size)?;
        let duration = self.durations.next().ok_or(Error::Malformed("stts ends before the last sample"))?;
        // Versions 0 and 1 alike: what QuickTime writes as version 0 is signed too.
        let composition = self.compositions.as_mut().and_then(Runs::next).unwrap_or(0).cast_signed();
        let sync = self.is_sync();
        let decode_time = self.decode_time;
        self.decode_time = decode_time.saturating_add(u64::from(duration));
        self.number += 1;
        Ok(Some(Sample { offset, size, decode_time, duration, composition, sync, description }))
    }

    /// Whether the sample `number` is listed; the list is in rising order.
    fn is_sync(&mut self) -> bool {
        let Some(syncs) = &mut self.syncs else { return true };
        while let Some(entry) = syncs.peek() {
            let listed = u64::from(u32::from_be_bytes(entry));
            if listed >= self.number {
                return listed == self.number;
            }
            syncs.skip();
        }
        false
    }
}

/// Entries of `N` bytes each.
#[derive(Debug, Clone)]
struct Entries<const N: usize> {
    rest: Bytes,
}

impl<const N: usize> Entries<N> {
    /// The entries of a table that counts them after its version and flags.
    fn read(table: &Bytes, what: &'static str) -> Result<Self, Error> {
        Self::counted(table, 4, what)
    }

    /// The same with the count at another place.
    fn counted(table: &Bytes, count_at: usize, what: &'static str) -> Result<Self, Error> {
        let count = word(table, count_at).ok_or(Error::Malformed(what))?;
        let end = (u64::from(count) * N as u64).saturating_add(count_at as u64 + 4);
        let end = usize::try_from(end).ok().filter(|end| *end <= table.len()).ok_or(Error::Malformed(what))?;
        Ok(Self { rest: table.slice(count_at + 4..end) })
    }

    fn peek(&self) -> Option<[u8; N]> {
        self.rest.first_chunk().copied()
    }

    fn skip(&mut self) {
        self.rest.advance(N.min(self.rest.len()));
    }

    fn next(&mut self) -> Option<[u8; N]> {
        let entry = self.peek()?;
        self.skip();
        Some(entry)
    }

    fn left(&self) -> u64 {
        (self.rest.len() / N) as u64
    }
}

/// Runs of equal values: count and value.
#[derive(Debug, Clone)]
struct Runs {
    entries: Entries<8>,
    left: u32,
    value: u32,
}

impl Runs {
    fn read(table: &Bytes, what: &'static str) -> Result<Self, Error> {
        Ok(Self { entries: Entries::read(table, what)?, left: 0, value: 0 })
    }

    fn next(&mut self) -> Option<u32> {
        while self.left == 0 {
            let [a, b, c, d, value @ ..] = self.entries.next()?;
            (self.left, self.value) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes(value));
        }
        self.left -= 1;
        Some(self.value)
    }
}

/// The sizes of samples.
#[derive(Debug, Clone)]
enum Sizes {
    /// One for all.
    Same { size: u32, left: u32 },
    /// 32 bits each.
    Words(Entries<4>),
    /// 16 bits each.
    Halves(Entries<2>),
    /// 8 bits each.
    Bytes(Entries<1>),
    /// 4 bits each, the high ones first; whether the low ones come next.
    Nibbles { bytes: Bytes, left: u32, low: bool },
}

impl Sizes {
    fn read(stsz: &Bytes) -> Result<Self, Error> {
        match word(stsz, 4).ok_or(Error::Malformed("stsz"))? {
            0 => Ok(Self::Words(Entries::counted(stsz, 8, "stsz")?)),
            size => Ok(Self::Same { size, left: word(stsz, 8).ok_or(Error::Malformed("stsz"))? }),
        }
    }

    fn read_compact(stz2: &Bytes) -> Result<Self, Error> {
        let broken = Error::Malformed("stz2");
        match stz2.get(7).ok_or(broken)? {
            16 => Ok(Self::Halves(Entries::counted(stz2, 8, "stz2")?)),
            8 => Ok(Self::Bytes(Entries::counted(stz2, 8, "stz2")?)),
            4 => {
                let left = word(stz2, 8).ok_or(broken)?;
                let bytes = stz2.slice(12.min(stz2.len())..);
                if u64::from(left).div_ceil(2) > bytes.len() as u64 {
                    return Err(broken);
                }
                Ok(Self::Nibbles { bytes, left, low: false })
            }
            _ => Err(broken),
        }
    }

    fn left(&self) -> u64 {
        match self {
            Self::Same { left, .. } | Self::Nibbles { left, .. } => u64::from(*left),
            Self::Words(entries) => entries.left(),
            Self::Halves(entries) => entries.left(),
            Self::Bytes(entries) => entries.left(),
        }
    }

    fn next(&mut self) -> Option<u32> {
        match self {
            Self::Same { size, left } => {
                *left = left.checked_sub(1)?;
                Some(*size)
            }
            Self::Words(entries) => entries.next().map(u32::from_be_bytes),
            Self::Halves(entries) => entries.next().map(|half| u32::from(u16::from_be_bytes(half))),
            Self::Bytes(entries) => entries.next().map(|[byte]| u32::from(byte)),
            Self::Nibbles { bytes, left, low } => {
                *left = left.checked_sub(1)?;
                let byte = *bytes.first()?;
                let nibble = if *low { byte & 0x0f } else { byte >> 4 };
                if *low {
                    bytes.advance(1);
                }
                *low = !*low;
                Some(u32::from(nibble))
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Offsets {
    Short(Entries<4>),
    Long(Entries<8>),
}

/// Where the chunks lie, and how many samples each has.
#[derive(Debug, Clone)]
struct Chunks {
    stretches: Entries<12>,
    offsets: Offsets,
    /// Number of the current chunk, from 1.
    chunk: u64,
    /// Samples of it that have not been placed.
    left: u32,
    /// Where the next of them lies.
    at: u64,
    samples_per_chunk: u32,
    description: u32,
}

impl Chunks {
    /// Where the next sample lies, and its description.
    fn place(&mut self, size: u32) -> Result<(u64, u32), Error> {
        while self.left == 0 {
            self.enter()?;
        }
        self.left -= 1;
        let at = self.at;
        self.at = at.checked_add(u64::from(size)).ok_or(Error::Malformed("chunk offset"))?;
        Ok((at, self.description))
    }

    fn enter(&mut self) -> Result<(), Error> {
        let offset = match &mut self.offsets {
            Offsets::Short(entries) => entries.next().map(|entry| u64::from(u32::from_be_bytes(entry))),
            Offsets::Long(entries) => entries.next().map(u64::from_be_bytes),
        };
        self.at = offset.ok_or(Error::Malformed("chunks end before the last sample"))?;
        self.chunk += 1;
        while let Some(entry) = self.stretches.peek() {
            if word(&entry, 0).is_none_or(|first| u64::from(first) > self.chunk) {
                break;
            }
            self.samples_per_chunk = word(&entry, 4).unwrap_or(0);
            self.description = word(&entry, 8).unwrap_or(1);
            self.stretches.skip();
        }
        self.left = self.samples_per_chunk;
        Ok(())
    }
}

/// The 32-bit number at `at`.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests;
