//! The keys: made, found again, lost, changed, destroyed, exchanged; and a KMS that does not do its work.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aigaq_proto::RecorderId;

use super::{Ring, Settings, file, rotate};
use crate::error::{Kind, Result};

const DAY: u32 = 20_700;

fn recorder(number: u8) -> RecorderId {
    RecorderId([number; 16])
}

fn open(dir: &Path) -> Ring {
    Ring::open(dir, &Settings::default()).unwrap()
}

fn wanted(recorders: impl IntoIterator<Item = u8>) -> BTreeSet<(u32, RecorderId)> {
    recorders.into_iter().map(|number| (DAY, recorder(number))).collect()
}

/// Something sealed for each of these recorders.
fn sealed(ring: &Ring, recorders: impl IntoIterator<Item = u8>) -> Vec<(RecorderId, Vec<u8>)> {
    let keys = ring.keys(&wanted(recorders)).unwrap();
    keys.iter().map(|((_, recorder), key)| (*recorder, key.seal(b"here", b"footage").unwrap())).collect()
}

fn opens(ring: &Ring, recorder: RecorderId, sealed: &[u8]) -> Result<bool> {
    Ok(ring.key(DAY, recorder)?.and_then(|key| key.open(b"here", sealed)).is_some_and(|plain| **plain == *b"footage"))
}

fn problems(dir: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let ring = Ring::open_read_only(dir, &Settings::default()).unwrap();
    ring.check(0, &mut |problem| problems.push(problem.to_owned())).unwrap();
    problems
}

#[test]
fn what_was_sealed_opens_in_another_process_and_nowhere_else() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("keys");
    let kept = sealed(&open(&dir), 1..=5);
    let ring = open(&dir);
    for (recorder, sealed) in &kept {
        assert!(opens(&ring, *recorder, sealed).unwrap());
        let key = ring.key(DAY, *recorder).unwrap().unwrap();
        assert!(key.open(b"there", sealed).is_none(), "another place");
    }
    assert!(!opens(&ring, recorder(1), &kept.iter().find(|(of, _)| *of == recorder(2)).unwrap().1).unwrap());
    assert!(ring.key(DAY, recorder(6)).unwrap().is_none());
    assert!(ring.key(DAY + 1, recorder(1)).unwrap().is_none());
    assert!(problems(&dir).is_empty());
}

#[test]
fn the_same_key_serves_until_the_day_is_over() {
    let home = tempfile::tempdir().unwrap();
    let ring = open(home.path());
    let first = sealed(&ring, [1]);
    sealed(&ring, [1, 2]);
    sealed(&open(home.path()), [1, 2, 3]);
    assert!(opens(&ring, recorder(1), &first[0].1).unwrap());
    let file = file::KeyFile::read(home.path(), DAY).unwrap().unwrap();
    assert_eq!((file.slots.len(), file.lost, file.unfinished), (3, 0, 0));
}

#[test]
fn files_are_for_their_owner_alone_and_a_master_key_that_is_not_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("keys");
    sealed(&open(&dir), [1]);
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let master = dir.join("master.key");
    fs::set_permissions(&master, PermissionsExt::from_mode(0o640)).unwrap();
    let error = Ring::open(&dir, &Settings::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("0640"), "{error}");
}

#[test]
fn no_master_key_is_made_where_keys_lie_that_another_wrapped() {
    let home = tempfile::tempdir().unwrap();
    let kept = sealed(&open(home.path()), [1]);
    let master = home.path().join("master.key");
    let old = fs::read(&master).unwrap();
    fs::remove_file(&master).unwrap();
    assert_eq!(Ring::open(home.path(), &Settings::default()).map(|_| ()).unwrap_err().kind(), Kind::Invalid);
    assert!(!master.exists());
    fs::write(&master, "ab".repeat(32)).unwrap();
    fs::set_permissions(&master, PermissionsExt::from_mode(0o600)).unwrap();
    let error = open(home.path()).key(DAY, recorder(1)).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("master key"), "{error}");
    assert_eq!(problems(home.path()).len(), 1);
    fs::write(&master, old).unwrap();
    assert!(opens(&open(home.path()), recorder(1), &kept[0].1).unwrap());
}

/// Every bit of a key file, flipped: it is told, or no key opens any more that was in use. It is never silent.
#[test]
fn every_flipped_bit_of_a_key_file_is_found_and_harms_no_other_key() {
    let home = tempfile::tempdir().unwrap();
    let kept = sealed(&open(home.path()), 1..=3);
    let path = file::path(home.path(), DAY);
    let good = fs::read(&path).unwrap();
    let head = good.len() - 3 * 84;
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        let ring = open(home.path());
        let found = problems(home.path());
        let opened = kept.iter().filter(|(of, sealed)| opens(&ring, *of, sealed).unwrap_or(false)).count();
        assert_eq!(opened, if bit / 8 < head { 0 } else { 2 }, "bit {bit}");
        let is_last = bit / 8 >= good.len() - 84;
        // The last slot may also be one that was never finished; then whoever checks footage misses its key.
        assert!(is_last || !found.is_empty(), "bit {bit} is silent");
    }
}

#[test]
fn slots_that_are_exchanged_repeated_or_from_another_day_are_found() {
    let home = tempfile::tempdir().unwrap();
    sealed(&open(home.path()), 1..=3);
    let path = file::path(home.path(), DAY);
    let good = fs::read(&path).unwrap();
    let (rest, slots) = good.split_at(good.len() - 3 * 84);
    let slots: Vec<_> = slots.chunks(84).collect();
    for order in [[1, 0, 2], [0, 0, 2], [0, 2, 2], [2, 1, 0]] {
        let bytes: Vec<u8> = rest.iter().copied().chain(order.iter().flat_map(|at| slots[*at].to_vec())).collect();
        fs::write(&path, bytes).unwrap();
        assert!(!problems(home.path()).is_empty(), "{order:?}");
    }
    fs::write(&path, &good).unwrap();
    fs::copy(&path, file::path(home.path(), DAY + 1)).unwrap();
    assert!(problems(home.path())[0].contains("is that of day"));
}

#[test]
fn what_a_loss_of_power_leaves_half_written_harms_nothing() {
    let home = tempfile::tempdir().unwrap();
    let kept = sealed(&open(home.path()), 1..=2);
    let path = file::path(home.path(), DAY);
    let good = fs::read(&path).unwrap();
    fs::write(home.path().join(format!("{}.keys.new", DAY + 1)), b"half").unwrap();
    for torn in [vec![7; 1], vec![0; 84], vec![7; 83], vec![0; 200]] {
        fs::write(&path, [&good[..], &torn].concat()).unwrap();
        assert!(problems(home.path()).is_empty(), "{} bytes", torn.len());
        let ring = open(home.path());
        let later = sealed(&ring, 3..=4);
        let ring = open(home.path());
        for (recorder, sealed) in kept.iter().chain(&later) {
            assert!(opens(&ring, *recorder, sealed).unwrap());
        }
        assert!(problems(home.path()).is_empty(), "{} bytes, then two keys", torn.len());
    }
    assert!(!home.path().join(format!("{}.keys.new", DAY + 1)).exists());
}

#[test]
fn a_destroyed_key_is_gone_and_its_neighbours_stay() {
    let home = tempfile::tempdir().unwrap();
    let ring = open(home.path());
    let kept = sealed(&ring, 1..=4);
    assert!(ring.destroy(DAY, recorder(2)).unwrap());
    assert!(!ring.destroy(DAY, recorder(2)).unwrap());
    let later = sealed(&ring, [5]);
    for ring in [ring, open(home.path())] {
        for (of, sealed) in kept.iter().chain(&later) {
            assert_eq!(opens(&ring, *of, sealed).unwrap(), *of != recorder(2));
        }
    }
    let bytes = fs::read(file::path(home.path(), DAY)).unwrap();
    assert!(!bytes.windows(16).any(|window| window == recorder(2).0));
    assert!(problems(home.path()).is_empty());
}

#[test]
fn the_keys_of_days_that_are_over_go_with_their_files() {
    let home = tempfile::tempdir().unwrap();
    let ring = open(home.path());
    for day in [DAY - 2, DAY - 1, DAY] {
        ring.keys(&BTreeSet::from([(day, recorder(1))])).unwrap();
    }
    ring.destroy_before(DAY).unwrap();
    ring.destroy_before(DAY).unwrap();
    assert!(ring.key(DAY - 1, recorder(1)).unwrap().is_none());
    assert!(ring.key(DAY, recorder(1)).unwrap().is_some());
    assert_eq!(file::days(home.path()).unwrap(), [DAY]);
}

#[test]
fn after_an_exchange_of_the_master_key_the_old_one_opens_nothing() {
    let home = tempfile::tempdir().unwrap();
    let kept = sealed(&open(home.path()), 1..=3);
    let (master, day) = (home.path().join("master.key"), file::path(home.path(), DAY));
    let old = fs::read(&master).unwrap();
    assert_eq!(rotate(home.path(), &Settings::default()).unwrap(), 1);
    assert_ne!(fs::read(&master).unwrap(), old);
    let ring = open(home.path());
    assert!(kept.iter().all(|(of, sealed)| opens(&ring, *of, sealed).unwrap()));
    // Cut off before the new one took its name: everything is readable, and the same again goes on.
    let new = fs::read(&master).unwrap();
    let next = home.path().join("master.key.next");
    fs::rename(&master, &next).unwrap();
    fs::write(&master, &old).unwrap();
    fs::set_permissions(&master, PermissionsExt::from_mode(0o600)).unwrap();
    let ring = open(home.path());
    assert!(kept.iter().all(|(of, sealed)| opens(&ring, *of, sealed).unwrap()));
    let before = fs::read(&day).unwrap();
    assert_eq!(rotate(home.path(), &Settings::default()).unwrap(), 0);
    assert_eq!((fs::read(&master).unwrap(), fs::read(&day).unwrap()), (new, before));
    assert!(!next.exists());
    fs::write(&master, old).unwrap();
    assert!(open(home.path()).key(DAY, recorder(1)).is_err());
}

/// A KMS: a script that wraps and unwraps by turning every bit, and does something else while a file says so.
struct Kms {
    home: tempfile::TempDir,
}

impl Kms {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let script = "#!/bin/sh\n\
            [ -e \"$0.mode\" ] && . \"$0.mode\"\n\
            printf '%s\\n' \"$1\" >> \"$0.calls\"\n\
            exec tr '\\000-\\377' '\\200-\\377\\000-\\177'\n";
        let kms = Self { home };
        fs::write(kms.script(), script).unwrap();
        fs::set_permissions(kms.script(), PermissionsExt::from_mode(0o700)).unwrap();
        kms
    }

    fn script(&self) -> PathBuf {
        self.home.path().join("kms")
    }

    fn keys(&self) -> PathBuf {
        self.home.path().join("keys")
    }

    fn settings(&self) -> Settings {
        let command = |what: &str| vec!["/bin/sh".to_owned(), self.script().display().to_string(), what.to_owned()];
        Settings {
            wrap_command: command("wrap"),
            unwrap_command: command("unwrap"),
            command_timeout: Duration::from_secs(5),
            ..Settings::default()
        }
    }

    /// What it does from now on.
    fn mode(&self, script: &str) {
        fs::write(self.home.path().join("kms.mode"), script).unwrap();
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.home.path().join("kms.calls")).map_or(0, |calls| calls.lines().count())
    }
}

/// Asks again while it is said to be fetched.
fn until_there(ring: &Ring, recorders: std::ops::RangeInclusive<u8>) -> Vec<(RecorderId, Vec<u8>)> {
    let begin = Instant::now();
    loop {
        match ring.is_prepared(DAY) {
            Ok(()) => return sealed(ring, recorders),
            Err(error) => assert_eq!(error.kind(), Kind::Busy, "{error}"),
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "no key came");
        std::thread::yield_now();
    }
}

#[test]
fn a_kms_is_asked_once_a_day_and_never_waited_for_by_the_writer() {
    let kms = Kms::new();
    let ring = Ring::open(&kms.keys(), &kms.settings()).unwrap();
    assert_eq!(ring.keys(&wanted([1])).map(|_| ()).unwrap_err().kind(), Kind::Busy, "it is only asked now");
    let kept = until_there(&ring, 1..=100);
    assert_eq!(kms.calls(), 2, "wrapped, and unwrapped to see that it does");
    assert!(!kms.keys().join("master.key").exists());
    let ring = Ring::open(&kms.keys(), &kms.settings()).unwrap();
    assert!(kept.iter().all(|(of, sealed)| opens(&ring, *of, sealed).unwrap()));
    assert_eq!(kms.calls(), 3);
}

#[test]
fn a_kms_that_fails_hangs_or_prints_anything_else_gives_no_key_and_loses_none() {
    let kms = Kms::new();
    let kept = until_there(&Ring::open(&kms.keys(), &kms.settings()).unwrap(), 1..=1);
    let bad = [
        "exit 1",
        "exit 0",
        "sleep 600 & wait",
        "echo the service is being restored; exit 0",
        "exec yes",
        "cat > /dev/null; printf 0123456789abcdef0123456789abcdef; exit 0",
    ];
    for mode in bad {
        kms.mode(mode);
        let settings = Settings { command_timeout: Duration::from_millis(300), ..kms.settings() };
        let ring = Ring::open(&kms.keys(), &settings).unwrap();
        assert!(ring.key(DAY, recorder(1)).is_err(), "{mode}");
        let begin = Instant::now();
        let refused = ring.prepare(DAY + 1).unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert_eq!(refused.kind(), Kind::Busy, "{mode}: {refused}");
        assert_eq!(file::days(&kms.keys()).unwrap(), [DAY], "{mode}");
    }
    kms.mode("");
    let ring = Ring::open(&kms.keys(), &kms.settings()).unwrap();
    assert!(opens(&ring, kept[0].0, &kept[0].1).unwrap());
    ring.prepare(DAY + 1).unwrap();
}

#[test]
fn from_a_file_to_a_kms_by_an_exchange() {
    let kms = Kms::new();
    let kept = sealed(&open(&kms.keys()), 1..=3);
    assert_eq!(rotate(&kms.keys(), &kms.settings()).unwrap(), 1);
    fs::remove_file(kms.keys().join("master.key")).unwrap();
    let ring = Ring::open(&kms.keys(), &kms.settings()).unwrap();
    assert!(kept.iter().all(|(of, sealed)| opens(&ring, *of, sealed).unwrap()));
}

/// What a store would say of its keys.
fn told(floor: u32, destroyed: &[u8]) -> super::Told {
    let destroyed = destroyed.iter().map(|number| super::Destruction {
        day: DAY,
        recorder: recorder(*number).to_string(),
        at: 1,
        by: "a".to_owned(),
        reason: "x".to_owned(),
    });
    super::Told { owner: "log".to_owned(), floor, destroyed: destroyed.collect() }
}

#[test]
fn the_mirror_follows_what_is_made_destroyed_exchanged_and_over() {
    let home = tempfile::tempdir().unwrap();
    let (keys, mirror) = (home.path().join("keys"), home.path().join("mirror"));
    let ring = open(&keys);
    let kept = sealed(&ring, 1..=3);
    ring.keys(&BTreeSet::from([(DAY - 1, recorder(1))])).unwrap();
    let done = super::mirror(&keys, &mirror, || Ok(told(0, &[]))).unwrap();
    assert_eq!((done.days, done.written), (2, 2));
    assert_eq!(super::mirror(&keys, &mirror, || Ok(told(0, &[]))).unwrap().written, 0);
    assert!(!mirror.join("master.key").exists());
    assert!(ring.destroy(DAY, recorder(2)).unwrap());
    rotate(&keys, &Settings::default()).unwrap();
    ring.destroy_before(DAY).unwrap();
    let done = super::mirror(&keys, &mirror, || Ok(told(DAY, &[2]))).unwrap();
    assert_eq!((done.days, done.written, done.days_destroyed, done.keys_destroyed), (1, 1, 1, 1));
    assert!(!file::path(&mirror, DAY - 1).exists());

    let back = home.path().join("back");
    let (told, days) = super::put_back(&mirror, &back, "log", 0).unwrap();
    assert_eq!((told.floor, told.destroyed.len(), days), (DAY, 1, 1));
    super::put_master(&keys.join("master.key"), &back).unwrap();
    let ring = open(&back);
    for (of, sealed) in &kept {
        assert_eq!(opens(&ring, *of, sealed).unwrap(), *of != recorder(2));
    }
    assert!(super::put_back(&mirror, &back, "another", 0).is_err());
    assert!(super::put_back(&keys, &back, "log", 0).is_err());
}

#[test]
fn the_mirror_keeps_what_was_not_destroyed_whatever_becomes_of_the_keys() {
    let home = tempfile::tempdir().unwrap();
    let (keys, mirror) = (home.path().join("keys"), home.path().join("mirror"));
    sealed(&open(&keys), 1..=3);
    super::mirror(&keys, &mirror, || Ok(told(0, &[]))).unwrap();
    let path = file::path(&keys, DAY);
    let (good, kept) = (fs::read(&path).unwrap(), fs::read(file::path(&mirror, DAY)).unwrap());
    let refused = |what: &str| {
        let error = super::mirror(&keys, &mirror, || Ok(told(0, &[]))).unwrap_err();
        assert!(matches!(error.kind(), Kind::Invalid | Kind::Damaged), "{what}: {error}");
        assert_eq!(fs::read(file::path(&mirror, DAY)).unwrap(), kept, "{what}");
    };
    for cut in [0, 30, good.len() - 84, good.len() - 1] {
        fs::write(&path, &good[..cut]).unwrap();
        refused("it is cut");
    }
    for byte in [20, 41, good.len() - 200, good.len() - 20] {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        fs::write(&path, bad).unwrap();
        refused("a bit flipped");
    }
    fs::remove_file(&path).unwrap();
    refused("it is gone");
    fs::write(&path, &good).unwrap();
    // A key that is destroyed comes back with an old copy of the file.
    open(&keys).destroy(DAY, recorder(1)).unwrap();
    assert_eq!(super::mirror(&keys, &mirror, || Ok(told(0, &[1]))).unwrap().keys_destroyed, 1);
    let kept = fs::read(file::path(&mirror, DAY)).unwrap();
    fs::write(&path, &good).unwrap();
    let error = super::mirror(&keys, &mirror, || Ok(told(0, &[1]))).unwrap_err();
    assert!(error.to_string().contains("have a key again"), "{error}");
    assert_eq!(fs::read(file::path(&mirror, DAY)).unwrap(), kept);
}

#[test]
fn what_the_mirror_was_about_to_destroy_when_it_was_cut_off_is_not_put_back() {
    let home = tempfile::tempdir().unwrap();
    let (keys, mirror) = (home.path().join("keys"), home.path().join("mirror"));
    let ring = open(&keys);
    let kept = sealed(&ring, 1..=2);
    super::mirror(&keys, &mirror, || Ok(told(0, &[]))).unwrap();
    let before = fs::read(file::path(&mirror, DAY)).unwrap();
    let about = fs::read_to_string(mirror.join("mirror.json")).unwrap();
    let pending = about.replace("\"pending\": []", &format!("\"pending\": [[{DAY}, 0]]"));
    assert_ne!(pending, about);
    fs::write(mirror.join("mirror.json"), pending).unwrap();
    let back = home.path().join("back");
    super::put_back(&mirror, &back, "log", 0).unwrap();
    super::put_master(&keys.join("master.key"), &back).unwrap();
    assert_eq!(fs::read(file::path(&mirror, DAY)).unwrap(), before, "the mirror itself is not touched");
    let ring = open(&back);
    assert_eq!(kept.iter().filter(|(of, sealed)| opens(&ring, *of, sealed).unwrap()).count(), 1);
}

#[test]
fn a_mirror_is_not_read_while_it_is_changed_and_days_that_are_over_are_not_put_back_of_one_that_is_behind() {
    let home = tempfile::tempdir().unwrap();
    let (keys, mirror, back) = (home.path().join("keys"), home.path().join("mirror"), home.path().join("back"));
    let ring = open(&keys);
    sealed(&ring, 1..=2);
    ring.keys(&BTreeSet::from([(DAY - 1, recorder(1))])).unwrap();
    super::mirror(&keys, &mirror, || {
        assert_eq!(super::put_back(&mirror, &back, "log", 0).unwrap_err().kind(), Kind::Busy);
        Ok(told(0, &[]))
    })
    .unwrap();
    fs::remove_file(mirror.join("lock")).unwrap();
    assert_eq!(super::put_back(&mirror, &back, "log", DAY).unwrap().1, 1);
    assert!(!file::path(&back, DAY - 1).exists() && file::path(&back, DAY).exists());
}
