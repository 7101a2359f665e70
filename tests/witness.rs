//! Departments witness each other: the server, its witness and an older copy, as processes of their own.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aigaq::Clock;
use aigaq::log::{Identity as LogIdentity, Log, Tree};
use aigaq::store::{Commit, Store};
use aigaq::witness::Key;
use aigaq_proto::Digest;
use aigaq_proto::cosignature::WitnessKey;
use aigaq_proto::receipt::LogKey;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use data_encoding::BASE64;
use http::{Method, StatusCode};
use rand::{Rng as _, SeedableRng as _};
use support::Identity;
use support::chain::Chain;
use support::process::{AIGAQ, ServerProcess};
use support::session::{Session, endpoint};
use tokio_util::sync::CancellationToken;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Kills of the witness.
const ROUNDS: u64 = 25;

/// `aigaq witness` on a free port. Killed when dropped.
struct Witness {
    child: Child,
    url: String,
    key: WitnessKey,
}

impl Witness {
    fn start(dir: &Path, log: &LogKey) -> Self {
        Self::start_as("witness.example/1", dir, log, &[])
    }

    fn start_as(name: &str, dir: &Path, log: &LogKey, more: &[&Path]) -> Self {
        let mut child = Command::new(AIGAQ)
            .args(["witness", "--listen", "127.0.0.1:0", "--name", name, "--log", log.as_str(), "--dir"])
            .arg(dir)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines: Vec<String> =
            BufReader::new(child.stdout.take().unwrap()).lines().take(2).map(Result::unwrap).collect();
        let value = |line: &str| line.split_whitespace().last().unwrap().to_owned();
        Self { child, key: WitnessKey::parse(&value(&lines[0])).unwrap(), url: value(&lines[1]) }
    }

    fn config(&self) -> String {
        format!("[witness]\nwitnesses = \"{}\"\n", self.entry())
    }

    /// As a server's configuration names it.
    fn entry(&self) -> String {
        format!("{} {}", self.url, self.key.as_str())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    client().get(format!("http://{address}{path}")).send().await.unwrap().text().await.unwrap()
}

/// Waits until the published checkpoint is cosigned and has `size` entries.
async fn cosigned(server: &ServerProcess, log: &LogKey, witness: &WitnessKey, size: u64) -> String {
    let start = Instant::now();
    loop {
        let text = get(server.api, "/v1/log/checkpoint").await;
        if witness.cosigned_at(&text).is_some() && log.open(&text).unwrap().0 >= size {
            return text;
        }
        assert!(start.elapsed() < PATIENCE, "not cosigned: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The cosignature once more, with OpenSSL and nothing of ours.
fn openssl_agrees(checkpoint: &str, vkey: &str, dir: &Path) -> bool {
    let (name, rest) = vkey.split_once('+').unwrap();
    let key = BASE64.decode(rest.split_once('+').unwrap().1.as_bytes()).unwrap();
    let (body, lines) = checkpoint.split_once("\n\n").unwrap();
    let line = lines.lines().find_map(|line| line.strip_prefix(&format!("\u{2014} {name} "))).unwrap();
    let line = BASE64.decode(line.as_bytes()).unwrap();
    let time = u64::from_be_bytes(line[4..12].try_into().unwrap());
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let spki = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..], &key[1..]].concat();
    let (key, signature) = (file("key.der", &spki), file("signature", &line[12..]));
    let message = file("message", format!("cosignature/v1\ntime {time}\n{body}\n").as_bytes());
    let output = Command::new("openssl")
        .args(["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-rawin", "-inkey"])
        .arg(key)
        .arg("-in")
        .arg(message)
        .arg("-sigfile")
        .arg(signature)
        .output()
        .unwrap();
    output.status.success()
}

#[tokio::test]
async fn a_witness_that_tells_its_size_in_a_refusal_alone_cosigns_on_after_a_restart_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let identity = Identity::enrol(&data, &dir.path().join("device"));
    let witness_dir = dir.path().join("witness");
    std::fs::create_dir_all(&witness_dir).unwrap();
    let key = Key::load_or_create(&witness_dir, Some("witness.example/1")).unwrap();
    let witness =
        aigaq::witness::Witness::open(&witness_dir, key, vec![identity.log.clone()], Clock::system()).unwrap();
    let key = witness.key().clone();
    let posts_alone = async |request: Request, next: Next| match *request.method() {
        Method::POST => next.run(request).await,
        _ => StatusCode::NOT_FOUND.into_response(),
    };
    let router = aigaq::witness::router(Arc::new(witness)).layer(middleware::from_fn(posts_alone));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(aigaq::http::serve(listener, router, None, stop.clone()));

    let config = format!("[witness]\nwitnesses = \"{url} {}\"\n", key.as_str());
    let (any, endpoint) = ("127.0.0.1:0".parse().unwrap(), endpoint());
    let mut chain = Chain::new(identity.id, 1_700_000_000_000_000);
    let server = ServerProcess::start_with(&data, any, &config).unwrap();
    let session = Session::open(&endpoint, server.quic, &identity).await.unwrap();
    session.send(&chain.start(&identity.signing)).await.unwrap().receipt();
    cosigned(&server, &identity.log, &key, 1).await;
    assert!(server.terminate().success());

    let server = ServerProcess::start_with(&data, any, &config).unwrap();
    let session = Session::open(&endpoint, server.quic, &identity).await.unwrap();
    session.send(&chain.media(&identity.signing, Bytes::from_static(b"footage"))).await.unwrap().receipt();
    cosigned(&server, &identity.log, &key, 2).await;
    assert!(server.terminate().success());
    stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_is_cosigned_and_its_older_copy_takes_nothing_in() {
    let dir = tempfile::tempdir().unwrap();
    let (data, older) = (dir.path().join("data"), dir.path().join("older"));
    std::fs::create_dir_all(&data).unwrap();
    let identity = Identity::enrol(&data, &dir.path().join("device"));
    let witness = Witness::start(&dir.path().join("witness"), &identity.log);
    let any = "127.0.0.1:0".parse().unwrap();
    let endpoint = endpoint();
    let mut chain = Chain::new(identity.id, 1_700_000_000_000_000);

    let server = ServerProcess::start_with(&data, any, &witness.config()).unwrap();
    let session = Session::open(&endpoint, server.quic, &identity).await.unwrap();
    let index = session.send(&chain.start(&identity.signing)).await.unwrap().receipt().log_index;
    let first = cosigned(&server, &identity.log, &witness.key, index + 1).await;
    assert!(openssl_agrees(&first, witness.key.as_str(), dir.path()), "{first}");
    let proof = get(server.api, &format!("/v1/log/proof/{}/0", identity.id)).await;
    assert!(proof.starts_with(&format!("c2sp.org/tlog-proof@v1\nindex {index}\n")), "{proof}");
    assert!(witness.key.cosigned_at(proof.split_once("\n\n").unwrap().1).is_some(), "{proof}");
    assert!(server.terminate().success());
    assert!(Command::new("cp").arg("-a").arg(&data).arg(&older).status().unwrap().success());

    let server = ServerProcess::start_with(&data, any, &witness.config()).unwrap();
    let session = Session::open(&endpoint, server.quic, &identity).await.unwrap();
    let mut newest = index;
    for _ in 0..3 {
        let link = chain.media(&identity.signing, Bytes::from_static(b"footage"));
        newest = session.send(&link).await.unwrap().receipt().log_index;
    }
    cosigned(&server, &identity.log, &witness.key, newest + 1).await;
    server.kill();

    let restored = ServerProcess::start_with(&older, any, &witness.config()).unwrap();
    let opened = tokio::time::timeout(Duration::from_millis(500), Session::open(&endpoint, restored.quic, &identity));
    assert!(!matches!(opened.await, Ok(Ok(_))), "a store that forgot takes footage in");
    let serves = identity.log.open(&get(restored.api, "/v1/log/checkpoint").await).unwrap().0;
    assert!((index + 1..=newest).contains(&serves), "it still serves what it has: {serves}");
    assert!(get(restored.ops, "/metrics").await.contains("aigaq_log_contradicted 1"));
    assert_eq!(get(restored.ops, "/readyz").await, "not ready\n");
    let said = std::fs::read_to_string(older.join("test.log")).unwrap();
    assert!(said.contains("no footage is taken in"), "{said}");
    assert!(restored.terminate().success());

    drop(witness);
    let alone = ServerProcess::start_with(&older, any, "").unwrap();
    Session::open(&endpoint, alone.quic, &identity).await.unwrap();
}

#[tokio::test]
async fn witnesses_that_cannot_be_reached_stop_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let identity = Identity::enrol(&data, &dir.path().join("device"));
    let witness = Witness::start(&dir.path().join("witness"), &identity.log);
    let config = witness.config();
    drop(witness);
    let server = ServerProcess::start_with(&data, "127.0.0.1:0".parse().unwrap(), &config).unwrap();
    let session = Session::open(&endpoint(), server.quic, &identity).await.unwrap();
    let mut chain = Chain::new(identity.id, 1_700_000_000_000_000);
    let index = session.send(&chain.start(&identity.signing)).await.unwrap().receipt().log_index;
    let start = Instant::now();
    while !get(server.ops, "/metrics").await.lines().any(|line| {
        line.strip_prefix("aigaq_checkpoint_age_seconds ").is_some_and(|age| age.parse::<u64>().unwrap() > 0)
    }) {
        assert!(start.elapsed() < PATIENCE, "the age of the checkpoint does not grow");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(identity.log.open(&get(server.api, "/v1/log/checkpoint").await).unwrap().0 > index, "the newest");
}

/// A log in memory; what it appends depends on the salt.
struct Fork {
    store: Store,
    log: Log,
    salt: u64,
}

impl Fork {
    fn new(identity: &LogIdentity, salt: u64) -> Self {
        let store = Store::memory();
        let log = Log::open(store.clone(), identity.clone(), None).unwrap();
        Self { store, log, salt }
    }

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
        let proof: String = proof.iter().map(|hash| format!("{}\n", BASE64.encode(&hash.0))).collect();
        format!("old {old}\n{proof}\n{}", tree.checkpoint)
    }
}

/// Offers tree after tree of a history until the witness is gone; the trees that were cosigned, as size and root.
async fn offer(url: String, key: WitnessKey, mut fork: Fork) -> (Fork, Vec<(u64, Digest)>) {
    let (client, mut cosigned) = (client(), Vec::new());
    let mut known = 0;
    loop {
        let tree = fork.grow(3);
        let asked = client.post(format!("{url}/add-checkpoint")).body(fork.request(known, &tree)).send().await;
        let Ok(answer) = asked else { return (fork, cosigned) };
        let status = answer.status().as_u16();
        let Ok(text) = answer.text().await else { return (fork, cosigned) };
        match status {
            200 => {
                assert!(key.cosigned_at(&format!("{}{text}", tree.checkpoint)).is_some(), "{text}");
                cosigned.push((tree.size, tree.root));
                known = tree.size;
            }
            409 => {
                known = text.trim().parse().unwrap();
                while fork.log.size() < known {
                    fork.grow(known - fork.log.size());
                }
            }
            422 => known = 0,
            other => panic!("{other}: {text}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_is_killed_again_and_again_never_cosigns_two_histories() {
    let dir = tempfile::tempdir().unwrap();
    let identity = LogIdentity::ephemeral().unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(11);
    let (mut one, mut other) = (Fork::new(&identity, 0), Fork::new(&identity, 1 << 40));
    let mut cosigned = Vec::new();
    for _ in 0..ROUNDS {
        let mut witness = Witness::start(dir.path(), &identity.key());
        let offers = [one, other].map(|fork| tokio::spawn(offer(witness.url.clone(), witness.key.clone(), fork)));
        tokio::time::sleep(Duration::from_millis(random.random_range(20..80))).await;
        witness.child.kill().unwrap();
        let [first, second] = offers;
        let (back, seen) = first.await.unwrap();
        one = back;
        cosigned.extend(seen);
        let (back, seen) = second.await.unwrap();
        other = back;
        cosigned.extend(seen);
    }
    assert!(!cosigned.is_empty(), "nothing was cosigned in all the rounds");
    let of = |fork: &Fork| {
        let reader = fork.log.reader();
        cosigned.iter().all(|(size, root)| reader.root(*size).is_ok_and(|own| own == *root))
    };
    assert!(of(&one) != of(&other), "both histories were cosigned");
}

/// A witness that takes the question and answers with this, after so long.
async fn answering(status: StatusCode, text: &'static str, after: Duration, stop: &CancellationToken) -> String {
    let answer = async move || {
        tokio::time::sleep(after).await;
        (status, text)
    };
    let router = axum::Router::new().fallback(answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(aigaq::http::serve(listener, router, None, stop.clone()));
    url
}

/// A key of a witness that nobody runs.
fn nobody(name: &str) -> WitnessKey {
    let dir = tempfile::tempdir().unwrap();
    Key::load_or_create(dir.path(), Some(name)).unwrap().public().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_five_make_the_quorum_while_one_is_down_one_lies_and_one_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let identity = Identity::enrol(&data, &dir.path().join("device"));
    let good = ["one", "two"]
        .map(|name| Witness::start_as(&format!("witness.example/{name}"), &dir.path().join(name), &identity.log, &[]));
    let stop = CancellationToken::new();
    let lie = "\u{2014} witness.example/lies AAAAAGhcAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
    let lies = answering(StatusCode::OK, lie, Duration::ZERO, &stop).await;
    let hangs = answering(StatusCode::OK, "", PATIENCE, &stop).await;
    let mut entries: Vec<String> = good.iter().map(Witness::entry).collect();
    entries.push(format!("http://127.0.0.1:1 {}", nobody("witness.example/down").as_str()));
    entries.push(format!("{lies} {}", nobody("witness.example/lies").as_str()));
    entries.push(format!("{hangs} {}", nobody("witness.example/hangs").as_str()));
    let config = format!("[witness]\nquorum = 2\nwitnesses = \"{}\"\n", entries.join(", "));

    let server = ServerProcess::start_with(&data, "127.0.0.1:0".parse().unwrap(), &config).unwrap();
    let session = Session::open(&endpoint(), server.quic, &identity).await.unwrap();
    let mut chain = Chain::new(identity.id, 1_700_000_000_000_000);
    let index = session.send(&chain.start(&identity.signing)).await.unwrap().receipt().log_index;
    for witness in &good {
        let text = cosigned(&server, &identity.log, &witness.key, index + 1).await;
        assert!(good.iter().all(|one| one.key.cosigned_at(&text).is_some()), "both: {text}");
        assert!(!text.contains("witness.example/lies"), "what does not verify is not shown: {text}");
    }
    let [one, two] = good;
    drop(two);
    let index =
        session.send(&chain.media(&identity.signing, Bytes::from_static(b"f"))).await.unwrap().receipt().log_index;
    let start = Instant::now();
    while !get(server.ops, "/metrics").await.lines().any(|line| {
        line.strip_prefix("aigaq_checkpoint_age_seconds ").is_some_and(|age| age.parse::<u64>().unwrap() > 0)
    }) {
        assert!(start.elapsed() < PATIENCE, "one alone makes no quorum");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let published = get(server.api, "/v1/log/checkpoint").await;
    assert!(identity.log.open(&published).unwrap().0 <= index, "published is what the quorum saw");
    drop(one);
    assert!(server.terminate().success());
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_departments_witness_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| {
        let data = dir.path().join(name);
        std::fs::create_dir_all(&data).unwrap();
        let identity = Identity::enrol(&data, &dir.path().join(format!("{name}-device")));
        (data, identity)
    };
    let (astana, karaganda) = (of("astana"), of("karaganda"));
    let witness = |name: &str, log: &LogKey| {
        Witness::start_as(&format!("{name}.example/1"), &dir.path().join(format!("{name}-witness")), log, &[])
    };
    let of_astana = witness("astana", &karaganda.1.log);
    let of_karaganda = witness("karaganda", &astana.1.log);
    let any = "127.0.0.1:0".parse().unwrap();
    let sites = [(astana, &of_karaganda), (karaganda, &of_astana)];
    let mut servers = Vec::new();
    for ((data, identity), witness) in &sites {
        let server = ServerProcess::start_with(data, any, &witness.config()).unwrap();
        let session = Session::open(&endpoint(), server.quic, identity).await.unwrap();
        let mut chain = Chain::new(identity.id, 1_700_000_000_000_000);
        let index = session.send(&chain.start(&identity.signing)).await.unwrap().receipt().log_index;
        servers.push((server, index));
    }
    for ((server, index), ((_, identity), witness)) in servers.iter().zip(&sites) {
        cosigned(server, &identity.log, &witness.key, index + 1).await;
    }
    for (server, _) in servers {
        assert!(server.terminate().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_speaks_https_and_goes_on_under_a_new_key() {
    let dir = tempfile::tempdir().unwrap();
    let (data, memory) = (dir.path().join("data"), dir.path().join("witness"));
    std::fs::create_dir_all(&data).unwrap();
    let identity = Identity::enrol(&data, &dir.path().join("device"));
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let strange = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let [pem, key, other] = ["tls.pem", "tls.key", "other.pem"].map(|name| dir.path().join(name));
    std::fs::write(&pem, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    std::fs::write(&other, strange.cert.pem()).unwrap();
    let more = [Path::new("--certificate"), &pem, Path::new("--key"), &key];
    let witness = Witness::start_as("witness.example/1", &memory, &identity.log, &more);
    assert!(witness.url.starts_with("https://"), "{}", witness.url);
    let any = "127.0.0.1:0".parse().unwrap();
    let believing = |witness: &Witness, ca: &Path| format!("{}ca = \"{}\"\n", witness.config(), ca.display());

    let server = ServerProcess::start_with(&data, any, &believing(&witness, &other)).unwrap();
    let start = Instant::now();
    while get(server.ops, "/metrics").await.contains("aigaq_witness_cosignatures_total{result=\"unreachable\"} 0") {
        assert!(start.elapsed() < PATIENCE, "a server with another certificate is not believed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(server.terminate().success());

    let server = ServerProcess::start_with(&data, any, &believing(&witness, &pem)).unwrap();
    let session = Session::open(&endpoint(), server.quic, &identity).await.unwrap();
    let mut chain = Chain::new(identity.id, 1_700_000_000_000_000);
    let index = session.send(&chain.start(&identity.signing)).await.unwrap().receipt().log_index;
    cosigned(&server, &identity.log, &witness.key, index + 1).await;
    assert!(server.terminate().success());
    let old = witness.key.clone();
    drop(witness);

    std::fs::rename(memory.join("witness.key"), dir.path().join("retired.key")).unwrap();
    let witness = Witness::start_as("witness.example/2", &memory, &identity.log, &more);
    let server = ServerProcess::start_with(&data, any, &believing(&witness, &pem)).unwrap();
    let session = Session::open(&endpoint(), server.quic, &identity).await.unwrap();
    let link = chain.media(&identity.signing, Bytes::from_static(b"footage"));
    let index = session.send(&link).await.unwrap().receipt().log_index;
    let text = cosigned(&server, &identity.log, &witness.key, index + 1).await;
    assert!(old.cosigned_at(&text).is_none(), "{text}");
    assert!(server.terminate().success());
}
