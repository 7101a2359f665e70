//! Writes a fragment (ISO/IEC 14496-12 section 8.8): `moof` with a run for each track, and `mdat` with their samples, track
//! after track.
//!
//! What all samples of a run have in common is said once, in `tfhd`; so a second of uncompressed sound costs no more than
//! one of pictures.

use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;

use super::Fault;
use super::init::boxed;
use super::tables::Sample;
use crate::media::boxes::Error;

/// Sample flags (section 8.8.3.1): depends on no other.
const SYNC: u32 = 0x0200_0000;
/// Depends on others, and is no sync sample.
const NON_SYNC: u32 = 0x0101_0000;

/// Flags of `tfhd`: offsets count from the `moof`.
const BASE_IS_MOOF: u32 = 0x02_0000;
const HAS_DESCRIPTION: u32 = 0x02;
const HAS_DURATION: u32 = 0x08;
const HAS_SIZE: u32 = 0x10;
const HAS_FLAGS: u32 = 0x20;

/// Flags of `trun`.
const DATA_OFFSET: u32 = 0x01;
const DURATIONS: u32 = 0x100;
const SIZES: u32 = 0x200;
const FLAGS: u32 = 0x400;
const COMPOSITIONS: u32 = 0x800;

/// Samples of one track with one description, one after the other.
#[derive(Debug)]
pub(in crate::media) struct Run {
    pub(super) track: u32,
    samples: Vec<Sample>,
}

impl Run {
    /// The runs of `samples`: another begins where the description changes.
    pub(in crate::media) fn of(track: u32, samples: Vec<Sample>) -> impl Iterator<Item = Self> {
        let mut rest = samples.into_iter().peekable();
        std::iter::from_fn(move || {
            let first = rest.next()?;
            let mut samples = vec![first];
            while let Some(next) = rest.next_if(|next| next.description == first.description) {
                samples.push(next);
            }
            Some(Self { track, samples })
        })
    }

    /// Length of its samples, bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.samples.iter().map(|sample| u64::from(sample.size)).sum()
    }

    pub(super) fn begins_with_sync(&self) -> bool {
        self.samples.first().is_some_and(|sample| sample.sync)
    }

    /// The value that all samples have, if it is one.
    fn common<T: PartialEq>(&self, value: impl Fn(&Sample) -> T) -> Option<T> {
        let first = value(self.samples.first()?);
        self.samples.iter().all(|sample| value(sample) == first).then_some(first)
    }

    /// The `traf`; `data_at` is where its samples begin, bytes from the beginning of the `moof`.
    fn write(&self, data_at: u32) -> Vec<u8> {
        let (duration, size) = (self.common(|sample| sample.duration), self.common(|sample| sample.size));
        let flags = self.common(flags);
        let first = self.samples.first();
        let description = first.map_or(1, |sample| sample.description);

        let mut head = (BASE_IS_MOOF, self.track.to_be_bytes().to_vec());
        let mut default = |flag: u32, value: Option<u32>| {
            if let Some(value) = value {
                head.0 |= flag;
                head.1.extend_from_slice(&value.to_be_bytes());
            }
        };
        default(HAS_DESCRIPTION, (description != 1).then_some(description));
        default(HAS_DURATION, duration);
        default(HAS_SIZE, size);
        default(HAS_FLAGS, flags);
        let tfhd = boxed(*b"tfhd", &[&head.0.to_be_bytes(), &head.1]);

        let decode_time = first.map_or(0, |sample| sample.decode_time);
        let tfdt = boxed(*b"tfdt", &[&[1, 0, 0, 0], &decode_time.to_be_bytes()]);

        let composed = self.samples.iter().any(|sample| sample.composition != 0);
        let each = [
            (DURATIONS, duration.is_none()),
            (SIZES, size.is_none()),
            (FLAGS, flags.is_none()),
            (COMPOSITIONS, composed),
        ];
        let said = each.iter().filter(|(_, each)| *each).fold(DATA_OFFSET, |said, (flag, _)| said | flag);
        let mut entries = Vec::new();
        for sample in &self.samples {
            let values = [sample.duration, sample.size, self::flags(sample), sample.composition.cast_unsigned()];
            for (value, _) in values.iter().zip(&each).filter(|(_, (_, each))| *each) {
                entries.extend_from_slice(&value.to_be_bytes());
            }
        }
        let version_and_flags = (1 << 24 | said).to_be_bytes();
        let count = u32::try_from(self.samples.len()).unwrap_or(u32::MAX).to_be_bytes();
        let trun = boxed(*b"trun", &[&version_and_flags, &count, &data_at.to_be_bytes(), &entries]);
        boxed(*b"traf", &[&tfhd, &tfdt, &trun])
    }
}

fn flags(sample: &Sample) -> u32 {
    if sample.sync { SYNC } else { NON_SYNC }
}

/// The fragment with these runs, their samples read from `input`.
///
/// # Errors
/// [`Fault::Read`] if they cannot be read; [`Fault::Media`] if the file has become shorter.
pub(super) fn write(sequence: u32, runs: &[Run], input: &mut (impl Read + Seek)) -> Result<Bytes, Fault> {
    let mut fragment = begin(sequence, runs)?;
    for (offset, bytes) in stretches(runs) {
        let at = fragment.len();
        input.seek(SeekFrom::Start(offset))?;
        input.by_ref().take(bytes).read_to_end(&mut fragment)?;
        if (fragment.len() - at) as u64 != bytes {
            return Err(Error::Truncated.into());
        }
    }
    Ok(fragment.into())
}

/// A fragment up to where its samples follow: run after run, each as long as it says.
///
/// # Errors
/// [`Error::TooLarge`] if its sizes do not fit.
pub(in crate::media) fn begin(sequence: u32, runs: &[Run]) -> Result<Vec<u8>, Error> {
    let moof_bytes = moof(sequence, runs, 0).len();
    let data: u64 = runs.iter().map(Run::bytes).sum();
    let too_large = Error::TooLarge { what: "fragment", limit: u64::from(u32::MAX), actual: data };
    let mdat_bytes = u32::try_from(data + 8).map_err(|_| too_large)?;
    let data_at = u32::try_from(moof_bytes + 8).map_err(|_| too_large)?;
    let mut fragment = moof(sequence, runs, data_at);
    fragment.extend_from_slice(&mdat_bytes.to_be_bytes());
    fragment.extend_from_slice(b"mdat");
    Ok(fragment)
}

fn moof(sequence: u32, runs: &[Run], data_at: u32) -> Vec<u8> {
    let mut at = data_at;
    let mut trafs = Vec::new();
    for run in runs {
        trafs.extend_from_slice(&run.write(at));
        at = at.saturating_add(u32::try_from(run.bytes()).unwrap_or(u32::MAX));
    }
    let mfhd = boxed(*b"mfhd", &[&[0; 4], &sequence.to_be_bytes()]);
    boxed(*b"moof", &[&mfhd, &trafs])
}

/// The stretches of the file that the samples lie in, neighbours taken together: offset and length, bytes.
fn stretches(runs: &[Run]) -> impl Iterator<Item = (u64, u64)> + '_ {
    let mut samples = runs.iter().flat_map(|run| &run.samples).peekable();
    std::iter::from_fn(move || {
        let first = samples.next()?;
        let mut bytes = u64::from(first.size);
        while let Some(next) = samples.next_if(|next| first.offset.checked_add(bytes) == Some(next.offset)) {
            bytes += u64::from(next.size);
        }
        Some((first.offset, bytes))
    })
}
