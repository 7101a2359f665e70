//! Playlists read as text, against the example of the design and RFC 8216.

use super::*;

const AT: Micros = 1_768_641_242_000_000;

fn segment(ordinal: u64, recording: Sequence, captured_at: Micros) -> Segment {
    Segment {
        uri: format!("seg-{ordinal}.m4s"),
        duration_us: 2_000_000,
        captured_at,
        init_uri: format!("init-{recording}.mp4"),
        recording,
        ordinal,
        independent: true,
        gap: false,
    }
}

#[test]
fn a_closed_range_of_two_recordings_reads_as_designed() {
    let segments = [segment(10_452, 3, AT), segment(10_453, 4, AT + 1_058_000_000)];
    assert_eq!(
        render(Kind::Vod, &segments, &[]),
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:10452\n#EXT-X-PLAYLIST-TYPE:VOD\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init-3.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-01-17T09:14:02.000Z\n\
         #EXTINF:2.000,\nseg-10452.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-4.mp4\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-01-17T09:31:40.000Z\n#EXTINF:2.000,\nseg-10453.m4s\n#EXT-X-ENDLIST\n"
    );
}

#[test]
fn the_target_duration_is_the_longest_rounded() {
    let target = |duration_us| {
        let text = render(Kind::Vod, &[Segment { duration_us, ..segment(0, 0, AT) }], &[]);
        text.lines().find_map(|line| line.strip_prefix("#EXT-X-TARGETDURATION:").map(str::to_owned)).unwrap()
    };
    assert_eq!([target(2_499_999), target(2_500_000), target(40_000)], ["2", "3", "1"]);
}

#[test]
fn independent_segments_are_promised_only_if_true() {
    let mut segments = [segment(0, 0, AT), segment(1, 0, AT + 2_000_000)];
    assert!(render(Kind::Vod, &segments, &[]).contains("INDEPENDENT"));
    segments[1].independent = false;
    assert!(!render(Kind::Vod, &segments, &[]).contains("INDEPENDENT"));
}

#[test]
fn missing_ordinals_become_gap_entries_as_long_as_the_hole() {
    let segments = [segment(4, 1, AT), segment(7, 1, AT + 2_000_000 + 4_500_000)];
    let text = render(Kind::Vod, &segments, &[]);
    assert!(text.contains("#EXT-X-VERSION:8\n"));
    assert!(text.contains(
        "seg-4.m4s\n#EXT-X-GAP\n#EXTINF:2.250,\nmissing-5.m4s\n#EXT-X-GAP\n#EXTINF:2.250,\nmissing-6.m4s\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-01-17T09:14:08.500Z\n#EXTINF:2.000,\nseg-7.m4s\n"
    ));
    assert_eq!(text.matches("#EXT-X-MAP").count(), 1);
}

#[test]
fn a_segment_that_cannot_be_had_keeps_its_length() {
    let segments = [segment(4, 1, AT), Segment { gap: true, independent: false, ..segment(5, 1, AT + 2_000_000) }];
    let text = render(Kind::Vod, &segments, &[]);
    assert!(text.ends_with("#EXT-X-GAP\n#EXTINF:2.000,\nseg-5.m4s\n#EXT-X-ENDLIST\n"));
    assert!(text.contains("INDEPENDENT"), "a gap is not decoded");
}

#[test]
fn a_long_hole_becomes_a_discontinuity() {
    let segments = [segment(0, 1, AT), segment(GAP_ENTRIES_MAX + 2, 1, AT + 3_600_000_000)];
    let text = render(Kind::Vod, &segments, &[]);
    assert!(!text.contains("#EXT-X-GAP"));
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
    assert_eq!(text.matches("#EXT-X-PROGRAM-DATE-TIME").count(), 2);
}

#[test]
fn every_segment_of_a_closed_range_is_listed_whatever_its_ordinal() {
    for ordinals in [[0, 0, 0, 0, 0, 0], [5, 4, 3, 2, 1, 0], [0, 90, 3, 3, 1 << 50, 7], [9, 400, 800, 1200, 1600, 2000]]
    {
        let at = |index: usize| AT + 2_000_000 * index as u64;
        let segments: Vec<Segment> = ordinals
            .iter()
            .enumerate()
            .map(|(index, ordinal)| Segment { uri: format!("seg-{index}.m4s"), ..segment(*ordinal, 3, at(index)) })
            .collect();
        let text = render(Kind::Vod, &segments, &[]);
        let listed: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected: Vec<String> = (0..6).map(|index| format!("seg-{index}.m4s")).collect();
        assert_eq!(listed, expected, "{ordinals:?}: no hole in time, so nothing is missing");
        assert_eq!(text.matches("DISCONTINUITY").count(), 0, "{text}");
    }
}

#[test]
fn a_wrong_ordinal_costs_no_more_gap_entries_than_the_hole_has_seconds() {
    let segments = [segment(0, 1, AT), segment(1 << 40, 1, AT + 2_000_000 + 4_500_000)];
    let text = render(Kind::Vod, &segments, &[]);
    assert_eq!(text.matches("#EXT-X-GAP").count(), 5, "{text}");
    assert_eq!(text.matches("#EXTINF:0.900,").count(), 5, "{text}");
}

#[test]
fn time_that_jumps_without_missing_ordinals_is_stated() {
    let text = render(Kind::Vod, &[segment(4, 1, AT), segment(5, 1, AT + 30_000_000)], &[]);
    assert!(text.contains("seg-4.m4s\n#EXT-X-PROGRAM-DATE-TIME:2026-01-17T09:14:32.000Z\n"), "{text}");
}

#[test]
fn a_live_window_numbers_its_segments_by_their_ordinals() {
    let kind = Kind::Live { discontinuities: 2 };
    let contiguous = [segment(7, 1, AT), segment(9, 1, AT + 4_000_000), segment(10, 5, AT + 9_000_000)];
    let text = render(kind, &contiguous, &[]);
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-DISCONTINUITY-SEQUENCE:2\n"));
    assert!(text.contains("missing-8.m4s"));
    assert!(!text.contains("PLAYLIST-TYPE") && !text.contains("ENDLIST"));
    let broken = [segment(7, 1, AT), segment(12, 5, AT + 9_000_000), segment(13, 5, AT + 11_000_000)];
    assert!(render(kind, &broken, &[]).contains("#EXT-X-MEDIA-SEQUENCE:12\n"), "it begins after what cannot be filled");
}

#[test]
fn marks_are_date_ranges_and_cannot_break_out_of_their_quotes() {
    let mark = Mark {
        id: "mark-12".to_owned(),
        class: "aigaq.mark".to_owned(),
        start: AT,
        duration_us: 90_000_000,
        attributes: vec![("CATEGORY".to_owned(), "insult\"\n#EXT-X-ENDLIST".to_owned())],
    };
    let text = render(Kind::Vod, &[segment(0, 0, AT)], &[mark]);
    assert!(text.contains(
        "#EXT-X-DATERANGE:ID=\"mark-12\",CLASS=\"aigaq.mark\",START-DATE=\"2026-01-17T09:14:02.000Z\",DURATION=90.000,\
         X-CATEGORY=\"insult' #EXT-X-ENDLIST\"\n"
    ));
    assert_eq!(text.lines().filter(|line| *line == "#EXT-X-ENDLIST").count(), 1);
}

#[test]
fn lengths_are_exact_and_odd_times_do_no_harm() {
    assert_eq!([seconds(2_002_000), seconds(2_002_083), seconds(0)], ["2.002", "2.002083", "0.000"]);
    assert_eq!(date_time(u64::MAX), "9999-12-30T22:00:00.999Z");
    assert!(render(Kind::Vod, &[], &[]).ends_with("#EXT-X-ENDLIST\n"));
}
