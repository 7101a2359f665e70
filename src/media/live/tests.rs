//! What a camera sends, frame by frame, and the fragments that are made of it.

use super::*;
use crate::media::movie::read_runs;
use crate::media::{Event, Fragmenter};

fn track(kind: TrackKind, timescale: u32) -> Track {
    let entry = boxed(if kind == TrackKind::Video { *b"mp4v" } else { *b"ulaw" }, &[&[0; 78]]);
    Track { kind, timescale: NonZeroU32::new(timescale).unwrap(), entry, size: (320, 240) }
}

fn picture(time: i64, sync: bool) -> Frame {
    Frame { track: 0, time, duration: None, sync, data: Bytes::from(vec![u8::from(sync); 10]) }
}

fn sound(time: i64) -> Frame {
    Frame { track: 1, time, duration: Some(1_024), sync: true, data: Bytes::from_static(b"sound") }
}

/// Everything that comes of these frames, each fragment as (begin, length, begins with a key frame), in milliseconds.
fn all(live: &mut Live, frames: impl IntoIterator<Item = Frame>) -> Vec<(u64, u64, bool)> {
    let mut fragments: Vec<Fragment> = frames.into_iter().filter_map(|frame| live.push(frame).unwrap()).collect();
    fragments.extend(live.flush().unwrap());
    let mut fragmenter = Fragmenter::new(1_000_000);
    fragmenter.push(&live.init().bytes);
    fragments.iter().for_each(|fragment| fragmenter.push(&fragment.bytes));
    fragmenter.end();
    let mut read = Vec::new();
    while let Some(event) = fragmenter.poll().unwrap() {
        read.push(event);
    }
    assert_eq!(read[0], Event::Init(live.init().clone()));
    let said: Vec<_> = fragments.iter().cloned().map(Event::Fragment).collect();
    assert!(read[1..] == said, "what is said of a fragment is what is in it: {:?} {said:?}", &read[1..]);
    let ms =
        |fragment: &Fragment| (fragment.decode_time_us / 1_000, fragment.duration_us / 1_000, fragment.independent);
    fragments.iter().map(ms).collect()
}

#[test]
fn fragments_begin_with_key_frames_a_second_apart_or_more() {
    let mut live = Live::new(vec![track(TrackKind::Video, 1_000)]).unwrap();
    let frames = (0..75).map(|number| picture(5_000 + number * 40, number % 15 == 0));
    assert_eq!(all(&mut live, frames), [(0, 1_200, true), (1_200, 1_200, true), (2_400, 600, true)]);
}

#[test]
fn without_key_frames_a_fragment_ends_after_four_seconds() {
    let mut live = Live::new(vec![track(TrackKind::Video, 1_000)]).unwrap();
    let frames = (0..250).map(|number| picture(number * 40, number == 0));
    assert_eq!(all(&mut live, frames), [(0, 4_000, true), (4_000, 4_000, false), (8_000, 2_000, false)]);
}

#[test]
fn what_comes_before_the_first_key_frame_is_left_out() {
    let mut live = Live::new(vec![track(TrackKind::Video, 1_000), track(TrackKind::Audio, 8_000)]).unwrap();
    let frames =
        [sound(-900), picture(-40, false), sound(100), picture(0, true), sound(0), sound(1_024), picture(40, false)];
    assert_eq!(all(&mut live, frames), [(0, 80, true)]);
}

#[test]
fn reordered_pictures_keep_their_times() {
    let mut live = Live::new(vec![track(TrackKind::Video, 1_000)]).unwrap();
    let order = [0, 120, 40, 80, 240, 160, 200];
    let mut fragment = None;
    for (index, time) in order.into_iter().enumerate() {
        assert_eq!(live.push(picture(1_000 + time, index == 0)).unwrap(), None);
    }
    fragment = fragment.or(live.push(picture(2_280, true)).unwrap());
    let fragment = fragment.unwrap();
    assert_eq!((fragment.decode_time_us, fragment.duration_us), (0, 1_280_000));
    let trun = fragment.bytes.windows(4).position(|window| window == b"trun").unwrap() + 4;
    let word = |at: usize| i64::from(i32::from_be_bytes(fragment.bytes[trun + at..][..4].try_into().unwrap()));
    let mut decode_time = 0;
    for (index, time) in order.into_iter().enumerate() {
        // Duration, flags and composition offset of each, after flags, count and data offset.
        let at = 12 + index * 12;
        assert_eq!(decode_time + word(at + 8), time, "picture {index}");
        decode_time += word(at);
    }
    assert_eq!(decode_time, 1_280);
}

#[test]
fn sound_goes_into_the_fragment_of_its_time() {
    let mut live = Live::new(vec![track(TrackKind::Video, 1_000), track(TrackKind::Audio, 8_000)]).unwrap();
    let mut frames: Vec<(i64, Frame)> =
        (0..50).map(|number| (number * 40, picture(number * 40, number % 25 == 0))).collect();
    frames.extend((0..16).map(|number| (number * 128, sound(number * 1_024))));
    frames.sort_by_key(|(at, _)| *at);
    let mut fragments: Vec<_> = frames.into_iter().filter_map(|(_, frame)| live.push(frame).unwrap()).collect();
    fragments.extend(live.flush().unwrap());
    let runs = |fragment: &Fragment| {
        let moof = find(&fragment.bytes, *b"moof").unwrap().unwrap();
        let runs = read_runs(moof.body, &live.init().movie).unwrap();
        runs.iter().map(|run| (run.decode_time.unwrap(), run.duration)).collect::<Vec<_>>()
    };
    assert_eq!(
        fragments.iter().map(runs).collect::<Vec<_>>(),
        [[(0, 1_000), (0, 8 * 1_024)], [(1_000, 1_000), (8 * 1_024, 8 * 1_024)]]
    );
}

#[test]
fn sound_alone_keeps_its_own_time() {
    let mut live = Live::new(vec![track(TrackKind::Audio, 8_000)]).unwrap();
    let frames = (0..24).map(|number| Frame { track: 0, ..sound(number * 1_024) });
    assert_eq!(all(&mut live, frames), [(0, 1_024, true), (1_024, 1_024, true), (2_048, 1_024, true)]);
}

#[test]
fn a_time_that_jumps_is_that_of_another_recording() {
    for jump in [20_000, -20_000] {
        let mut live = Live::new(vec![track(TrackKind::Video, 1_000)]).unwrap();
        (0..600).for_each(|number| drop(live.push(picture(number * 40, number % 25 == 0)).unwrap()));
        let jumped = live.push(picture(24_000 + jump, true));
        assert_eq!(jumped, Err(Error::Malformed("its times jump")), "{jump}");
    }
}
