//! Media against files that ffmpeg makes: what goes through the fragmenter and the cutter keeps every byte, and what a player
//! gets - playlist, initialisation segments, segments - decodes to the very frames of the source.
//!
//! Needs `ffmpeg`; where it is missing the tests that run it say so and pass.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aigaq::media::exact::Indexer;
use aigaq::media::playlist::{self, Kind};
use aigaq::media::retime::Loop;
use aigaq::media::{Cutter, Error, Event, Fragmenter, Segment};
use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

const CLIP: &[u8] = include_bytes!("../deploy/clip/clip.mp4");
const LINK_BYTES_MAX: u32 = 32 * 1024 * 1024;
const FRAGMENTED: &str = "+frag_keyframe+empty_moov+default_base_moof";

/// Runs ffmpeg and gives what it wrote to standard output; `None` where there is no ffmpeg.
fn ffmpeg(dir: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    let command = Command::new("ffmpeg")
        .current_dir(dir)
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = match command {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: ffmpeg is not installed");
            return None;
        }
        Err(error) => panic!("ffmpeg: {error}"),
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "ffmpeg {arguments:?}: {complaints}");
    Some(output.stdout)
}

/// A recording as links would carry it.
struct Recording {
    init: Bytes,
    codecs: String,
    segments: Vec<Segment>,
}

fn cut(stream: &[u8]) -> Result<Vec<Recording>, Error> {
    let mut fragmenter = Fragmenter::new(u64::from(LINK_BYTES_MAX));
    let mut cutter = Cutter::new(LINK_BYTES_MAX);
    let mut recordings: Vec<Recording> = Vec::new();
    for piece in stream.chunks(10_000).map(Some).chain([None]) {
        match piece {
            Some(piece) => fragmenter.push(piece),
            None => fragmenter.end(),
        }
        while let Some(event) = fragmenter.poll()? {
            let segment = match &event {
                Event::Init(_) => cutter.flush(),
                Event::Fragment(fragment) => cutter.push(fragment.clone())?,
            };
            if let Some(last) = recordings.last_mut() {
                last.segments.extend(segment);
            }
            if let Event::Init(init) = event {
                recordings.push(Recording { init: init.bytes, codecs: init.codecs, segments: Vec::new() });
            }
        }
    }
    if let Some(last) = recordings.last_mut() {
        last.segments.extend(cutter.flush());
    }
    Ok(recordings)
}

/// The stream without the boxes that are not media, found by their headers alone.
fn media_bytes(stream: &[u8]) -> Vec<u8> {
    let mut media = Vec::new();
    let mut rest = stream;
    while rest.len() >= 8 {
        let size = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        if !matches!(&rest[4..8], b"sidx" | b"mfra" | b"free" | b"skip" | b"ssix") {
            media.extend_from_slice(&rest[..size]);
        }
        rest = &rest[size..];
    }
    media
}

/// Writes what a player gets into a directory, with the playlist `index.m3u8`.
fn publish(recordings: &[Recording]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = Vec::new();
    let mut captured_at = 1_768_641_242_000_000;
    for (number, recording) in recordings.iter().enumerate() {
        let init_uri = format!("init-{number}.mp4");
        std::fs::write(dir.path().join(&init_uri), &recording.init).unwrap();
        for segment in &recording.segments {
            let ordinal = entries.len() as u64;
            let uri = format!("seg-{ordinal}.m4s");
            std::fs::write(dir.path().join(&uri), &segment.bytes).unwrap();
            entries.push(playlist::Segment {
                uri,
                duration_us: segment.duration_us,
                captured_at,
                init_uri: init_uri.clone(),
                recording: number as u64,
                ordinal,
                independent: segment.independent,
                gap: false,
            });
            captured_at += segment.duration_us;
        }
    }
    std::fs::write(dir.path().join("index.m3u8"), playlist::render(Kind::Vod, &entries, &[])).unwrap();
    dir
}

/// The decoded frames of every track: a digest each, without the times, which players may count from elsewhere.
fn frames(dir: &Path, input: &str) -> Option<Vec<String>> {
    let listed = ffmpeg(dir, &["-i", input, "-map", "0", "-fps_mode", "passthrough", "-f", "framemd5", "-"])?;
    let listed = String::from_utf8(listed).unwrap();
    let lines = listed.lines().filter(|line| !line.starts_with('#'));
    let mut frames: Vec<(String, String)> = lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            (fields[0].to_owned(), format!("{} {}", fields[0], fields[fields.len() - 1]))
        })
        .collect();
    frames.sort_by(|a, b| a.0.cmp(&b.0));
    Some(frames.into_iter().map(|(_, frame)| frame).collect())
}

const PICTURE: [&str; 4] = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=9"];
const TONE: [&str; 4] = ["-f", "lavfi", "-i", "sine=sample_rate=48000:duration=9"];
const H264: [&str; 8] = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-sc_threshold", "0"];

/// Makes a stream and checks all that holds for every stream; gives what it was cut into.
fn passes(inputs: &[&[&str]], codecs: &[&str], flags: &[&str]) -> Option<Vec<Recording>> {
    let dir = tempfile::tempdir().unwrap();
    let mut arguments: Vec<&str> = inputs.concat();
    arguments.extend(codecs);
    arguments.extend(["-f", "mp4"]);
    arguments.extend(flags);
    arguments.push("source.mp4");
    ffmpeg(dir.path(), &arguments)?;
    passes_file(&dir.path().join("source.mp4"))
}

fn passes_file(source: &Path) -> Option<Vec<Recording>> {
    let stream = std::fs::read(source).unwrap();
    let recordings = cut(&stream).unwrap();
    let sent: Vec<u8> = recordings
        .iter()
        .flat_map(|recording| {
            [&recording.init].into_iter().chain(recording.segments.iter().map(|segment| &segment.bytes))
        })
        .flat_map(|bytes| bytes.to_vec())
        .collect();
    assert!(sent == media_bytes(&stream), "every byte of the media, in its order");
    if let [only] = recordings.as_slice() {
        let played = frames(publish(&recordings).path(), "index.m3u8")?;
        assert!(!played.is_empty());
        let expected = frames(source.parent().unwrap(), source.file_name().unwrap().to_str().unwrap())?;
        assert!(played == expected, "frame for frame as the source: {} frames of {}", played.len(), expected.len());
        let length: u64 = only.segments.iter().map(|segment| segment.duration_us).sum();
        let last = only.segments.last().unwrap();
        let end = last.decode_time_us + last.duration_us - only.segments[0].decode_time_us;
        assert!(length.abs_diff(end) < 100_000, "the lengths add up: {length} and {end}");
    }
    Some(recordings)
}

fn lengths_ms(recording: &Recording) -> Vec<u64> {
    recording.segments.iter().map(|segment| segment.duration_us / 1_000).collect()
}

/// When the recordings of exact clips were taken, microseconds.
const TAKEN_AT: u64 = 1_768_641_242_000_000;

/// The clip of a part of a recording, microseconds from its beginning; `None` where nothing begins in it.
fn exact(recording: &Recording, from: u64, to: u64) -> Option<Vec<u8>> {
    let mut indexer = Indexer::new(recording.init.clone()).unwrap();
    let zero = recording.segments[0].decode_time_us;
    for segment in &recording.segments {
        indexer.push(&segment.bytes, TAKEN_AT + segment.decode_time_us - zero).unwrap();
    }
    let head = indexer.finish(TAKEN_AT + from, TAKEN_AT + to).unwrap()?;
    let payloads = recording.segments[head.payloads].iter().flat_map(|segment| segment.bytes.to_vec());
    Some(head.bytes.iter().copied().chain(payloads).collect())
}

/// Frames of one stream of a file, each with its digest, in order. That frames which are not shown lack what they refer to, as after an
/// open group of pictures, is no fault.
fn frames_of(dir: &Path, input: &str, stream: &str) -> Option<Vec<String>> {
    let listed = ffmpeg(
        dir,
        &["-loglevel", "fatal", "-i", input, "-map", stream, "-fps_mode", "passthrough", "-f", "framemd5", "-"],
    )?;
    let listed = String::from_utf8(listed).unwrap();
    let frames = listed.lines().filter(|line| !line.starts_with('#'));
    Some(frames.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect())
}

/// The sound of a file as 16-bit samples of one channel.
fn sound_of(dir: &Path, input: &str) -> Option<Vec<i16>> {
    let bytes = ffmpeg(dir, &["-i", input, "-map", "0:a", "-ac", "1", "-f", "s16le", "-"])?;
    Some(bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect())
}

#[test]
fn an_exact_clip_decodes_to_the_frames_of_its_range_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let negative = "+frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets";
    let kinds: [(&str, &[&str], &str); 4] = [
        ("25", &["-bf", "2", "-g", "25"], FRAGMENTED),
        ("30000/1001", &["-bf", "3", "-g", "60", "-x264-params", "open-gop=1"], FRAGMENTED),
        ("25", &["-bf", "0", "-g", "1000"], FRAGMENTED),
        ("50", &["-bf", "2", "-g", "50"], negative),
    ];
    for (rate, codecs, flags) in kinds {
        let picture = format!("testsrc2=size=160x120:rate={rate}:duration=9");
        let inputs = ["-f", "lavfi", "-i", &picture];
        let h264 = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-sc_threshold", "0"];
        let output = ["-f", "mp4", "-movflags", flags, "-frag_duration", "2000000", "source.mp4"];
        let Some(_) = ffmpeg(dir.path(), &[&inputs[..], &h264, codecs, &output].concat()) else { return };
        let recordings = cut(&std::fs::read(dir.path().join("source.mp4")).unwrap()).unwrap();
        let all = frames_of(dir.path(), "source.mp4", "0:v").unwrap();
        let (numerator, denominator) = rate.split_once('/').unwrap_or((rate, "1"));
        let (numerator, denominator): (u64, u64) = (numerator.parse().unwrap(), denominator.parse().unwrap());
        let taken = |frame: usize| (2 * frame as u64 * denominator * 1_000_000 + numerator) / (2 * numerator);
        for (from, to) in [
            (0, 9_000_000),
            (1_000_000, 3_000_000),
            (1_234_567, 4_321_000),
            (4_000_000, 4_040_000),
            (2_999_999, 8_960_001),
        ] {
            let expected: Vec<&String> = all
                .iter()
                .enumerate()
                .filter(|(frame, _)| (from..to).contains(&taken(*frame)))
                .map(|(_, one)| one)
                .collect();
            std::fs::write(dir.path().join("clip.mp4"), exact(&recordings[0], from, to).unwrap()).unwrap();
            let found = frames_of(dir.path(), "clip.mp4", "0:v").unwrap();
            assert_eq!(found.len(), expected.len(), "{rate} {codecs:?} {from}..{to}");
            assert!(found.iter().eq(expected), "{rate} {codecs:?} {from}..{to}: frame for frame");
        }
        assert!(exact(&recordings[0], 20_000_000, 30_000_000).is_none(), "nothing is shown outside");
    }
}

#[test]
fn the_sound_of_an_exact_clip_is_that_of_its_range() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = ["-f", "lavfi", "-i", "aevalsrc=sin(2*PI*(200*t+40*t*t))*0.5:s=48000:d=9"];
    let inputs = [&PICTURE[..], &sweep].concat();
    let codecs =
        [&H264[..], &["-g", "25", "-c:a", "aac", "-b:a", "192k", "-f", "mp4", "-movflags", FRAGMENTED]].concat();
    let Some(_) = ffmpeg(dir.path(), &[&inputs[..], &codecs, &["source.mp4"]].concat()) else { return };
    let recordings = cut(&std::fs::read(dir.path().join("source.mp4")).unwrap()).unwrap();
    let all = sound_of(dir.path(), "source.mp4").unwrap();
    for (from, to) in [(1_000_000_u64, 3_000_000_u64), (2_480_000, 6_120_000)] {
        std::fs::write(dir.path().join("clip.mp4"), exact(&recordings[0], from, to).unwrap()).unwrap();
        let found = sound_of(dir.path(), "clip.mp4").unwrap();
        let (begin, end) = ((from * 48 / 1_000) as usize, (to * 48 / 1_000) as usize);
        assert!(found.len() >= end - begin && found.len() < end - begin + 1_024, "{} of {}", found.len(), end - begin);
        // Where it lies in the source: the shift at which they agree best is that of the pictures, which ffmpeg lets begin a little
        // after the sound.
        let differs = |shift: i64| -> i64 {
            let source = &all[(begin as i64 + shift) as usize..];
            found.iter().zip(source).take(20_000).map(|(a, b)| i64::from(a.abs_diff(*b))).sum()
        };
        let best = (-1_100..1_100).min_by_key(|shift| differs(*shift)).unwrap();
        let pictures = ((recordings[0].segments[1].decode_time_us % 1_000_000) * 48 / 1_000) as i64;
        assert!((best - pictures).abs() <= 1, "{best}, and the pictures are at {pictures}");
    }
}

#[test]
fn a_lost_segment_leaves_a_pause_in_an_exact_clip_and_no_frame_is_lost_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let codecs = [&H264[..], &["-g", "25", "-bf", "2", "-f", "mp4", "-movflags", FRAGMENTED, "source.mp4"]].concat();
    let Some(_) = ffmpeg(dir.path(), &[&PICTURE[..], &codecs].concat()) else { return };
    let mut recordings = cut(&std::fs::read(dir.path().join("source.mp4")).unwrap()).unwrap();
    recordings[0].segments.remove(1);
    let all = frames_of(dir.path(), "source.mp4", "0:v").unwrap();
    std::fs::write(dir.path().join("clip.mp4"), exact(&recordings[0], 1_000_000, 5_000_000).unwrap()).unwrap();
    assert!(frames_of(dir.path(), "clip.mp4", "0:v").unwrap() == [&all[25..50], &all[100..125]].concat());
}

#[test]
fn pictures_with_b_frames_and_sound_come_through() {
    let video = [
        &["-c:v", "libx264", "-preset", "medium", "-bf", "3", "-g", "25", "-sc_threshold", "0"][..],
        &["-pix_fmt", "yuv420p"],
    ]
    .concat();
    let codecs = [&video[..], &["-c:a", "aac"]].concat();
    let Some(recordings) = passes(&[&PICTURE, &TONE], &codecs, &["-movflags", FRAGMENTED]) else { return };
    assert!(recordings[0].codecs.starts_with("avc1.64") && recordings[0].codecs.ends_with(",mp4a.40.2"));
    assert_eq!(lengths_ms(&recordings[0]), [2_000, 2_000, 2_000, 2_000, 1_000]);
    assert!(recordings[0].segments.iter().all(|segment| segment.independent));
}

#[test]
fn sound_alone_comes_through() {
    let flags = ["-movflags", "+empty_moov+default_base_moof", "-frag_duration", "500000"];
    let Some(recordings) = passes(&[&TONE], &["-c:a", "aac"], &flags) else { return };
    assert_eq!(recordings[0].codecs, "mp4a.40.2");
    let lengths = lengths_ms(&recordings[0]);
    assert!(lengths.iter().rev().skip(1).all(|length| (1_000..=4_000).contains(length)), "{lengths:?}");
    assert!(recordings[0].segments.iter().all(|segment| segment.independent));
}

#[test]
fn pictures_alone_with_an_odd_frame_rate_come_through() {
    let rate = ["-r", "30000/1001", "-g", "30"];
    let codecs = [&H264[..], &rate].concat();
    let Some(recordings) = passes(&[&PICTURE], &codecs, &["-movflags", FRAGMENTED]) else { return };
    assert_eq!(recordings[0].segments[0].duration_us, 2_002_000);
}

#[test]
fn a_group_of_pictures_longer_than_a_link_stays_whole() {
    let codecs = [&H264[..], &["-g", "1000"]].concat();
    let Some(recordings) = passes(&[&PICTURE], &codecs, &["-movflags", FRAGMENTED]) else { return };
    assert_eq!(lengths_ms(&recordings[0]), [9_000]);
}

#[test]
fn small_fragments_of_a_long_group_are_cut_at_four_seconds() {
    let codecs = [&H264[..], &["-g", "1000", "-c:a", "aac"]].concat();
    let flags = ["-movflags", "+empty_moov+default_base_moof", "-frag_duration", "200000"];
    let Some(recordings) = passes(&[&PICTURE, &TONE], &codecs, &flags) else { return };
    let segments = &recordings[0].segments;
    assert!(segments.iter().all(|segment| segment.duration_us <= 4_000_000), "{:?}", lengths_ms(&recordings[0]));
    assert_eq!(segments.iter().map(|segment| segment.independent).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn small_fragments_are_grouped_at_key_frames() {
    let codecs = [&H264[..], &["-g", "50", "-bf", "2"]].concat();
    let flags = ["-movflags", FRAGMENTED, "-frag_duration", "200000"];
    let Some(recordings) = passes(&[&PICTURE], &codecs, &flags) else { return };
    assert!(recordings[0].segments.iter().all(|segment| segment.independent));
    assert_eq!(lengths_ms(&recordings[0]), [2_000, 2_000, 2_000, 2_000, 1_000]);
}

#[test]
fn a_file_with_indexes_and_one_fragment_per_track_comes_through() {
    let codecs = [&H264[..], &["-g", "25", "-c:a", "aac"]].concat();
    for flags in [
        format!("{FRAGMENTED}+dash+global_sidx"),
        format!("{FRAGMENTED}+separate_moof"),
        "+cmaf+frag_keyframe".to_owned(),
    ] {
        let Some(recordings) = passes(&[&PICTURE, &TONE], &codecs, &["-movflags", &flags]) else { return };
        let lengths = lengths_ms(&recordings[0]);
        assert!(lengths.iter().rev().skip(1).all(|length| (1_000..=4_000).contains(length)), "{flags}: {lengths:?}");
    }
}

#[test]
fn two_streams_one_after_the_other_are_two_recordings() {
    let dir = tempfile::tempdir().unwrap();
    let mut both = Vec::new();
    let names = ["testsrc2", "smptebars"];
    for picture in names {
        let name = format!("{picture}.mp4");
        let input = format!("{picture}=size=160x120:rate=25:duration=3");
        let output = ["-g", "25", "-f", "mp4", "-movflags", FRAGMENTED, &name];
        let Some(_) = ffmpeg(dir.path(), &[&["-f", "lavfi", "-i", &input][..], &H264, &output].concat()) else {
            return;
        };
        both.extend(std::fs::read(dir.path().join(&name)).unwrap());
    }
    std::fs::write(dir.path().join("both.mp4"), both).unwrap();
    let Some(recordings) = passes_file(&dir.path().join("both.mp4")) else { return };
    assert_eq!(recordings.iter().map(lengths_ms).collect::<Vec<_>>(), [[2_000, 1_000], [2_000, 1_000]]);
    // One by one: ffmpeg up to 5.1 skips the second initialisation segment of a playlist ("Found duplicated MOOV Atom").
    for (name, recording) in names.iter().zip(recordings.chunks(1)) {
        let expected = frames(dir.path(), &format!("{name}.mp4")).unwrap();
        assert!(frames(publish(recording).path(), "index.m3u8").unwrap() == expected, "{name}");
    }
}

#[test]
fn footage_of_others_comes_through() {
    let footage = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/footage");
    for name in ["bikes.mp4", "bigbuckbunny.mp4"] {
        let original: PathBuf = footage.join(name);
        if !original.exists() {
            eprintln!("skipped: no {name}");
            continue;
        }
        let original = original.to_str().unwrap();
        let Some(recordings) = passes(&[&["-i", original]], &["-c", "copy"], &["-movflags", FRAGMENTED]) else {
            return;
        };
        assert_eq!(recordings.len(), 1);
    }
}

#[test]
fn a_file_that_is_not_fragmented_is_refused_with_the_way_to_make_it_so() {
    let dir = tempfile::tempdir().unwrap();
    let codecs = [&PICTURE[..], &H264, &["-f", "mp4"]].concat();
    for flags in
        [&["-movflags", "+faststart", "plain.mp4"][..], &["plain.mp4"], &["-movflags", "+frag_keyframe", "plain.mp4"]]
    {
        let Some(_) = ffmpeg(dir.path(), &[&codecs[..], flags].concat()) else { return };
        let error = cut(&std::fs::read(dir.path().join("plain.mp4")).unwrap()).err().unwrap();
        assert!(matches!(error, Error::NotFragmented | Error::AbsoluteOffsets), "{flags:?}: {error:?}");
        assert!(error.to_string().contains("+frag_keyframe+empty_moov+default_base_moof"));
    }
}

#[test]
fn the_clip_in_a_loop_decodes_as_one_recording() {
    let clip = Loop::read(CLIP).unwrap();
    let stream: Vec<u8> = (0..30).flat_map(|number| clip.fragment(number).unwrap().bytes.to_vec()).collect();
    let stream = [&clip.init().bytes[..], &stream].concat();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("loop.mp4"), &stream).unwrap();
    let Some(recordings) = passes_file(&dir.path().join("loop.mp4")) else { return };
    assert_eq!(lengths_ms(&recordings[0]), [2_000; 15]);
    let pictures = frames(dir.path(), "loop.mp4").unwrap().iter().filter(|frame| frame.starts_with("0 ")).count();
    assert_eq!(pictures, 30 * 25);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(stream in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = cut(&stream);
    }

    #[test]
    fn a_truncated_clip_is_a_prefix_and_never_panics(length in 0..CLIP.len()) {
        match cut(&CLIP[..length]) {
            Ok(recordings) => prop_assert!(recordings.iter().all(|recording| !recording.segments.is_empty())),
            Err(error) => prop_assert!(matches!(error, Error::Empty | Error::NotMp4 | Error::NoFragments | Error::Truncated)),
        }
    }

    #[test]
    fn payloads_of_flipped_bits_are_never_indexed_beyond_their_end(
        flips in proptest::collection::vec((0..60_000_usize, any::<u8>()), 1..20),
    ) {
        let clip = Loop::read(CLIP).unwrap();
        let mut payload = clip.fragment(0).unwrap().bytes.to_vec();
        let mut init = clip.init().bytes.to_vec();
        for (at, value) in flips {
            let (length, of_init) = (payload.len(), init.len());
            if at % 2 == 0 { payload[at / 2 % length.min(2_000)] ^= value } else { init[at / 2 % of_init] ^= value }
        }
        if let Ok(mut indexer) = Indexer::new(init.into()) && indexer.push(&payload, 5).is_ok() {
            let _ = indexer.finish(0, u64::MAX);
        }
    }

    #[test]
    fn flipped_bits_and_overwritten_bytes_never_panic(
        flips in proptest::collection::vec((0..2_000_usize, any::<u8>()), 1..20),
    ) {
        let mut clip = CLIP[..40_000].to_vec();
        for (at, value) in flips {
            clip[at] ^= value;
        }
        let _ = cut(&clip);
        let _ = Loop::read(&clip);
    }

    #[test]
    fn boxes_nested_to_any_depth_never_exhaust_the_stack(depth in 1..60_000_usize, kind in 0..4_usize) {
        let kind = [b"moov", b"trak", b"mvex", b"meta"][kind];
        let mut boxes = Vec::new();
        for level in (1..=depth).rev() {
            boxes.extend_from_slice(&u32::try_from(level * 8).unwrap().to_be_bytes());
            boxes.extend_from_slice(if level == depth { b"moov" } else { kind });
        }
        let ftyp = b"\0\0\0\x10ftypisom\0\0\0\0";
        prop_assert!(cut(&[&ftyp[..], &boxes].concat()).is_err());
    }
}
