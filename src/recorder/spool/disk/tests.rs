//! The directory's promises: what is written is found again, what is not whole is never used, and the limit holds.

use aigaq_proto::{Content, LinkHeader, frame, link};
use proptest::prelude::*;

use super::*;

pub(in crate::recorder::spool) const ID: RecorderId = RecorderId([7; 16]);
const AMPLE: u64 = 1 << 30;

pub(in crate::recorder::spool) fn link_at(sequence: Sequence, payload: &[u8]) -> Link {
    let content = match (sequence, payload) {
        (0, _) => Content::Start { codecs: "avc1.64001f".to_owned() },
        (_, []) => Content::Mark { category: "emergency".into(), note: String::new(), before_s: 30, after_s: 120 },
        _ => Content::Media { recording: 0, ordinal: sequence - 1, independent: true },
    };
    let header = LinkHeader {
        recorder: ID,
        sequence,
        previous: if sequence == 0 { Digest::ZERO } else { Digest([3; 32]) },
        captured_at: 1_768_641_242_000_000 + sequence,
        duration_us: if matches!(content, Content::Media { .. }) { 2_000_000 } else { 0 },
        payload_length: u32::try_from(payload.len()).unwrap(),
        payload_digest: Digest::of(payload),
        content,
        fixes: Vec::new(),
    };
    let encoded = header.encode().unwrap();
    let prelude = frame::encode_link_prelude(&encoded, &[9; 64]).unwrap();
    Link {
        facts: Facts::of(&header, prelude.len()),
        digest: link::digest(&encoded),
        prelude: prelude.into(),
        payload: Bytes::copy_from_slice(payload),
    }
}

fn after(sequence: Sequence) -> After {
    After { ordinal: sequence, recording: Some(0), end: 5 + sequence, settled: true }
}

fn open(dir: &Path) -> (Disk, Found) {
    Disk::open(dir, ID, AMPLE).unwrap()
}

/// A spool with links 0 to `count` − 1, each with this payload.
fn filled(dir: &Path, count: u64, payload: &[u8]) -> Vec<Link> {
    let (disk, _) = open(dir);
    let links: Vec<_> = (0..count).map(|sequence| link_at(sequence, payload)).collect();
    for link in &links {
        disk.write(link, &after(link.facts.sequence)).unwrap();
    }
    links
}

fn end(link: &Link) -> ChainEnd {
    ChainEnd { sequence: link.facts.sequence, digest: link.digest }
}

#[test]
fn names_say_what_they_were_made_from_and_others_are_not_read() {
    for link in [link_at(0, b"init"), link_at(1, b"media"), link_at(678, b"")] {
        assert_eq!(Facts::of_file_name(&link.facts.file_name()), Some(link.facts));
        assert_eq!(Facts::of_file_name(&link.facts.file_name().to_uppercase()), None);
    }
    let mark = link_at(2, b"").facts;
    assert_eq!(mark.event(), Some((mark.begin - 30_000_000, mark.begin + 120_000_000)));
    assert!(mark.urgent() && !link_at(1, b"media").facts.urgent());
    assert_eq!(Facts::of_file_name("draft"), None);
    assert_eq!(std::mem::size_of::<Facts>(), 32);
}

#[test]
fn what_was_written_is_found_read_and_deleted_and_the_newest_head_stays() {
    let dir = tempfile::tempdir().unwrap();
    let links = filled(dir.path(), 3, b"some payload");
    let (disk, found) = open(dir.path());
    assert_eq!(found.links, links.iter().map(|link| link.facts).collect::<Vec<_>>());
    assert_eq!(found.damaged, []);
    assert_eq!(found.last, Last::Known { end: end(&links[2]), after: after(2), own: true });
    for link in &links {
        let read = disk.read(&link.facts).unwrap();
        assert_eq!(
            (read.digest, read.prelude, read.payload),
            (link.digest, link.prelude.clone(), link.payload.clone())
        );
        assert_eq!(disk.digest(&link.facts).unwrap(), link.digest);
        disk.remove(&link.facts).unwrap();
    }
    assert_eq!(disk.read(&links[1].facts).unwrap_err().kind(), Kind::Damaged);
    let (disk, found) = open(dir.path());
    assert_eq!(found.links, []);
    assert_eq!(found.last, Last::Known { end: end(&links[2]), after: after(2), own: true });
    disk.write(&link_at(3, b"next"), &after(3)).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the older head is gone");
}

/// Whatever is done to the newest file: the recorder never goes on from an older place, and never sends what it did not make.
fn survives(dir: &Path, links: &[Link], what: &str) {
    let newest = links.last().unwrap();
    let (disk, found) = open(dir);
    match found.last {
        Last::Known { end: known, .. } => assert_eq!(known, end(newest), "{what}"),
        Last::Unreadable { sequence, before } => {
            assert_eq!((sequence, before), (newest.facts.sequence, Some(end(&links[links.len() - 2]))), "{what}");
        }
        Last::Nothing => panic!("{what}: the newest link is forgotten"),
    }
    assert_eq!(found.links.len() + found.damaged.len(), links.len(), "{what}");
    for facts in &found.links {
        let read = disk.read(facts).unwrap();
        let made = &links[usize::try_from(facts.sequence).unwrap()];
        assert_eq!((&read.prelude, &read.payload), (&made.prelude, &made.payload), "{what}");
    }
}

#[test]
fn a_newest_file_that_is_cut_at_any_byte_is_given_up_and_its_sequence_is_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let links = filled(dir.path(), 3, b"a payload of some bytes");
    let path = dir.path().join(links[2].facts.file_name());
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (_, found) = open(dir.path());
        assert_eq!(found.damaged, [links[2].facts], "cut at {length}");
        survives(dir.path(), &links, &format!("cut at {length}"));
    }
}

#[test]
fn a_newest_file_with_zeros_to_its_end_or_one_bit_flipped_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let links = filled(dir.path(), 3, b"a payload of some bytes");
    let path = dir.path().join(links[2].facts.file_name());
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut zeros = whole.clone();
        zeros[at..].fill(0);
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        for (what, bytes) in [("zeros", zeros), ("flip", flipped)] {
            std::fs::write(&path, &bytes).unwrap();
            if bytes != whole {
                let (_, found) = open(dir.path());
                assert_eq!(found.damaged, [links[2].facts], "{what} at {at}");
            }
            survives(dir.path(), &links, &format!("{what} at {at}"));
        }
    }
}

#[test]
fn an_older_file_that_is_altered_is_not_read_as_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let links = filled(dir.path(), 3, b"a payload of some bytes");
    let path = dir.path().join(links[1].facts.file_name());
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&path, &flipped).unwrap();
        let (disk, _) = open(dir.path());
        assert_eq!(disk.read(&links[1].facts).unwrap_err().kind(), Kind::Damaged, "flip at {at}");
    }
    std::fs::copy(dir.path().join(links[2].facts.file_name()), &path).unwrap();
    assert_eq!(open(dir.path()).0.read(&links[1].facts).unwrap_err().kind(), Kind::Damaged, "another link's bytes");
}

#[test]
fn a_draft_is_taken_if_it_is_whole_and_comes_next_and_else_removed() {
    let dir = tempfile::tempdir().unwrap();
    let links = filled(dir.path(), 3, b"a payload of some bytes");
    let (name, draft) = (dir.path().join(links[2].facts.file_name()), dir.path().join(DRAFT));
    let whole = std::fs::read(&name).unwrap();
    std::fs::rename(&name, &draft).unwrap();
    assert_eq!(open(dir.path()).1.last, Last::Known { end: end(&links[2]), after: after(2), own: true });
    assert!(name.exists() && !draft.exists());
    for length in [0, 1, 55, 56, 60, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&draft, &whole[..length]).unwrap();
        let (_, found) = open(dir.path());
        assert_eq!((found.links.len(), draft.exists()), (3, false));
    }
    std::fs::write(&draft, &whole).unwrap();
    assert_eq!(open(dir.path()).1.links.len(), 3, "the sequence of this draft is taken");
    assert!(!draft.exists());
}

#[test]
fn a_head_that_was_not_cut_yet_is_cut_and_a_damaged_one_keeps_its_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let links = filled(dir.path(), 2, b"a payload of some bytes");
    open(dir.path()).0.remove(&links[0].facts).unwrap();
    let tail = dir.path().join(tail_name(1));
    std::fs::rename(dir.path().join(links[1].facts.file_name()), &tail).unwrap();
    let (_, found) = open(dir.path());
    assert_eq!(found.last, Last::Known { end: end(&links[1]), after: after(1), own: true });
    let head = PREFIX_BYTES as u64 + u64::from(links[1].facts.prelude);
    assert_eq!((found.links.len(), std::fs::metadata(&tail).unwrap().len()), (0, head));
    File::options().write(true).open(&tail).unwrap().set_len(9).unwrap();
    assert_eq!(open(dir.path()).1.last, Last::Unreadable { sequence: 1, before: None });
}

#[test]
fn a_copy_is_told_from_the_spool_itself_and_a_spool_that_was_moved_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (here, copy, moved) = (dir.path().join("here"), dir.path().join("copy"), dir.path().join("moved"));
    let links = filled(&here, 2, b"payload");
    let own = |dir: &Path| match open(dir).1.last {
        Last::Known { own, .. } => own,
        last => panic!("{last:?}"),
    };
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&here).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    assert!(own(&here) && !own(&copy));
    let newest = links[1].facts.file_name();
    std::fs::copy(copy.join(&newest), here.join("new")).unwrap();
    std::fs::rename(here.join("new"), here.join(&newest)).unwrap();
    assert!(!own(&here), "put back in place");
    let (disk, _) = open(&copy);
    disk.write(&link_at(2, b"payload"), &After { settled: false, ..after(2) }).unwrap();
    assert!(!own(&copy), "on the way back");
    disk.write(&link_at(3, b"payload"), &after(3)).unwrap();
    std::fs::rename(&copy, &moved).unwrap();
    assert!(own(&moved));
}

#[test]
fn another_recorder_s_links_are_not_this_one_s() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 2, b"payload");
    let (_, found) = Disk::open(dir.path(), RecorderId([8; 16]), AMPLE).unwrap();
    assert_eq!(found.last, Last::Unreadable { sequence: 1, before: None });
}

#[test]
fn a_limit_that_a_full_disk_made_small_grows_again_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _) = open(dir.path());
    let asked = disk.room().0;
    let full = disk.room().1;
    disk.books().limit = full;
    assert!(matches!(disk.write(&link_at(0, b"a"), &after(0)), Err(NotWritten::Full)));
    disk.look_again();
    assert_eq!(disk.room().0, asked);
    disk.write(&link_at(0, b"a"), &after(0)).unwrap();
}

/// What the file system says that the directory's files take.
fn allocated(dir: &Path) -> u64 {
    let sizes = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512);
    sizes.sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_limit_is_never_exceeded_and_the_books_agree_with_the_disk(
        steps in proptest::collection::vec((any::<bool>(), 0_usize..9000, any::<prop::sample::Index>()), 1..30),
    ) {
        const LIMIT: u64 = 65_536;
        let dir = tempfile::tempdir().unwrap();
        let (mut disk, _) = Disk::open(dir.path(), ID, LIMIT).unwrap();
        let (mut held, mut next): (Vec<Facts>, _) = (Vec::new(), 0);
        for (write, bytes, index) in steps {
            if write || held.is_empty() {
                let link = link_at(next, &vec![1; bytes.max(usize::from(next == 0))]);
                match disk.write(&link, &after(next)) {
                    Ok(()) => { held.push(link.facts); next += 1; }
                    Err(NotWritten::Full) => prop_assert!(disk.room().1 + disk.size(&link.facts) > LIMIT),
                    Err(NotWritten::Failed(error)) => panic!("{error}"),
                }
            } else {
                disk.remove(&held.remove(index.index(held.len()))).unwrap();
            }
            let used = disk.room().1;
            prop_assert!(allocated(dir.path()) <= used && used <= LIMIT);
            if bytes % 5 == 0 {
                let (again, found) = Disk::open(dir.path(), ID, LIMIT).unwrap();
                prop_assert_eq!((again.room().1, &found.links), (used, &held));
                disk = again;
            }
        }
    }
}
