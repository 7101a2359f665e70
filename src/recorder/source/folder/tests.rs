//! A folder against a recorder that stops at any place, in virtual time.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::recorder::CLIP;

/// A recorder: what it made of the items so far.
#[derive(Default)]
struct Recorder {
    sequence: u64,
    ordinal: u64,
    /// Captured-at and length of each segment.
    segments: Vec<(Micros, u64)>,
    notes: Vec<String>,
    /// Links below this have receipts.
    received: u64,
    missing: BTreeSet<u64>,
}

impl Recorder {
    /// Takes items until `most` came or the source ends; what the source said at its end.
    async fn run(&mut self, dir: &Path, once: bool, most: usize) -> Option<Result<()>> {
        let (items, mut receiver) = mpsc::channel(1);
        let folder = Folder { path: dir.join("card"), state: dir.to_owned(), once };
        let source = tokio::spawn(watch(folder, Clock::fixed(1_800_000_000_000_000), items));
        let (mut at, mut init) = (0, false);
        for _ in 0..most {
            match receiver.recv().await {
                None => return Some(source.await.unwrap()),
                Some(item) => match item.unwrap() {
                    Item::Init { .. } => init = true,
                    Item::At(told) => at = told,
                    Item::Segment(segment) => {
                        self.sequence += u64::from(std::mem::take(&mut init)) + 1;
                        self.ordinal += 1;
                        self.segments.push((at, segment.duration_us));
                        at += segment.duration_us;
                    }
                    Item::End(_) => self.sequence += 1,
                    Item::Note(text) => self.notes.push(text),
                    Item::Ask(ask) => {
                        let fate = |range: std::ops::Range<u64>| match range {
                            range if range.is_empty() => Fate::Received,
                            range if self.missing.range(range.clone()).next().is_some() => Fate::Missing,
                            range if range.end <= self.received => Fate::Received,
                            _ => Fate::Waiting,
                        };
                        ask.answer(self.sequence, self.ordinal, fate);
                    }
                },
            }
        }
        drop(receiver);
        source.await.unwrap().unwrap();
        None
    }
}

/// A card with a film of twelve seconds that was last changed in the second `at`.
fn put(dir: &Path, name: &str, at: u64, bytes: &[u8]) -> PathBuf {
    let path = dir.join("card").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(at)).unwrap();
    path
}

/// What two such films are, recorded once each at their own times.
fn both() -> Vec<(Micros, u64)> {
    let film = |at: u64| (0..6).map(move |number| (at * 1_000_000 + number * 2_000_000, 2_000_000));
    film(1_000).chain(film(2_000)).collect()
}

#[tokio::test(start_paused = true)]
async fn films_are_recorded_by_their_times_and_removed_when_every_link_has_its_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let (later, earlier) = (put(dir.path(), "a.mp4", 2_000, CLIP), put(dir.path(), "b.mp4", 1_000, CLIP));
    let mut recorder = Recorder::default();
    assert!(recorder.run(dir.path(), true, 200).await.is_none(), "it waits for receipts");
    assert_eq!(recorder.segments, both());
    assert!(later.exists() && earlier.exists(), "nothing is removed early");
    recorder.received = 8;
    assert!(recorder.run(dir.path(), true, 100).await.is_none());
    assert!(later.exists() && !earlier.exists());
    recorder.received = recorder.sequence;
    recorder.run(dir.path(), true, 100).await.unwrap().unwrap();
    assert!(!later.exists());
    assert_eq!(recorder.segments, both(), "and nothing was recorded twice");
}

#[tokio::test(start_paused = true)]
async fn wherever_the_recorder_is_killed_every_segment_is_recorded_once() {
    for kill in 1..24 {
        let dir = tempfile::tempdir().unwrap();
        let films = [put(dir.path(), "a.mp4", 2_000, CLIP), put(dir.path(), "b.mp4", 1_000, CLIP)];
        let mut recorder = Recorder::default();
        assert!(recorder.run(dir.path(), true, kill).await.is_none());
        assert!(recorder.run(dir.path(), true, 5).await.is_none());
        assert!(films.iter().all(|film| film.exists()));
        recorder.received = u64::MAX;
        recorder.run(dir.path(), true, 1_000).await.unwrap().unwrap();
        assert_eq!(recorder.segments, both(), "killed after {kill} items");
        assert!(!films.iter().any(|film| film.exists()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_film_that_is_none_is_told_once_and_stops_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let bad = put(dir.path(), "bad.mp4", 1, b"\0\0\0\x10ftypisom\0\0\0\0");
    let good = put(dir.path(), "good.mp4", 1_000, CLIP);
    let mut recorder = Recorder { received: u64::MAX, ..Recorder::default() };
    let error = recorder.run(dir.path(), true, 1_000).await.unwrap().unwrap_err();
    assert!(error.context().contains("bad.mp4"), "{error}");
    assert!(bad.exists() && !good.exists() && recorder.segments.len() == 6);
    assert_eq!(recorder.notes.len(), 1, "{:?}", recorder.notes);
    recorder.run(dir.path(), true, 1_000).await.unwrap().unwrap();
    assert_eq!(recorder.notes.len(), 1, "{:?}", recorder.notes);
}

#[tokio::test(start_paused = true)]
async fn a_film_of_which_a_link_is_lost_stays() {
    let dir = tempfile::tempdir().unwrap();
    let film = put(dir.path(), "a.mp4", 1_000, CLIP);
    let mut recorder = Recorder { received: u64::MAX, missing: [3].into(), ..Recorder::default() };
    let error = recorder.run(dir.path(), true, 1_000).await.unwrap().unwrap_err();
    assert!(error.context().contains("a.mp4: the server will not have every link of it"), "{error}");
    assert!(film.exists());
}

#[tokio::test(start_paused = true)]
async fn a_film_that_grows_is_left_alone_until_it_is_still() {
    let dir = tempfile::tempdir().unwrap();
    let film = put(dir.path(), "a.mp4", 1_000, &CLIP[..1_000]);
    let mut recorder = Recorder { received: u64::MAX, ..Recorder::default() };
    let grow = async {
        for second in 1..10 {
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            put(dir.path(), "a.mp4", 1_000 + second, &CLIP[..1_000 + usize::try_from(second).unwrap()]);
        }
        put(dir.path(), "a.mp4", 1_000, CLIP);
    };
    let card = dir.path().to_owned();
    let (_, ended) = tokio::join!(grow, recorder.run(&card, true, 1_000));
    ended.unwrap().unwrap();
    assert!(!film.exists() && recorder.segments.len() == 6 && recorder.notes.is_empty(), "{:?}", recorder.notes);
}
