//! The samples of a payload: where the bytes of each lie, and when it is decoded and shown (ISO/IEC 14496-12 section 8.8).

use mp4_atom::{Tfdt, Tfhd, Trun};

use super::boxes::{Error, children, find, leaf};
use super::movie::{Movie, SAMPLE_IS_NON_SYNC};

/// Most samples of one payload: seconds of sound in the shortest frames there are.
const SAMPLES_MAX: usize = 100_000;

/// A sample within a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Number of its track.
    pub(super) track: u32,
    /// Where it begins in the payload, bytes.
    pub(super) offset: u64,
    /// Its length, bytes.
    pub(super) size: u32,
    /// Decode time, ticks.
    pub(super) decode_time: u64,
    /// Ticks to the next.
    pub(super) duration: u32,
    /// Composition time less decode time, ticks.
    pub(super) composition: i64,
    /// Whether decoding can begin here.
    pub(super) sync: bool,
    /// Number of its sample description, from 1.
    pub(super) description: u32,
}

/// The samples of every track, each track in the order of decoding.
///
/// # Errors
/// [`Error::AbsoluteOffsets`] if a fragment cannot stand alone, [`Error::Malformed`] if it does not say when its samples are decoded,
/// or says they lie where they cannot.
pub(super) fn read(payload: &[u8], movie: &Movie) -> Result<Vec<Sample>, Error> {
    let mut samples = Vec::new();
    let mut begin = 0;
    for child in children(payload) {
        let child = child?;
        if child.kind == *b"moof" {
            fragment(child.body, begin as u64, payload.len() as u64, movie, &mut samples)?;
        }
        begin = child.body_at + child.body.len();
    }
    Ok(samples)
}

fn fragment(moof: &[u8], moof_at: u64, length: u64, movie: &Movie, samples: &mut Vec<Sample>) -> Result<(), Error> {
    // Where the data of the track fragment before ended: what the next counts from unless it says otherwise.
    let mut after = moof_at;
    for child in children(moof) {
        let traf = child?;
        if traf.kind != *b"traf" {
            continue;
        }
        let tfhd = find(traf.body, *b"tfhd")?.ok_or(Error::Malformed("traf without tfhd"))?;
        let header: Tfhd = leaf(tfhd.body, "tfhd")?;
        if header.base_data_offset.is_some() {
            return Err(Error::AbsoluteOffsets);
        }
        let track = movie.track(header.track_id).ok_or(Error::Malformed("fragment of an unknown track"))?;
        let base = if header.default_base_is_moof { moof_at } else { after };
        let mut decode_time = None;
        let mut next = base;
        for child in children(traf.body) {
            let child = child?;
            match &child.kind {
                b"tfdt" => decode_time = Some(leaf::<Tfdt>(child.body, "tfdt")?.base_media_decode_time),
                b"trun" => {
                    let run: Trun = leaf(child.body, "trun")?;
                    if let Some(offset) = run.data_offset {
                        next = base.checked_add_signed(i64::from(offset)).ok_or(Error::Malformed("trun offset"))?;
                    }
                    let mut time = decode_time.ok_or(Error::Malformed("a fragment without tfdt"))?;
                    for entry in &run.samples {
                        let size = entry.size.or(header.default_sample_size).unwrap_or(track.sample_size);
                        let duration =
                            entry.duration.or(header.default_sample_duration).unwrap_or(track.sample_duration);
                        let flags = entry.flags.or(header.default_sample_flags).unwrap_or(track.sample_flags);
                        let end = next.saturating_add(u64::from(size));
                        if size == 0 || end > length || samples.len() >= SAMPLES_MAX {
                            return Err(Error::Malformed("samples that do not lie in their payload"));
                        }
                        samples.push(Sample {
                            track: track.id,
                            offset: next,
                            size,
                            decode_time: time,
                            duration,
                            composition: entry.cts.unwrap_or(0),
                            sync: flags & SAMPLE_IS_NON_SYNC == 0,
                            description: header.sample_description_index.unwrap_or(track.sample_description),
                        });
                        next = end;
                        time = time.saturating_add(u64::from(duration));
                    }
                    decode_time = Some(time);
                }
                _ => {}
            }
        }
        after = next;
    }
    Ok(())
}
