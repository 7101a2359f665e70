//! Tests of accounts and sessions against a store in memory.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::time::Instant;

use super::*;
use crate::store::engine::memory::Memory;
use crate::store::engine::{Engine as _, Family};

const BEGIN: Micros = 1_768_641_240_000_000;
const PASSWORD: &str = "correct horse battery";

struct Site {
    dir: tempfile::TempDir,
    store: Store,
    clock: Clock,
    access: Access,
}

fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::with_engine(Arc::new(Memory::default())).unwrap();
    let clock = Clock::fixed(BEGIN);
    let access = Access::open(store.clone(), Some(dir.path()), clock.clone(), Settings::default()).unwrap();
    Site { dir, store, clock, access }
}

fn operator() -> Vec<Grant> {
    vec![Grant { role: Role::Operator, departments: Some(vec!["Astana".to_owned()]) }]
}

impl Site {
    async fn sign_in(&self, name: &str, password: &str) -> Result<SignedIn, Refused> {
        let proven = self.access.person(name, password.to_owned(), None).await?;
        Ok(self.access.begin(proven, "::1").await?)
    }

    async fn is_known(&self, token: &str) -> bool {
        // What the command line left is noticed within two seconds; here nobody waits.
        self.access.refresh(Duration::ZERO).await.unwrap();
        self.access.identify(token).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn whoever_was_added_signs_in_without_a_restart_and_no_more_when_removed() {
    let site = site();
    assert!(!site.access.is_anybody_known());
    add_account(site.dir.path(), "anna", PASSWORD, operator(), false).unwrap();
    let signed_in = site.sign_in("anna", PASSWORD).await.unwrap();
    let who = site.access.identify(&signed_in.token).await.unwrap().unwrap();
    assert_eq!((who.actor.as_str(), who.grants.list()), ("account:anna", &operator()[..]));
    assert!(site.access.is_anybody_known());
    remove(site.dir.path(), "account", "anna").unwrap();
    assert!(!site.is_known(&signed_in.token).await, "its sessions end with it");
    assert!(matches!(site.sign_in("anna", PASSWORD).await, Err(Refused::Wrong)));
    let said: Vec<_> = site.store.audit_entries(0..u64::MAX).map(|entry| entry.unwrap().action).collect();
    assert_eq!(said, ["make account:anna; operator in Astana", "remove account:anna"]);
    assert_eq!(std::fs::read_dir(site.dir.path().join("accounts")).unwrap().count(), 0, "what was taken in is gone");
}

#[tokio::test]
async fn a_new_password_ends_what_the_old_one_began() {
    let site = site();
    add_account(site.dir.path(), "anna", PASSWORD, operator(), false).unwrap();
    let before = site.sign_in("anna", PASSWORD).await.unwrap();
    add_account(site.dir.path(), "anna", "another one entirely", operator(), false).unwrap();
    assert!(!site.is_known(&before.token).await);
    assert!(matches!(site.sign_in("anna", PASSWORD).await, Err(Refused::Wrong)));
    assert!(site.sign_in("anna", "another one entirely").await.is_ok());
}

#[tokio::test]
async fn an_account_that_changes_while_somebody_signs_in_gives_them_no_session() {
    let site = site();
    for change in [None, Some("another one entirely")] {
        add_account(site.dir.path(), "anna", PASSWORD, operator(), false).unwrap();
        let proven = site.access.person("anna", PASSWORD.to_owned(), None).await.unwrap();
        match change {
            None => remove(site.dir.path(), "account", "anna").unwrap(),
            Some(password) => add_account(site.dir.path(), "anna", password, Vec::new(), false).unwrap(),
        }
        site.access.refresh(Duration::ZERO).await.unwrap();
        let begun = site.access.begin(proven, "::1").await;
        assert_eq!(begun.err().unwrap().kind(), Kind::Unauthorised, "{change:?}");
        assert!(site.access.sessions(None).is_empty());
    }
}

#[tokio::test]
async fn accounts_and_sessions_are_there_after_a_restart() {
    let Site { dir, store, clock, access } = site();
    let secret = add_client(dir.path(), "dispatch", operator()).unwrap();
    let proven = access.client("dispatch", &secret, None).await.unwrap();
    let signed_in = access.begin(proven, "::1").await.unwrap();
    assert_eq!(signed_in.ends_at, BEGIN + CLIENT_US);
    drop(access);
    let again = Access::open(store, Some(dir.path()), clock.clone(), Settings::default()).unwrap();
    assert_eq!(again.identify(&signed_in.token).await.unwrap().unwrap().actor, "client:dispatch");
    assert!(again.client("dispatch", &secret, None).await.is_ok());
    clock.set(BEGIN + CLIENT_US);
    assert_eq!(again.identify(&signed_in.token).await.unwrap(), None, "a service signs in again after a while");
}

#[tokio::test]
async fn guessing_is_limited_and_tells_nothing() {
    let site = site();
    add_account(site.dir.path(), "anna", PASSWORD, operator(), false).unwrap();
    for name in ["anna", "nobody"] {
        for _ in 0..5 {
            assert!(matches!(site.sign_in(name, "wrong password").await, Err(Refused::Wrong)), "{name}");
        }
        assert!(matches!(site.sign_in(name, PASSWORD).await, Err(Refused::TooOften)), "{name}");
    }
    site.clock.set(BEGIN + 60_000_000);
    assert!(site.sign_in("anna", PASSWORD).await.is_ok(), "after a while the right one is right again");
}

#[tokio::test]
async fn all_addresses_of_a_network_guess_together() {
    let site = site();
    let mut tries = 0;
    for number in 0..100 {
        let from = format!("2001:db8::{number:x}").parse().unwrap();
        tries +=
            usize::from(matches!(site.access.client(&number.to_string(), "?", Some(from)).await, Err(Refused::Wrong)));
    }
    assert_eq!(tries, 30);
    let elsewhere = "2001:db8:0:1::1".parse().unwrap();
    assert!(matches!(site.access.client("anybody", "?", Some(elsewhere)).await, Err(Refused::Wrong)));
}

#[tokio::test]
async fn a_name_that_nobody_has_takes_as_long_as_one_that_somebody_has() {
    let site = site();
    add_account(site.dir.path(), "anna", PASSWORD, operator(), false).unwrap();
    let secret = add_client(site.dir.path(), "dispatch", operator()).unwrap();
    // The least of some is what the work itself takes, whatever else the machine does; of how many, depends on that.
    let mut least = [f64::MAX; 3];
    for round in 0..60 {
        for (name, least) in ["anna", "nobody", "dispatch"].into_iter().zip(&mut least) {
            site.clock.set(site.clock.now() + 60_000_000 + round);
            let began = Instant::now();
            assert!(matches!(site.access.person(name, secret.clone(), None).await, Err(Refused::Wrong)));
            *least = least.min(began.elapsed().as_secs_f64());
        }
        let [known, others @ ..] = least;
        if round >= 5 && others.iter().all(|other| (0.5..2.0).contains(&(other / known))) {
            return;
        }
    }
    panic!("seconds for a name that is there, one that is not, and a service: {least:?}");
}

#[test]
fn what_is_configured_and_what_is_said_make_the_class_together() {
    let store = Store::with_engine(Arc::new(Memory::default())).unwrap();
    let settings = Settings {
        restricted_departments: vec!["Custody".to_owned()],
        restricted_kinds: vec![RecorderKind::Premises],
        ..Settings::default()
    };
    let access = Access::open(store.clone(), None, Clock::fixed(BEGIN), settings.clone()).unwrap();
    let recorder = |number: u8, kind, department: &str| {
        let key = crate::store::records::RecorderKey { spki: vec![number], since: BEGIN, not_after: None };
        RecorderRecord::new(kind, department.to_owned(), "label".to_owned(), key)
    };
    let plain = recorder(1, RecorderKind::Officer, "Astana");
    let (custody, desk) =
        (recorder(2, RecorderKind::Officer, "Custody"), recorder(3, RecorderKind::Premises, "Astana"));
    let classes = |access: &Access| [&plain, &custody, &desk].map(|recorder| access.class_of(recorder));
    assert_eq!(classes(&access), [Class::Open, Class::Restricted, Class::Restricted]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (recorder, class) in [(&plain, Class::Sealed), (&custody, Class::Open)] {
        let said = crate::store::records::Act { at: BEGIN, by: "account:anna".to_owned(), reason: "check".to_owned() };
        runtime.block_on(access.classify(ClassRecord { recorder: recorder.id, class, said })).unwrap();
    }
    let expected = [Class::Sealed, Class::Restricted, Class::Restricted];
    assert_eq!(classes(&access), expected, "what is configured cannot be talked away");
    assert_eq!(classes(&Access::open(store, None, Clock::fixed(BEGIN), settings).unwrap()), expected);
}

#[test]
fn of_classes_that_are_said_at_once_the_same_one_holds_now_and_after_a_restart() {
    const AT_ONCE: usize = 4;
    let store = Store::with_engine(Arc::new(Memory::default())).unwrap();
    let access = Access::open(store.clone(), None, Clock::fixed(BEGIN), Settings::default()).unwrap();
    let recorder = RecorderId([1; 16]);
    let start = std::sync::Barrier::new(AT_ONCE);
    for _ in 0..200 {
        std::thread::scope(|scope| {
            for by in 0..AT_ONCE {
                let (access, start) = (&access, &start);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let said = Act { at: BEGIN, by: format!("account:{by}"), reason: String::new() };
                    start.wait();
                    runtime.block_on(access.classify(ClassRecord { recorder, class: Class::Sealed, said })).unwrap();
                });
            }
        });
        let stored = store.classes().next().unwrap().unwrap().1;
        assert_eq!(access.said_of(recorder), stored);
    }
}

#[test]
fn a_record_that_does_not_read_keeps_nobody_else_out_and_footage_closed() {
    let engine = Memory::default();
    let store = Store::with_engine(Arc::new(engine.clone())).unwrap();
    let recorder = RecorderRecord::new(
        RecorderKind::Officer,
        "Astana".to_owned(),
        "label".to_owned(),
        crate::store::records::RecorderKey { spki: vec![1], since: BEGIN, not_after: None },
    );
    let mut batch = crate::store::engine::Batch::default();
    for (family, key) in [
        (Family::Accounts, b"account:anna".to_vec()),
        (Family::Sessions, vec![0; 4]),
        (Family::Classes, recorder.id.0.to_vec()),
    ] {
        batch.put(family, key, *b"nonsense");
    }
    engine.commit(&[], &batch).unwrap();
    let access = Access::open(store, None, Clock::fixed(BEGIN), Settings::default()).unwrap();
    assert!(!access.is_known("account:anna") && access.sessions(None).is_empty());
    assert_eq!(access.class_of(&recorder), Class::Sealed);
}
