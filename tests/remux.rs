//! Ordinary MP4 and MOV files against ffmpeg: what is cut from them without encoding has the frames, the sound and the times of the
//! source, and files that lie end in an error.
//!
//! Needs `ffmpeg`; where it is missing the tests that run it say so and pass.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aigaq::media::remux::{self, Fault, Opened, Remux};
use aigaq::media::{Cutter, Error, Event, Fragmenter, Init, Segment};
use proptest::prelude::*;

const CLIP: &[u8] = include_bytes!("../deploy/clip/clip.mp4");
const LINK_BYTES_MAX: u32 = 32 * 1024 * 1024;
const PICTURE: [&str; 4] = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=9"];
const TONE: [&str; 4] = ["-f", "lavfi", "-i", "sine=frequency=440:duration=9"];
const HUM: [&str; 4] = ["-f", "lavfi", "-i", "sine=frequency=110:duration=9"];
const H264: [&str; 8] = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-sc_threshold", "0"];
const B_FRAMES: [&str; 4] = ["-bf", "3", "-g", "50"];

/// Runs ffmpeg and gives what it wrote to standard output; `None` where there is no ffmpeg.
fn ffmpeg(arguments: &[&str]) -> Option<Vec<u8>> {
    let command = Command::new("ffmpeg")
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

/// A file as links would carry it.
struct Cut {
    init: Init,
    segments: Vec<Segment>,
    notes: Vec<String>,
}

fn cut(file: Vec<u8>) -> Result<Cut, Fault> {
    let mut remux = match Remux::open(Cursor::new(file))? {
        Opened::Plain(remux) => remux,
        Opened::Fragmented(_) => panic!("fragmented"),
    };
    let mut cutter = Cutter::new(LINK_BYTES_MAX);
    let mut segments = Vec::new();
    while let Some(fragment) = remux.next_fragment()? {
        segments.extend(cutter.push(fragment)?);
    }
    segments.extend(cutter.flush());
    let (init, notes) = (remux.init().clone(), remux.notes().to_vec());
    Ok(Cut { init, segments, notes })
}

/// Each decoded frame of a stream: when it is shown, in microseconds, and its digest.
fn frames(file: &Path, stream: &str) -> Vec<(i64, String)> {
    let file = file.to_str().unwrap();
    let text =
        ffmpeg(&["-copyts", "-i", file, "-map", stream, "-vsync", "passthrough", "-f", "framemd5", "-"]).unwrap();
    let text = String::from_utf8(text).unwrap();
    let base = text.lines().find_map(|line| line.strip_prefix("#tb 0: ")).unwrap_or("1/1");
    let (up, down) = base.split_once('/').unwrap();
    let (up, down): (i64, i64) = (up.parse().unwrap(), down.parse().unwrap());
    let frame = |line: &str| {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        (cells[2].parse::<i64>().unwrap() * 1_000_000 * up / down, cells[5].to_owned())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(frame).collect()
}

/// Checks what holds for every file: it plays like its source, stream for stream and frame for frame, every segment stands for
/// itself, and the stream of links is one that the existing way takes.
fn plays_like_its_source(source: &Path, streams: &[&str]) -> Cut {
    let cut = cut(std::fs::read(source).unwrap()).unwrap();
    let stream: Vec<u8> = [&cut.init.bytes]
        .into_iter()
        .chain(cut.segments.iter().map(|segment| &segment.bytes))
        .flat_map(|bytes| bytes.to_vec())
        .collect();
    let played = source.with_extension("played.mp4");
    std::fs::write(&played, &stream).unwrap();
    for stream in streams {
        let (expected, mut found) = (frames(source, stream), frames(&played, stream));
        assert!(expected.len() > 1, "{stream} of {}", source.display());
        // What an edit list hides at the beginning, such as an encoder's priming, keeps its time: before zero.
        if expected[0].0 >= 0 {
            found.retain(|(at, _)| *at >= 0);
        }
        same_frames(&expected, &found, &format!("{stream} of {}", source.display()));
    }
    let mut fragmenter = Fragmenter::new(u64::from(LINK_BYTES_MAX));
    fragmenter.push(&stream);
    fragmenter.end();
    let mut events = Vec::new();
    while let Some(event) = fragmenter.poll().unwrap() {
        events.push(event);
    }
    assert!(matches!(&events[0], Event::Init(init) if *init == cut.init));
    let mut end = None;
    for segment in &cut.segments {
        assert!(
            end.is_none_or(|end: u64| end.abs_diff(segment.decode_time_us) <= 1),
            "no hole and no overlap: {end:?}"
        );
        end = Some(segment.decode_time_us + segment.duration_us);
    }
    cut
}

fn same_frames(expected: &[(i64, String)], found: &[(i64, String)], what: &str) {
    for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
        assert!(expected.1 == found.1, "frame {index} of {what} is another: {expected:?} {found:?}");
        assert!(expected.0.abs_diff(found.0) <= 1, "frame {index} of {what} at {} instead of {}", found.0, expected.0);
    }
    assert_eq!(expected.len(), found.len(), "{what}");
}

fn lengths_ms(cut: &Cut) -> Vec<u64> {
    cut.segments.iter().map(|segment| segment.duration_us / 1_000).collect()
}

fn independent(cut: &Cut) -> bool {
    cut.segments.iter().all(|segment| segment.independent)
}

/// Makes `name` in a new directory with these arguments; `None` where there is no ffmpeg.
fn make(name: &str, arguments: &[&[&str]]) -> Option<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    ffmpeg(&[&arguments.concat()[..], &[path.to_str().unwrap()]].concat())?;
    Some((dir, path))
}

#[test]
fn pictures_with_b_frames_and_sound_come_through_wherever_the_index_lies() {
    for flags in [&[][..], &["-movflags", "+faststart"], &["-movflags", "+use_metadata_tags", "-write_tmcd", "0"]] {
        let Some((_dir, source)) = make("b.mp4", &[&PICTURE, &TONE, &H264, &B_FRAMES, &["-c:a", "aac"], flags]) else {
            return;
        };
        let cut = plays_like_its_source(&source, &["0:v", "0:a"]);
        assert_eq!(lengths_ms(&cut), [2_000, 2_000, 2_000, 2_000, 1_000]);
        assert!(independent(&cut) && cut.notes.is_empty(), "{:?}", cut.notes);
        assert!(cut.init.codecs.starts_with("avc1.") && cut.init.codecs.ends_with(",mp4a.40.2"));
    }
}

#[test]
fn h265_comes_through() {
    let x265 = ["-c:v", "libx265", "-x265-params", "log-level=none:keyint=25:bframes=3", "-tag:v", "hvc1"];
    for name in ["h265.mp4", "h265.mov"] {
        let Some((_dir, source)) = make(name, &[&PICTURE, &x265, &["-pix_fmt", "yuv420p"]]) else { return };
        let cut = plays_like_its_source(&source, &["0:v"]);
        assert!(cut.init.codecs.starts_with("hvc1.") && cut.segments[0].independent);
    }
}

#[test]
fn sound_alone_comes_through() {
    let Some((_dir, source)) = make("sound.m4a", &[&TONE, &["-c:a", "aac"]]) else { return };
    let cut = plays_like_its_source(&source, &["0:a"]);
    assert!(independent(&cut));
    let lengths = lengths_ms(&cut);
    assert!(lengths.iter().rev().skip(1).all(|length| (1_000..=4_000).contains(length)), "{lengths:?}");
}

#[test]
fn uncompressed_sound_comes_through_and_costs_little_more_than_itself() {
    let Some((_dir, source)) = make("pcm.mov", &[&PICTURE, &TONE, &H264, &["-g", "25", "-c:a", "pcm_s16le"]]) else {
        return;
    };
    let cut = plays_like_its_source(&source, &["0:v"]);
    // A player takes other stretches of it at a time, so the whole is compared.
    let sound = |name: &str| {
        let path = source.with_extension(name);
        ffmpeg(&["-i", path.to_str().unwrap(), "-map", "0:a", "-f", "s16le", "-"]).unwrap()
    };
    assert!(sound("mov").len() > 700_000 && sound("mov") == sound("played.mp4"));
    let (bytes, original) =
        (cut.segments.iter().map(|segment| segment.bytes.len()).sum(), std::fs::read(&source).unwrap().len());
    assert!((original / 2..original).contains(&bytes), "{bytes} of {original}");
}

#[test]
fn a_variable_frame_rate_comes_through() {
    let drop =
        ["-vf", "select='not(mod(n,7))+not(mod(n,5))+lt(mod(n,90),20)'", "-vsync", "vfr", "-g", "12", "-bf", "2"];
    let Some((_dir, source)) = make("vfr.mp4", &[&PICTURE, &H264, &drop]) else { return };
    let cut = plays_like_its_source(&source, &["0:v"]);
    assert!(independent(&cut));
}

#[test]
fn a_quicktime_file_with_a_timecode_and_two_sounds_comes_through_without_the_timecode() {
    let codecs = ["-map", "0:v", "-map", "1:a", "-map", "2:a", "-c:a", "aac", "-timecode", "09:14:02:00"];
    let Some((_dir, source)) = make("camera.mov", &[&PICTURE, &TONE, &HUM, &H264, &B_FRAMES, &codecs]) else { return };
    let cut = plays_like_its_source(&source, &["0:v", "0:a:0", "0:a:1"]);
    assert_eq!(cut.notes, ["track 4 (tmcd, tmcd) is left out"]);
    assert_eq!(cut.init.movie.tracks().len(), 3);
}

#[test]
fn chapters_subtitles_and_a_cover_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("text.srt"), "1\n00:00:01,000 --> 00:00:03,000\nHalt\n").unwrap();
    std::fs::write(at("chapters.txt"), ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=4000\ntitle=one\n")
        .unwrap();
    let Some(_) = ffmpeg(&["-f", "lavfi", "-i", "testsrc2=size=64x64:duration=1", "-frames:v", "1", &at("cover.jpg")])
    else {
        return;
    };
    let (text, chapters, cover) = (at("text.srt"), at("chapters.txt"), at("cover.jpg"));
    let inputs = [&PICTURE[..], &["-i", &text, "-i", &chapters, "-i", &cover]].concat();
    let maps = ["-map", "0:v", "-map", "1", "-map", "3:v", "-map_metadata", "2", "-c:s", "mov_text"];
    let codecs = [
        "-c:v:0",
        "libx264",
        "-pix_fmt:v:0",
        "yuv420p",
        "-g:v:0",
        "25",
        "-c:v:1",
        "mjpeg",
        "-disposition:v:1",
        "attached_pic",
    ];
    ffmpeg(&[&inputs[..], &maps, &codecs, &[&at("all.mp4")]].concat()).unwrap();
    let cut = plays_like_its_source(Path::new(&at("all.mp4")), &["0:v:0"]);
    assert_eq!(cut.init.movie.tracks().len(), 1, "{:?}", cut.notes);
    assert!(cut.notes.iter().any(|note| note.contains("text")), "{:?}", cut.notes);
}

#[test]
fn pictures_that_begin_late_stay_late() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let Some(_) = ffmpeg(&[&PICTURE[..], &H264, &B_FRAMES, &[&at("picture.mp4")]].concat()) else { return };
    ffmpeg(&[&TONE[..], &["-c:a", "aac", &at("tone.m4a")]].concat()).unwrap();
    let (picture, tone) = (at("picture.mp4"), at("tone.m4a"));
    let inputs = ["-itsoffset", "3.5", "-i", &picture, "-i", &tone];
    ffmpeg(&[&inputs[..], &["-map", "0:v", "-map", "1:a", "-c", "copy", &at("late.mp4")]].concat()).unwrap();
    let cut = plays_like_its_source(Path::new(&at("late.mp4")), &["0:v", "0:a"]);
    let first = cut.segments.iter().find(|segment| segment.independent).unwrap();
    assert!(first.decode_time_us.abs_diff(3_500_000) < 150_000, "{}", first.decode_time_us);
    assert!(cut.segments.iter().all(|segment| segment.duration_us <= 4_000_000), "{:?}", lengths_ms(&cut));
}

#[test]
fn a_group_of_pictures_longer_than_a_link_is_cut_and_says_so() {
    let Some((_dir, source)) = make("long.mp4", &[&PICTURE, &TONE, &H264, &["-g", "1000", "-bf", "2", "-c:a", "aac"]])
    else {
        return;
    };
    let cut = plays_like_its_source(&source, &["0:v", "0:a"]);
    assert_eq!(lengths_ms(&cut), [4_000, 4_000, 1_000]);
    assert_eq!(cut.segments.iter().map(|segment| segment.independent).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn two_cameras_in_one_file_both_begin_each_segment_with_a_key_frame() {
    let rear = ["-f", "lavfi", "-i", "smptebars=size=160x120:rate=30:duration=9"];
    let codecs = ["-map", "0:v", "-map", "1:v", "-g:v:0", "50", "-g:v:1", "36", "-bf", "0"];
    let Some((_dir, source)) = make("two.mp4", &[&PICTURE, &rear, &H264, &codecs]) else { return };
    let cut = plays_like_its_source(&source, &["0:v:0", "0:v:1"]);
    assert!(independent(&cut));
}

#[test]
fn the_time_of_the_file_is_that_of_its_header() {
    let created_at = |path: &Path| remux::created_at(&mut Cursor::new(std::fs::read(path).unwrap())).unwrap();
    let created = ["-metadata", "creation_time=2026-01-17T09:14:02Z"];
    for flags in [&[][..], &["-movflags", "+faststart"], &["-movflags", "+frag_keyframe+empty_moov+default_base_moof"]]
    {
        let Some((_dir, source)) = make("dated.mp4", &[&PICTURE, &H264, &created, flags]) else { return };
        assert_eq!(created_at(&source), Some(1_768_641_242_000_000), "{flags:?}");
    }
    let Some((_dir, source)) = make("undated.mp4", &[&PICTURE, &H264]) else { return };
    assert_eq!(created_at(&source), None);
}

#[test]
fn footage_of_others_comes_through() {
    let footage = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/footage");
    for name in ["bikes.mp4", "bigbuckbunny.mp4"] {
        let Ok(bytes) = std::fs::read(footage.join(name)) else {
            eprintln!("skipped: no {name}");
            continue;
        };
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join(name);
        std::fs::write(&source, bytes).unwrap();
        let Some(_) = ffmpeg(&["-version"]) else { return };
        plays_like_its_source(&source, &["0:v"]);
    }
}

/// The boxes of a small ordinary file, so that each test can spoil one.
fn small_file() -> Option<Vec<u8>> {
    let short = ["-t", "2", "-g", "25", "-bf", "2", "-c:a", "aac", "-b:a", "24k"];
    let (_dir, source) = make("small.mp4", &[&PICTURE, &TONE, &H264, &short])?;
    Some(std::fs::read(source).unwrap())
}

fn find(file: &[u8], kind: &[u8; 4]) -> usize {
    file.windows(4).position(|window| window == kind).unwrap()
}

fn refused(file: Vec<u8>, part: &str) {
    match cut(file) {
        Ok(_) => panic!("taken, although {part}"),
        Err(fault) => assert!(fault.to_string().contains(part) && !fault.to_string().contains('\n'), "{part}: {fault}"),
    }
}

#[test]
fn files_that_cannot_be_cut_say_why_in_one_line() {
    let Some(file) = small_file() else { return };
    refused(Vec::new(), "empty");
    refused(b"RIFF....AVI LIST".repeat(9), "not an MP4");
    let (mdat, moov) = (find(&file, b"mdat") - 4, find(&file, b"moov") - 4);
    refused(file[..moov].to_vec(), "no index (moov)");
    refused(file[..file.len() - 1].to_vec(), "ends in the middle");
    // The index is whole, but the samples are not: what a card leaves that was pulled out.
    let mut front = [&file[..mdat], &file[moov..]].concat();
    refused(front.clone(), "ends in the middle");
    front.extend_from_slice(&file[mdat..mdat + 100]);
    refused(front, "ends in the middle");
    let mut encrypted = file.clone();
    let entry = find(&encrypted, b"avc1");
    let entry = entry + 4 + find(&encrypted[entry + 4..], b"avc1");
    encrypted[entry..entry + 4].copy_from_slice(b"encv");
    refused(encrypted, "encrypted");
    let mut mixed = file.clone();
    mixed.extend_from_slice(b"\0\0\0\x08moof");
    refused(mixed, "mixes fragments and plain samples");
}

#[test]
fn counts_that_promise_more_than_there_is_allocate_nothing() {
    let Some(file) = small_file() else { return };
    for table in [b"stts", b"stsz", b"stsc", b"stco", b"stss", b"ctts", b"elst"] {
        let mut broken = file.clone();
        let count = find(&broken, table) + if table == b"stsz" { 12 } else { 8 };
        broken[count..count + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        refused(broken, std::str::from_utf8(table).unwrap());
    }
    // One size for four thousand million samples.
    let mut same = file.clone();
    let size = find(&same, b"stsz") + 8;
    same[size..size + 8].copy_from_slice(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
    assert!(cut(same).is_err());
}

/// A file with a hole of so many bytes before its samples, which is never held anywhere.
struct Holed {
    before: Vec<u8>,
    hole: u64,
    after: Vec<u8>,
    at: u64,
}

impl Read for Holed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let begin = self.before.len() as u64;
        let (from, most) = if self.at < begin {
            (&self.before[self.at as usize..], u64::MAX)
        } else if self.at < begin + self.hole {
            (&[0; 512][..], begin + self.hole - self.at)
        } else {
            (&self.after[((self.at - begin - self.hole) as usize).min(self.after.len())..], u64::MAX)
        };
        let count = buffer.len().min(from.len()).min(usize::try_from(most).unwrap_or(usize::MAX));
        buffer[..count].copy_from_slice(&from[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Holed {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(back) => {
                (self.before.len() as u64 + self.hole + self.after.len() as u64).saturating_add_signed(back)
            }
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
        };
        Ok(self.at)
    }
}

/// The boxes of a container with every `stco` made a `co64` whose chunks lie so many bytes later.
fn moved(boxes: &[u8], by: u64) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), boxes);
    while rest.len() >= 8 {
        let (whole, after) = rest.split_at(u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize);
        let (kind, body) = (&whole[4..8], &whole[8..]);
        let (kind, body) = match kind {
            b"moov" | b"trak" | b"mdia" | b"minf" | b"stbl" => (kind, moved(body, by)),
            b"stco" => {
                let offsets = body[8..].chunks(4).map(|at| u64::from(u32::from_be_bytes(at.try_into().unwrap())) + by);
                (&b"co64"[..], [&body[..8], &offsets.flat_map(u64::to_be_bytes).collect::<Vec<_>>()].concat())
            }
            _ => (kind, body.to_vec()),
        };
        out.extend_from_slice(&u32::try_from(body.len() + 8).unwrap().to_be_bytes());
        out.extend_from_slice(kind);
        out.extend_from_slice(&body);
        rest = after;
    }
    out
}

#[test]
fn samples_beyond_four_gigabytes_and_in_several_boxes_are_found() {
    let Some(file) = small_file() else { return };
    let (mdat, moov) = (find(&file, b"mdat") - 4, find(&file, b"moov") - 4);
    // The hole is the first of two mdat, and has the long form of a size.
    let hole = 6_000_000_000u64;
    let before = [&file[..mdat], b"\0\0\0\x01mdat", &(hole + 16).to_be_bytes()].concat();
    let after = [&file[mdat..moov], &moved(&file[moov..], hole + 16)].concat();
    let Ok(Opened::Plain(mut large)) = Remux::open(Holed { before, hole, after, at: 0 }) else { panic!("not taken") };
    let Ok(Opened::Plain(mut small)) = Remux::open(Cursor::new(&file[..])) else { panic!("not taken") };
    assert_eq!(large.init(), small.init());
    let mut fragments = 0;
    while let Some(fragment) = small.next_fragment().unwrap() {
        assert!(large.next_fragment().unwrap() == Some(fragment));
        fragments += 1;
    }
    assert!(large.next_fragment().unwrap().is_none() && fragments >= 2, "{fragments}");
}

#[test]
fn a_fragmented_file_goes_the_way_of_fragments() {
    assert!(matches!(Remux::open(Cursor::new(CLIP)), Ok(Opened::Fragmented(_))));
    assert!(matches!(Remux::open(Cursor::new(&CLIP[find(CLIP, b"moof") - 4..])), Ok(Opened::Fragmented(_))));
}

/// A small ordinary file that the tests below spoil; made once.
static SMALL: std::sync::LazyLock<Option<Vec<u8>>> = std::sync::LazyLock::new(small_file);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = Remux::open(Cursor::new(bytes));
    }

    #[test]
    fn a_truncated_file_is_an_error(part in 0.0..1.0_f64) {
        let Some(file) = &*SMALL else { return Ok(()) };
        let length = (file.len() as f64 * part) as usize;
        prop_assert!(cut(file[..length].to_vec()).is_err());
    }

    #[test]
    fn flipped_bits_never_panic_and_give_no_more_than_the_file_has(
        flips in proptest::collection::vec((0.0..1.0_f64, any::<u8>()), 1..20),
    ) {
        let Some(file) = &*SMALL else { return Ok(()) };
        let mut spoilt = file.clone();
        let moov = find(file, b"moov");
        for (at, value) in flips {
            let at = moov + ((file.len() - moov) as f64 * at) as usize;
            spoilt[at] ^= value;
        }
        // A box type that became another can make a file fragmented; that way has its own tests.
        if let Ok(Opened::Plain(mut remux)) = Remux::open(Cursor::new(spoilt)) {
            let mut bytes = 0;
            while let Ok(Some(fragment)) = remux.next_fragment() {
                bytes += fragment.bytes.len();
            }
            prop_assert!(bytes < 4 * file.len(), "{} bytes of {}", bytes, file.len());
        }
    }
}

#[test]
fn an_error_names_what_is_wrong_with_the_file() {
    let error = Remux::open(Cursor::new(b"\0\0\0\x10ftypisom\0\0\0\0")).err().unwrap();
    assert!(matches!(error, Fault::Media(Error::NoIndex)));
}
