//! The parts that need no server: names that lead elsewhere, lists that are cut, a pace that is kept.

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use aigaq_proto::Digest;

use super::copy::{self, Pace};
use super::set::{self, Backup};
use crate::error::Kind;

#[test]
fn a_name_in_a_list_leads_nowhere_else() {
    for good in ["log.key", "store/000012.sst", "ca/ca.pem", "a.b-c_d/e"] {
        assert!(set::is_plain(good), "{good}");
    }
    for bad in
        ["", "/etc/passwd", "../log.key", "store/../../x", "store//x", "a/./b", "a b", "a\\b", "store/", "\u{440}"]
    {
        assert!(!set::is_plain(bad), "{bad}");
    }
}

#[test]
fn a_list_with_a_name_that_leads_elsewhere_is_no_list() {
    let dir = tempfile::tempdir().unwrap();
    let files = BTreeMap::from([("../outside".to_owned(), Digest::ZERO), (set::ABOUT.to_owned(), Digest::of(b"x"))]);
    let (sums, sum) = set::lists(&files);
    fs::write(dir.path().join(set::SUMS), sums).unwrap();
    fs::write(dir.path().join(set::SUM_OF_SUMS), sum).unwrap();
    fs::write(dir.path().join(set::ABOUT), "x").unwrap();
    let error = Backup::find(dir.path()).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("a line that is none"), "{error}");
}

#[test]
fn bytes_go_no_faster_than_is_allowed_and_not_at_all_without_the_server() {
    let (hear, heard) = sync_channel(1);
    let mut pace = Pace::new(Some(1 << 20), &heard);
    let begun = Instant::now();
    (0..4).for_each(|_| pace.spend(50 << 10).unwrap());
    assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
    drop(hear);
    assert_eq!(pace.spend(1).unwrap_err().kind(), Kind::Busy);
    assert_eq!(Pace::new(None, &heard).spend(1).unwrap_err().kind(), Kind::Busy);
}

#[test]
fn a_copy_is_what_was_read_and_never_takes_the_place_of_another_file() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    fs::write(&from, &bytes).unwrap();
    let (_alive, heard) = sync_channel(1);
    let mut pace = Pace::new(None, &heard);
    assert_eq!(copy::copy(&from, &to, &mut pace).unwrap(), (Digest::of(&bytes), 3_000_000));
    assert_eq!(copy::read(&to, &mut pace).unwrap(), (Digest::of(&bytes), 3_000_000));
    assert!(copy::is_same(&from, &to));
    assert!(copy::copy(&from, &to, &mut pace).is_err());
    assert_eq!(copy::copy(&dir.path().join("none"), &to, &mut pace).unwrap_err().kind(), Kind::NotFound);
    let mut other = bytes;
    *other.last_mut().unwrap() ^= 1;
    fs::write(&to, &other).unwrap();
    assert!(!copy::is_same(&from, &to));
}
