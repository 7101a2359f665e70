//! What a `trak` says of the samples that are shown: the sample tables and the edit list (ISO/IEC 14496-12 sections 8.6 and 8.7).

use super::{Chosen, Placed, full, signed};
use crate::media::movie::Track;
use crate::media::remux::init::boxed;

/// Speed 1.0.
const NORMAL: [u8; 4] = [0, 1, 0, 0];

/// The samples of a track that are in a clip, in the order of decoding; never empty.
pub(super) struct Shown<'a> {
    samples: &'a [Placed],
    /// What is added to each composition offset, so that none is below zero, ticks.
    lift: i64,
    /// Movie time before the track begins, ticks of the movie.
    empty: u64,
    /// Media time of the new file at which the track begins, ticks.
    media_time: u64,
    /// How long it is shown, ticks of the movie.
    length: u64,
}

impl<'a> Shown<'a> {
    /// `origin` is where the movie begins, as the track counts. The movie counts in `movie_timescale`.
    pub(super) fn new(track: &Track, chosen: &Chosen<'a>, origin: i64, movie_timescale: u32) -> Self {
        let Chosen { samples, begin, end } = *chosen;
        let lift = samples.iter().map(|placed| placed.sample.composition).min().unwrap_or(0).min(0).saturating_neg();
        let base = samples.first().map_or(0, |placed| signed(placed.sample.decode_time));
        let movie = |ticks: i64| {
            let ticks = u128::from(ticks.max(0).unsigned_abs());
            let timescale = u128::from(track.timescale.get());
            let rounded = (2 * ticks * u128::from(movie_timescale) + timescale) / (2 * timescale);
            u64::try_from(rounded).unwrap_or(u64::MAX)
        };
        let media_time = begin.saturating_sub(base).saturating_add(lift).max(0).unsigned_abs();
        let (empty, length) = (movie(begin.saturating_sub(origin)), movie(end.saturating_sub(begin)));
        Self { samples, lift, empty, media_time, length }
    }

    /// The payloads that its samples lie in.
    pub(super) fn payloads(&self) -> impl Iterator<Item = usize> + '_ {
        self.samples.iter().map(|placed| placed.payload)
    }

    /// How long the track is, ticks of the movie.
    pub(super) fn movie_duration(&self) -> u64 {
        self.empty.saturating_add(self.length)
    }

    /// How long its samples are, ticks.
    pub(super) fn duration(&self) -> u64 {
        self.steps().fold(0, |sum, step| sum.saturating_add(u64::from(step)))
    }

    /// Ticks from each sample to the next.
    fn steps(&self) -> impl Iterator<Item = u32> + '_ {
        let next = self.samples.iter().skip(1).map(Some).chain([None]);
        self.samples.iter().zip(next).map(|(placed, next)| match next {
            Some(next) => {
                let step = next.sample.decode_time.saturating_sub(placed.sample.decode_time);
                u32::try_from(step).unwrap_or(u32::MAX)
            }
            None => placed.sample.duration,
        })
    }

    /// The edit list.
    pub(super) fn edts(&self) -> Vec<u8> {
        let entry =
            |length: u64, media_time: u64| [&length.to_be_bytes()[..], &media_time.to_be_bytes(), &NORMAL].concat();
        let nothing = (self.empty > 0).then(|| entry(self.empty, u64::MAX));
        let entries: Vec<Vec<u8>> = nothing.into_iter().chain([entry(self.length, self.media_time)]).collect();
        boxed(*b"edts", &[&full(*b"elst", 1, &[&count(entries.len()), &entries.concat()])])
    }

    /// The tables of the `stbl` after `stsd`. `starts` are where the payloads begin after `begin`, bytes of the file.
    pub(super) fn tables(&self, starts: &[u64], begin: u64) -> Vec<u8> {
        let durations = runs(self.steps());
        let compositions = runs(
            self.samples
                .iter()
                .map(|placed| u32::try_from(placed.sample.composition.saturating_add(self.lift)).unwrap_or(u32::MAX)),
        );
        let sizes: Vec<u8> = self.samples.iter().flat_map(|placed| placed.sample.size.to_be_bytes()).collect();
        let mut tables = full(*b"stts", 0, &[&durations]);
        if self.samples.iter().any(|placed| placed.sample.composition != 0) {
            tables.extend(full(*b"ctts", 0, &[&compositions]));
        }
        if self.samples.iter().any(|placed| !placed.sample.sync) {
            let numbers = (1u32..).zip(self.samples).filter(|(_, placed)| placed.sample.sync);
            let numbers: Vec<[u8; 4]> = numbers.map(|(number, _)| number.to_be_bytes()).collect();
            tables.extend(full(*b"stss", 0, &[&count(numbers.len()), &numbers.concat()]));
        }
        tables.extend(full(*b"stsz", 0, &[&[0; 4], &count(self.samples.len()), &sizes]));
        tables.extend(self.chunks(starts, begin));
        tables
    }

    /// Samples that lie one after the other are a chunk.
    fn chunks(&self, starts: &[u64], begin: u64) -> Vec<u8> {
        let together = |a: &Placed, b: &Placed| {
            let after = a.sample.offset.saturating_add(u64::from(a.sample.size));
            a.payload == b.payload && after == b.sample.offset && a.sample.description == b.sample.description
        };
        let (mut offsets, mut runs, mut last) = (Vec::new(), Vec::new(), None);
        for chunk in self.samples.chunk_by(together) {
            let Some(first) = chunk.first() else { continue };
            let start = starts.get(first.payload).copied().unwrap_or(0);
            let offset = begin.saturating_add(start).saturating_add(first.sample.offset);
            offsets.extend_from_slice(&offset.to_be_bytes());
            let shape = (count(chunk.len()), first.sample.description.to_be_bytes());
            if last != Some(shape) {
                runs.push([count(offsets.len() / 8), shape.0, shape.1].concat());
                last = Some(shape);
            }
        }
        let stsc = full(*b"stsc", 0, &[&count(runs.len()), &runs.concat()]);
        let co64 = full(*b"co64", 0, &[&count(offsets.len() / 8), &offsets]);
        [stsc, co64].concat()
    }
}

/// A count as a table says it.
fn count(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

/// Values in runs of equal ones: their number, then for each how often and what.
fn runs(values: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut found: Vec<(u32, u32)> = Vec::new();
    for value in values {
        match found.last_mut() {
            Some((times, last)) if *last == value => *times = times.saturating_add(1),
            _ => found.push((1, value)),
        }
    }
    let entries = found.iter().flat_map(|(times, value)| [times.to_be_bytes(), value.to_be_bytes()]).flatten();
    count(found.len()).into_iter().chain(entries).collect()
}
