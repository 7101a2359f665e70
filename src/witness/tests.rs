//! A witness that is offered two histories, an older copy, and nonsense.

use std::sync::Arc;

use aigaq_proto::cosignature::WitnessKey;
use aigaq_proto::{Digest, cosignature};
use axum::body::Body;
use http::{Request, StatusCode};
use tower::ServiceExt as _;

use super::{Key, Witness, router};
use crate::clock::Clock;
use crate::error::Kind;
use crate::log::{Identity, Log, Tree};
use crate::store::{Commit, Store};

const NOW: u64 = 1_768_641_240_000_000;

/// A log that grows in memory; forks of it share its key.
struct Grown {
    store: Store,
    log: Log,
    salt: u64,
}

impl Grown {
    fn new(identity: &Identity, salt: u64) -> Self {
        let store = Store::memory();
        let log = Log::open(store.clone(), identity.clone(), None).unwrap();
        Self { store, log, salt }
    }

    /// Appends entries that depend on the salt.
    fn grow(&mut self, count: u64) -> Tree {
        let mut staged = self.log.stage();
        for index in self.log.size()..self.log.size() + count {
            staged.append(&Digest::of(&(index ^ self.salt).to_be_bytes()), index);
        }
        let (log_rows, log_size) = (staged.take_rows(), staged.size());
        let number = self.store.next_commit();
        self.store.commit(Commit { number, log_rows, log_size, ..Commit::default() }).unwrap();
        self.log.settle(staged).unwrap();
        self.log.reader().newest().unwrap()
    }

    fn request(&self, old: u64, tree: &Tree) -> String {
        let proof = self.log.reader().prove_consistency(old, tree).unwrap();
        let proof: String = proof.iter().map(|hash| format!("{}\n", data_encoding::BASE64.encode(&hash.0))).collect();
        format!("old {old}\n{proof}\n{}", tree.checkpoint)
    }
}

struct Rig {
    dir: tempfile::TempDir,
    identity: Identity,
    witness: Arc<Witness>,
}

impl Rig {
    fn new() -> Self {
        let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::ephemeral().unwrap());
        let witness = Arc::new(open(&dir, &identity).unwrap());
        Self { dir, identity, witness }
    }

    async fn add(&self, body: impl Into<Body>) -> (StatusCode, String) {
        self.ask(Request::post("/add-checkpoint").body(body.into()).unwrap()).await
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = router(Arc::clone(&self.witness)).oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// Cosigns the tree as the next after `old`.
    async fn cosigned(&self, log: &Grown, old: u64, tree: &Tree) -> String {
        let (status, line) = self.add(log.request(old, tree)).await;
        assert_eq!(status, StatusCode::OK, "{line}");
        let cosigned = format!("{}{line}", tree.checkpoint);
        assert_eq!(self.witness.key().cosigned_at(&cosigned), Some(NOW / 1_000_000));
        cosigned
    }

    fn restarted(self) -> Self {
        let witness = Arc::new(open(&self.dir, &self.identity).unwrap());
        Self { witness, ..self }
    }
}

fn open(dir: &tempfile::TempDir, identity: &Identity) -> crate::Result<Witness> {
    let key = Key::load_or_create(dir.path(), Some("witness.example/1"))?;
    Witness::open(dir.path(), key, vec![identity.key()], Clock::fixed(NOW))
}

#[tokio::test]
async fn a_log_that_grows_is_cosigned_step_by_step_and_over_restarts() {
    let mut rig = Rig::new();
    let mut log = Grown::new(&rig.identity, 0);
    let mut old = 0;
    for count in [1, 1, 5, 249, 300] {
        let tree = log.grow(count);
        let cosigned = rig.cosigned(&log, old, &tree).await;
        rig.identity.key().open(&cosigned).unwrap();
        old = tree.size;
        rig = rig.restarted();
    }
    let tree = log.log.reader().newest().unwrap();
    rig.cosigned(&log, old, &tree).await;
    let path = format!("/{}/checkpoint", Digest::of(rig.identity.key().origin().as_bytes()));
    let (status, served) = rig.ask(Request::get(path).body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(rig.identity.key().open(&served).unwrap(), (tree.size, tree.root));
    assert_eq!(cosignature::count(&[rig.witness.key().clone(), rig.witness.key().clone()], &served), 1);
}

#[tokio::test]
async fn a_second_history_is_not_cosigned() {
    let rig = Rig::new();
    let (mut one, mut other) = (Grown::new(&rig.identity, 0), Grown::new(&rig.identity, 1));
    let tree = one.grow(10);
    rig.cosigned(&one, 0, &tree).await;
    let split = other.grow(10);
    assert_eq!(rig.add(other.request(10, &split)).await.0, StatusCode::UNPROCESSABLE_ENTITY, "the same size");
    assert_eq!(rig.add(other.request(0, &split)).await, (StatusCode::CONFLICT, "10\n".to_owned()));
    let split = other.grow(7);
    assert_eq!(rig.add(other.request(10, &split)).await.0, StatusCode::UNPROCESSABLE_ENTITY, "a larger one");
    let tree = one.grow(1);
    rig.cosigned(&one, 10, &tree).await;
}

#[tokio::test]
async fn an_older_copy_is_told_the_size_of_what_it_forgot() {
    let rig = Rig::new();
    let mut log = Grown::new(&rig.identity, 0);
    let older = log.grow(4);
    rig.cosigned(&log, 0, &older).await;
    let newer = log.grow(4);
    rig.cosigned(&log, 4, &newer).await;
    assert_eq!(rig.add(log.request(4, &older)).await, (StatusCode::CONFLICT, "8\n".to_owned()));
    assert_eq!(rig.add(log.request(0, &older)).await, (StatusCode::CONFLICT, "8\n".to_owned()));
}

#[tokio::test]
async fn nonsense_is_refused_as_the_specification_says() {
    let rig = Rig::new();
    let mut log = Grown::new(&rig.identity, 0);
    let tree = log.grow(5);
    rig.cosigned(&log, 0, &tree).await;
    let tree = log.grow(4);
    let good = log.request(5, &tree);
    let stranger = Grown::new(&Identity::ephemeral().unwrap(), 0).grow(3).checkpoint;
    let forged = tree.checkpoint.replacen(&format!("\n{}\n", tree.size), "\n99\n", 1);
    let unsigned = {
        let (body, line) = tree.checkpoint.split_once("\n\n").unwrap();
        let other = Identity::ephemeral().unwrap();
        let theirs = Grown::new(&other, 0).grow(1).checkpoint;
        let theirs = theirs.split_once("\n\n").unwrap().1.to_owned();
        assert_ne!(line, theirs);
        format!("{body}\n\n{theirs}")
    };
    let line = good.lines().nth(1).unwrap();
    for (body, status) in [
        (String::new(), 400),
        ("old 5\n".to_owned(), 400),
        ("\n\n\n\n".to_owned(), 400),
        (good.replacen("old 5", "old 05", 1), 400),
        (good.replacen("old 5", "old +5", 1), 400),
        (good.replacen("old 5", "older 5", 1), 400),
        (good.replacen("old 5", "old 10", 1), 400),
        (good.replacen(line, "AAAA", 1), 400),
        (good.replacen(line, &vec![line; 64].join("\n"), 1), 400),
        (good.trim_end().to_owned(), 400),
        (format!("old 0\n\n{stranger}"), 404),
        (format!("old 5\n\n{forged}"), 403),
        (format!("old 5\n\n{unsigned}"), 403),
        (good.replacen("old 5", "old 4", 1), 409),
        (good.replacen(&format!("{line}\n"), "", 1), 422),
        (good.replacen(line, &format!("{line}\n{line}"), 1), 422),
        (format!("old 5\n\n{}", tree.checkpoint), 422),
        ("x".repeat(17 * 1024), 413),
    ] {
        let (answered, text) = rig.add(body.clone()).await;
        assert_eq!(answered.as_u16(), status, "{body}: {text}");
    }
    let (answered, _) = rig.add(vec![0xff; 40]).await;
    assert_eq!(answered, StatusCode::BAD_REQUEST);
    assert_eq!(rig.add(good).await.0, StatusCode::OK, "and the good one still passes");
}

#[test]
fn a_witness_that_cannot_read_what_it_cosigned_does_not_start() {
    let rig = Rig::new();
    let path = rig.dir.path().join(Digest::of(rig.identity.key().origin().as_bytes()).to_string());
    std::fs::write(&path, "").unwrap();
    assert_eq!(open(&rig.dir, &rig.identity).err().unwrap().kind(), Kind::Damaged);
}

#[test]
fn the_key_is_its_owners_alone_and_is_never_replaced() {
    use std::os::unix::fs::PermissionsExt as _;
    let rig = Rig::new();
    let path = rig.dir.path().join("witness.key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = Key::load_or_create(rig.dir.path(), None).unwrap();
    assert_eq!(again.public(), rig.witness.key());
    assert!(Key::load_or_create(rig.dir.path(), Some("another.example")).is_err());
    assert_eq!(WitnessKey::parse(again.public().as_str()).unwrap(), *rig.witness.key());
}
