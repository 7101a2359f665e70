//! The fragmenter on the bundled clip, taken apart and put together again, and on hand-made boxes.

use super::*;

const CLIP: &[u8] = include_bytes!("../../../deploy/clip/clip.mp4");

/// All events of a stream that comes in pieces of `piece` bytes, and the error that ended it.
fn events(stream: &[u8], piece: usize) -> (Vec<Event>, Option<Error>) {
    let mut fragmenter = Fragmenter::new(1 << 20);
    let mut events = Vec::new();
    let mut poll = |fragmenter: &mut Fragmenter| loop {
        match fragmenter.poll() {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
    };
    for bytes in stream.chunks(piece) {
        fragmenter.push(bytes);
        if let Some(error) = poll(&mut fragmenter) {
            return (events, Some(error));
        }
    }
    fragmenter.end();
    let error = poll(&mut fragmenter);
    (events, error)
}

fn fault(stream: &[u8]) -> Error {
    events(stream, stream.len().max(1)).1.expect("a fault")
}

fn bytes(events: &[Event]) -> Vec<u8> {
    let of = |event: &Event| match event {
        Event::Init(init) => init.bytes.to_vec(),
        Event::Fragment(fragment) => fragment.bytes.to_vec(),
    };
    events.iter().flat_map(of).collect()
}

fn fragments(events: &[Event]) -> Vec<&Fragment> {
    events
        .iter()
        .filter_map(|event| if let Event::Fragment(fragment) = event { Some(fragment) } else { None })
        .collect()
}

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).unwrap();
    [&size.to_be_bytes()[..], kind, body].concat()
}

/// The clip's top-level boxes.
fn clip_boxes() -> Vec<&'static [u8]> {
    let mut rest = CLIP;
    let mut boxes = Vec::new();
    while let Some(header) = Header::read(rest).unwrap() {
        let Size::Bytes(size) = header.size else { panic!("the clip's boxes have sizes") };
        let (first, others) = rest.split_at(usize::try_from(size).unwrap());
        boxes.push(first);
        rest = others;
    }
    boxes
}

/// `ftyp`, `moov`, and the boxes of the first fragment as given.
fn with_fragment(fragment: &[&[u8]]) -> Vec<u8> {
    let head: Vec<&[u8]> = clip_boxes().into_iter().take(2).collect();
    [&head[..], fragment].concat().concat()
}

#[test]
fn the_clip_comes_apart_into_twelve_seconds_that_begin_with_key_frames() {
    let (events, error) = events(CLIP, 4_096);
    assert_eq!(error, None);
    let Some(Event::Init(init)) = events.first() else { panic!("the recording begins first") };
    assert_eq!(init.codecs, "avc1.64001F,mp4a.40.2");
    let times: Vec<_> =
        fragments(&events).iter().map(|f| (f.decode_time_us, f.duration_us, f.independent, f.primary)).collect();
    assert_eq!(times, (0..12).map(|second| (second * 1_000_000, 1_000_000, true, true)).collect::<Vec<_>>());
    assert_eq!(bytes(&events), CLIP);
}

#[test]
fn the_size_of_the_pieces_changes_nothing() {
    let start = &CLIP[..80_000];
    let whole = events(start, start.len());
    for piece in [1, 7, 8, 1_000] {
        assert_eq!(events(start, piece), whole);
    }
    assert_eq!(whole.1, Some(Error::Truncated));
}

#[test]
fn indexes_and_padding_between_fragments_are_left_out_and_events_kept() {
    let boxes = clip_boxes();
    let (styp, emsg) = (boxed(b"styp", b"msdh\0\0\0\0"), boxed(b"emsg", b"anything"));
    let (sidx, free, mfra) = (boxed(b"sidx", b"index"), boxed(b"free", &[0; 99]), boxed(b"mfra", b"index"));
    let stream = with_fragment(&[&styp, &sidx, &emsg, &free, boxes[2], &free, boxes[3], &free, &mfra]);
    let (events, error) = events(&stream, 100);
    assert_eq!(error, None);
    let expected = [&styp[..], &emsg, boxes[2], &free, boxes[3]].concat();
    assert_eq!(fragments(&events)[0].bytes, expected, "from moof to mdat nothing is touched");
    assert_eq!(events.len(), 2);
}

#[test]
fn an_mdat_may_have_a_large_size_or_reach_to_the_end() {
    let boxes = clip_boxes();
    let body = &boxes[3][8..];
    let large = [b"\0\0\0\x01mdat", &(body.len() as u64 + 16).to_be_bytes()[..], body].concat();
    let open = [b"\0\0\0\0mdat", body].concat();
    for mdat in [large, open] {
        let (events, error) = events(&with_fragment(&[boxes[2], &mdat]), 999);
        assert_eq!(error, None);
        assert_eq!(fragments(&events)[0].bytes, [boxes[2], &mdat].concat());
    }
}

#[test]
fn a_second_moov_begins_another_recording() {
    let (events, error) = events(&[CLIP, CLIP].concat(), 65_536);
    assert_eq!(error, None);
    let begins: Vec<usize> = (0..events.len()).filter(|at| matches!(events[*at], Event::Init(_))).collect();
    assert_eq!(begins, [0, 13]);
    assert_eq!(fragments(&events)[12].decode_time_us, 0);
}

#[test]
fn decode_times_are_counted_where_the_file_leaves_them_out() {
    let without_tfdt = |moof: &[u8]| {
        let at = moof.windows(4).position(|kind| kind == b"tfdt").unwrap();
        [&moof[..at], b"free", &moof[at + 4..]].concat()
    };
    let boxes = clip_boxes();
    let (first, second) = (without_tfdt(boxes[2]), without_tfdt(boxes[4]));
    let (events, error) = events(&with_fragment(&[&first, boxes[3], &second, boxes[5]]), 4_096);
    assert_eq!(error, None);
    assert_eq!(fragments(&events).iter().map(|f| f.decode_time_us).collect::<Vec<_>>(), [0, 1_000_000]);
}

#[test]
fn each_way_to_be_no_recording_has_its_name() {
    let boxes = clip_boxes();
    assert_eq!(fault(b""), Error::Empty);
    assert_eq!(fault(b"abc"), Error::NotMp4);
    assert_eq!(fault(b"this is a text, and no MP4"), Error::NotMp4);
    assert_eq!(fault(&[0; 64]), Error::NotMp4);
    assert_eq!(fault(&with_fragment(&[])), Error::NoFragments);
    assert_eq!(fault(boxes[0]), Error::NotMp4);
    assert_eq!(fault(&[boxes[0], boxes[3]].concat()), Error::NotFragmented, "samples before a header");
    assert_eq!(fault(&with_fragment(&[boxes[3]])), Error::NotFragmented, "samples without a fragment");
    let mut moov = boxes[1].to_vec();
    let at = moov.windows(4).position(|kind| kind == b"mvex").unwrap();
    moov[at..at + 4].copy_from_slice(b"free");
    assert_eq!(fault(&[boxes[0], &moov].concat()), Error::NotFragmented, "a header that announces no fragments");
    assert!(matches!(fault(&boxes[1..].concat()), Error::Malformed(_)), "no ftyp");
    assert!(matches!(fault(&with_fragment(&[boxes[2], boxes[2]])), Error::Malformed(_)), "moof after moof");
    assert_eq!(fault(&with_fragment(&[boxes[2]])), Error::Truncated);
    assert_eq!(fault(&with_fragment(&[boxes[2], &boxes[3][..100]])), Error::Truncated);
}

#[test]
fn absolute_offsets_are_refused_because_no_fragment_could_stand_alone() {
    let mut moof = clip_boxes()[2].to_vec();
    let at = moof.windows(4).position(|kind| kind == b"tfhd").unwrap();
    moof[at + 4..at + 8].copy_from_slice(&[0, 0, 0, 1]);
    assert_eq!(fault(&with_fragment(&[&moof, clip_boxes()[3]])), Error::AbsoluteOffsets);
}

#[test]
fn an_initialisation_segment_beyond_its_limit_is_refused_in_one_clear_line() {
    let boxes = clip_boxes();
    let padding = |bytes: usize| boxed(b"free", &vec![0; bytes]);
    let init = |bytes: usize| {
        let moov = boxed(b"moov", &[&boxes[1][8..], &padding(bytes)].concat());
        [boxes[0], &moov].concat()
    };
    let room = 1_048_576 - init(0).len();
    assert_eq!(events(&init(room), 65_536).0.len(), 1);
    let error = fault(&init(room + 1));
    assert_eq!(error, Error::InitTooLarge { limit: 1_048_576, actual: 1_048_577 });
    let text = error.to_string();
    assert!(text.contains("initialisation segment") && text.contains("empty_moov") && !text.contains('\n'), "{text}");
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let huge = |kind: &[u8; 4]| [b"\x7f\0\0\0", &kind[..]].concat();
    let boxes = clip_boxes();
    let too_large = |stream: &[u8], expected: &str| match fault(stream) {
        Error::TooLarge { what, actual, .. } => assert!(what == expected && actual >= 0x7f00_0000),
        other => panic!("{other}"),
    };
    too_large(&huge(b"ftyp"), "ftyp");
    too_large(&huge(b"moov"), "moov");
    too_large(&with_fragment(&[&huge(b"moof")]), "moof");
    too_large(&with_fragment(&[boxes[2], &huge(b"mdat")]), "fragment");
    too_large(&with_fragment(&[&huge(b"uuid")]), "boxes before a fragment");
}

#[test]
fn an_error_is_given_again() {
    let mut fragmenter = Fragmenter::new(100);
    fragmenter.push(b"no MP4 at all");
    assert_eq!(fragmenter.poll(), Err(Error::NotMp4));
    fragmenter.push(CLIP);
    assert_eq!(fragmenter.poll(), Err(Error::NotMp4));
}
