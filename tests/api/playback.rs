//! Playlists, and the bytes that they name.

use std::collections::HashMap;

use aigaq_proto::Content;
use reqwest::Method;

use crate::rig::{Device, Rig, at, problem};

fn uris(playlist: &str) -> Vec<&str> {
    playlist.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
}

#[tokio::test]
async fn a_playlist_names_what_touches_the_range_and_its_bytes_are_those_recorded() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let payloads = rig.record(&mut device, 5).await;
    let folder = format!("/v1/recorders/{}/hls/{}/{}/", device.id, at(3), at(6));
    let response = rig.get(&format!("{folder}index.m3u8")).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.apple.mpegurl");
    let playlist = response.text().await.unwrap();
    assert_eq!(uris(&playlist), ["seg-2.m4s", "seg-3.m4s"]);
    for line in ["#EXTM3U", "#EXT-X-PLAYLIST-TYPE:VOD", "#EXT-X-MAP:URI=\"init-0.mp4\"", "#EXT-X-ENDLIST"] {
        assert!(playlist.lines().any(|found| found == line), "{line} in {playlist}");
    }
    for (file, expected) in [("init-0.mp4", &payloads[0]), ("seg-2.m4s", &payloads[2]), ("seg-3.m4s", &payloads[3])] {
        let response = rig.get(&format!("{folder}{file}")).await;
        assert_eq!(response.headers()["content-type"], "video/mp4");
        assert_eq!(
            response.headers()["cache-control"],
            "private, no-cache",
            "each viewing is asked for, and written down"
        );
        let tag = format!("\"{}\"", aigaq_proto::Digest::of(expected));
        assert_eq!(response.headers()["etag"], tag.as_str());
        let seen = rig.audit().len();
        let again = rig.ask(Method::GET, &format!("{folder}{file}"), &[("if-none-match", &tag)]).await;
        assert_eq!((again.status().as_u16(), rig.audit().len()), (304, seen + 1));
        assert_eq!(response.bytes().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn colons_may_be_escaped_and_times_may_have_microseconds() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    let path = format!("/v1/recorders/{}/hls/2026-01-17T09%3A14%3A00.000001Z/{}/index.m3u8", device.id, at(2));
    assert_eq!(uris(&rig.text(&path).await), ["seg-1.m4s"]);
}

#[tokio::test]
async fn a_range_without_footage_is_an_empty_playlist() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let playlist = rig.text(&format!("/v1/recorders/{}/hls/{}/{}/index.m3u8", device.id, at(0), at(10))).await;
    assert!(uris(&playlist).is_empty() && playlist.contains("#EXT-X-ENDLIST"));
}

#[tokio::test]
async fn a_segment_can_be_asked_for_again_in_part_and_by_its_head() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let payloads = rig.record(&mut device, 1).await;
    let path = format!("/v1/recorders/{}/hls/{}/{}/seg-1.m4s", device.id, at(0), at(10));
    let tag = format!("\"{}\"", aigaq_proto::Digest::of(&payloads[1]));

    let same = rig.ask(Method::GET, &path, &[("if-none-match", &tag)]).await;
    assert_eq!((same.status().as_u16(), same.headers()["etag"].to_str().unwrap()), (304, tag.as_str()));
    assert!(same.bytes().await.unwrap().is_empty());

    let part = rig.ask(Method::GET, &path, &[("range", "bytes=10-19")]).await;
    assert_eq!((part.status().as_u16(), &part.headers()["content-length"]), (206, &10.into()));
    assert_eq!(part.headers()["content-range"], "bytes 10-19/1000");
    assert_eq!(part.bytes().await.unwrap(), payloads[1][10..20]);

    let outside = rig.ask(Method::GET, &path, &[("range", "bytes=1000-")]).await;
    assert_eq!(outside.headers()["content-range"], "bytes */1000");
    problem(outside, 416, "outside").await;

    let head = rig.ask(Method::HEAD, &path, &[]).await;
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &1_000.into()));
    assert!(head.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn damaged_footage_is_a_conflict_and_a_metric_and_its_neighbours_stay() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let payloads = rig.record(&mut device, 3).await;
    rig.damage(&device, 2);
    let folder = format!("/v1/recorders/{}/hls/{}/{}", device.id, at(0), at(10));
    problem(rig.get(&format!("{folder}/seg-2.m4s")).await, 409, "damaged").await;
    problem(rig.ask(Method::GET, &format!("{folder}/seg-2.m4s"), &[("range", "bytes=0-0")]).await, 409, "part").await;
    problem(rig.get(&format!("/v1/recorders/{}/live/seg-2.m4s", device.id)).await, 409, "live").await;
    assert_eq!(rig.bytes(&format!("{folder}/seg-3.m4s")).await, payloads[3]);
    let metrics = rig.get_ops("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("aigaq_damaged_reads_total 3"), "{metrics}");
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_no_crash() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 1).await;
    rig.engine.set_unreadable(true);
    for path in ["hls/2026-01-17T09:14:00Z/2026-01-17T09:15:00Z/index.m3u8", "live.m3u8", "live/seg-1.m4s"] {
        problem(rig.get(&format!("/v1/recorders/{}/{path}", device.id)).await, 409, path).await;
    }
}

#[tokio::test]
async fn one_recorder_never_shows_the_footage_of_another() {
    let rig = Rig::start().await;
    let mut mine = rig.officer();
    let other = rig.officer();
    rig.record(&mut mine, 3).await;
    for file in ["init-0.mp4", "seg-1.m4s"] {
        problem(rig.get(&format!("/v1/recorders/{}/live/{file}", other.id)).await, 404, file).await;
        let path = format!("/v1/recorders/{}/hls/{}/{}/{file}", other.id, at(0), at(10));
        problem(rig.get(&path).await, 404, file).await;
    }
}

#[tokio::test]
async fn two_recordings_play_on_over_a_discontinuity() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    device.chain.captured_at += 60_000_000;
    rig.record(&mut device, 2).await;
    let playlist = rig.text(&format!("/v1/recorders/{}/hls/{}/{}/index.m3u8", device.id, at(0), at(100))).await;
    assert_eq!(uris(&playlist), ["seg-1.m4s", "seg-2.m4s", "seg-5.m4s", "seg-6.m4s"]);
    assert_eq!(playlist.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
    assert!(playlist.contains("init-4.mp4"));
}

#[tokio::test]
async fn a_recording_whose_initialisation_is_missing_is_listed_as_a_gap() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let _lost = device.chain.start(&device.key);
    rig.send(device.chain.media(&device.key, vec![1; 10].into())).await;
    let playlist = rig.text(&format!("/v1/recorders/{}/hls/{}/{}/index.m3u8", device.id, at(0), at(10))).await;
    assert!(playlist.contains("#EXT-X-GAP"), "{playlist}");
}

#[tokio::test]
async fn the_live_window_slides_and_ends_with_the_recording() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let path = format!("/v1/recorders/{}/live.m3u8", device.id);
    problem(rig.get(&path).await, 404, "nothing yet").await;
    rig.record(&mut device, 2).await;
    rig.send(device.chain.start(&device.key)).await;
    let mut payload = bytes::Bytes::new();
    for index in 0..12_u8 {
        payload = vec![index; 100].into();
        rig.send(device.chain.media(&device.key, payload.clone())).await;
    }
    let playlist = rig.text(&path).await;
    let expected: Vec<String> = (9..17).map(|sequence| format!("live/seg-{sequence}.m4s")).collect();
    assert_eq!(uris(&playlist), expected);
    assert!(playlist.contains("#EXT-X-MEDIA-SEQUENCE:6\n") && playlist.contains("live/init-4.mp4"), "{playlist}");
    assert!(!playlist.contains("#EXT-X-ENDLIST") && !playlist.contains("PLAYLIST-TYPE"));
    assert_eq!(rig.bytes(&format!("/v1/recorders/{}/{}", device.id, expected[7])).await, payload);
    rig.send(device.chain.stop(&device.key)).await;
    assert!(rig.text(&path).await.ends_with("#EXT-X-ENDLIST\n"));
}

/// Sends a start and one segment of 2 s for each ordinal.
async fn record_with_ordinals(rig: &Rig, device: &mut Device, ordinals: &[u64]) -> Vec<bytes::Bytes> {
    let recording = device.chain.next_sequence();
    rig.send(device.chain.start(&device.key)).await;
    let mut payloads = Vec::new();
    for ordinal in ordinals {
        let payload = bytes::Bytes::from(format!("{recording} {} ", payloads.len()).repeat(50));
        payloads.push(payload.clone());
        let content = Content::Media { recording, ordinal: *ordinal, independent: true };
        rig.send(device.chain.add(&device.key, content, 2_000_000, payload)).await;
    }
    payloads
}

#[tokio::test]
async fn every_durable_segment_is_played_in_order_of_time_whatever_its_ordinal() {
    for ordinals in [[0, 0, 0, 0, 0, 0], [0, 1, 1, 2, 0, 5], [0, 1, 0, 1, 0, 1]] {
        let rig = Rig::start().await;
        let mut device = rig.officer();
        let payloads = record_with_ordinals(&rig, &mut device, &ordinals).await;
        let playlist = rig.text(&format!("/v1/recorders/{}/hls/{}/{}/index.m3u8", device.id, at(0), at(60))).await;
        let expected: Vec<String> = (1..=6).map(|sequence| format!("seg-{sequence}.m4s")).collect();
        assert_eq!(uris(&playlist), expected, "{ordinals:?}");
        let range = format!("from={}&to={}", at(0), at(60));
        let clip = rig.bytes(&format!("/v1/recorders/{}/clip.mp4?{range}", device.id)).await;
        assert_eq!(clip, [b"initialisation".as_slice(), &payloads.concat()].concat());
        let coverage = rig.json(&format!("/v1/recorders/{}/coverage?{range}", device.id)).await;
        assert_eq!(coverage["spans"][0]["segments"], 6, "{coverage}");
    }
}

#[tokio::test]
async fn segments_that_arrive_in_any_order_are_played_and_cut_in_order_of_time() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.send(device.chain.start(&device.key)).await;
    let links: Vec<_> = (0..4_u8).map(|index| device.chain.media(&device.key, vec![index; 9].into())).collect();
    for index in [2, 0, 3, 1] {
        rig.send(links[index].clone()).await;
    }
    let playlist = rig.text(&format!("/v1/recorders/{}/hls/{}/{}/index.m3u8", device.id, at(0), at(60))).await;
    assert_eq!(uris(&playlist), ["seg-1.m4s", "seg-2.m4s", "seg-3.m4s", "seg-4.m4s"]);
}

/// The media sequence number of a live playlist and what it lists.
fn window(playlist: &str) -> (u64, Vec<String>) {
    let number = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")).unwrap();
    (number.parse().unwrap(), uris(playlist).into_iter().map(str::to_owned).collect())
}

#[tokio::test]
async fn live_numbers_never_fall_and_never_change_once_ordinals_were_found_wrong() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let path = format!("/v1/recorders/{}/live.m3u8", device.id);
    let (mut last, mut numbers) = (0, HashMap::new());
    for ordinals in [vec![0, 1, 2], vec![0, 0, 0, 0], (0..60).collect(), (0..90).collect(), vec![0, 5, 1]] {
        let recording = device.chain.next_sequence();
        rig.send(device.chain.start(&device.key)).await;
        for ordinal in ordinals {
            let content = Content::Media { recording, ordinal, independent: true };
            rig.send(device.chain.add(&device.key, content, 2_000_000, vec![1; 9].into())).await;
            let (number, listed) = window(&rig.text(&path).await);
            assert!(number >= last, "{number} after {last}");
            last = number;
            assert_eq!(listed.last().unwrap(), &format!("live/seg-{}.m4s", device.chain.next_sequence() - 1));
            for (number, uri) in (number..).zip(listed).filter(|_| recording > 0) {
                let before = numbers.entry(uri.clone()).or_insert(number);
                assert_eq!(*before, number, "{uri}");
            }
        }
    }
}

#[tokio::test]
async fn marks_are_on_the_timeline() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.send(device.chain.start(&device.key)).await;
    rig.send(device.chain.media(&device.key, vec![1; 10].into())).await;
    rig.send(device.chain.mark(&device.key, "insult")).await;
    let playlist = rig.text(&format!("/v1/recorders/{}/hls/{}/{}/index.m3u8", device.id, at(0), at(10))).await;
    assert!(playlist.contains("ID=\"mark-2\"") && playlist.contains("X-CATEGORY=\"insult\""), "{playlist}");
}
