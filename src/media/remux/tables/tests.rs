//! Sample tables that ffmpeg does not write, byte by byte.

use super::*;
use crate::media::remux::init::boxed;

fn table(kind: Kind, words: &[u32]) -> Vec<u8> {
    boxed(kind, &[&[0; 4], &words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>()])
}

fn samples(tables: &[Vec<u8>]) -> Result<Vec<Sample>, Error> {
    let mut samples = Samples::read(&Bytes::from(tables.concat()))?;
    let mut all = Vec::new();
    while let Some(sample) = samples.next()? {
        all.push(sample);
    }
    Ok(all)
}

fn stts() -> Vec<u8> {
    table(*b"stts", &[2, 3, 10, 9, 20])
}

fn one_chunk() -> [Vec<u8>; 2] {
    [table(*b"stsc", &[1, 1, 100, 1]), table(*b"stco", &[1, 1_000])]
}

#[test]
fn samples_lie_one_after_the_other_in_chunks_of_their_own_length() {
    let stsz = table(*b"stsz", &[0, 6, 1, 2, 3, 4, 5, 6]);
    let stsc = table(*b"stsc", &[2, 1, 2, 1, 3, 1, 2]);
    let stco = table(*b"stco", &[4, 100, 200, 300, 400]);
    let all = samples(&[stts(), stsz, stsc, stco]).unwrap();
    let places: Vec<_> = all.iter().map(|sample| (sample.offset, sample.size, sample.description)).collect();
    assert_eq!(places, [(100, 1, 1), (101, 2, 1), (200, 3, 1), (203, 4, 1), (300, 5, 2), (400, 6, 2)]);
    let times: Vec<_> = all.iter().map(|sample| (sample.decode_time, sample.duration)).collect();
    assert_eq!(times, [(0, 10), (10, 10), (20, 10), (30, 20), (50, 20), (70, 20)]);
}

#[test]
fn compact_sizes_have_four_eight_or_sixteen_bits() {
    let sizes = |bits: u8, count: u32, bytes: &[u8]| {
        let stz2 = boxed(*b"stz2", &[&[0, 0, 0, 0, 0, 0, 0, bits], &count.to_be_bytes(), bytes]);
        let [stsc, stco] = one_chunk();
        Ok::<_, Error>(samples(&[stts(), stz2, stsc, stco])?.iter().map(|sample| sample.size).collect::<Vec<_>>())
    };
    assert_eq!(sizes(4, 3, &[0x12, 0x30]).unwrap(), [1, 2, 3]);
    assert_eq!(sizes(8, 2, &[7, 255]).unwrap(), [7, 255]);
    assert_eq!(sizes(16, 2, &[1, 0, 0, 9]).unwrap(), [256, 9]);
    assert!(sizes(4, 5, &[0x12, 0x30]).is_err() && sizes(3, 1, &[1]).is_err());
}

#[test]
fn sync_samples_and_composition_offsets_are_those_listed() {
    let stsz = table(*b"stsz", &[7, 5]);
    let ctts = table(*b"ctts", &[2, 1, 4, 2, u32::MAX]);
    let stss = table(*b"stss", &[2, 1, 4]);
    let [stsc, stco] = one_chunk();
    let all = samples(&[stts(), stsz, ctts, stss, stsc, stco]).unwrap();
    assert_eq!(all.iter().map(|sample| sample.sync).collect::<Vec<_>>(), [true, false, false, true, false]);
    assert_eq!(all.iter().map(|sample| sample.composition).collect::<Vec<_>>(), [4, -1, -1, 0, 0]);
}

#[test]
fn tables_that_do_not_fit_together_are_an_error() {
    let [stsc, stco] = one_chunk();
    let many = table(*b"stsz", &[1, 13]);
    assert_eq!(
        samples(&[stts(), many, stsc.clone(), stco.clone()]),
        Err(Error::Malformed("stts ends before the last sample"))
    );
    let few = table(*b"stsc", &[1, 1, 1, 1]);
    let two = table(*b"stsz", &[1, 2]);
    assert_eq!(
        samples(&[stts(), two.clone(), few, stco.clone()]),
        Err(Error::Malformed("chunks end before the last sample"))
    );
    assert_eq!(samples(&[stts(), stsc.clone(), stco.clone()]), Err(Error::Malformed("stbl without stsz")));
    assert!(samples(&[stts(), two, stsc]).is_err());
}
