//! Backups with real processes: taken under load, killed in the middle, checked where they lie, put back, and gone on from.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aigaq::backup::{Backup, DIRECTORIES, FILES, LEFT_OUT};
use aigaq::store::{Settings, Store};
use aigaq_proto::cosignature::WitnessKey;
use aigaq_proto::message::Receipt;
use aigaq_proto::receipt::LogKey;
use aigaq_proto::succession;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use support::Identity;
use support::chain::{Chain, Link};
use support::process::{AIGAQ, ServerProcess, aigaq};
use support::session::{Answer, Session, endpoint};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// 2026-01-17T09:14:02Z.
const AT: u64 = 1_768_641_242_000_000;
const RANGE: &str = "2026-01-17T09:14:00Z/2026-01-17T09:15:00Z";

/// A data directory with a recorder, where its backups go, and the mirror of its keys.
struct Site {
    home: TempDir,
    runtime: Runtime,
    identity: Identity,
    chain: Chain,
}

impl Site {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let identity = Identity::enrol(&home.path().join("data"), &home.path().join("recorder"));
        let chain = Chain::new(identity.id, AT);
        Self { home, runtime, identity, chain }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn serve(&self, data: &str) -> Result<ServerProcess, String> {
        ServerProcess::start(&self.path(data))
    }

    fn next(&mut self, payload: &[u8]) -> Link {
        match self.chain.next_sequence() {
            0 => self.chain.start(&self.identity.signing),
            _ => self.chain.media(&self.identity.signing, Bytes::copy_from_slice(payload)),
        }
    }

    /// Sends these links over one connection.
    fn send(&self, server: SocketAddr, links: &[Link]) -> Vec<Receipt> {
        self.runtime.block_on(async {
            let session = Session::open(&endpoint(), server, &self.identity).await.unwrap();
            let mut receipts = Vec::new();
            for link in links {
                receipts.push(session.send(link).await.unwrap().receipt());
            }
            receipts
        })
    }

    /// A server that took in `count` links and stopped.
    fn filled(&mut self, count: usize, bytes: usize) -> Vec<Receipt> {
        let server = self.serve("data").unwrap();
        let payload = vec![7; bytes];
        let links: Vec<Link> = (0..count).map(|_| self.next(&payload)).collect();
        let receipts = self.send(server.quic, &links);
        assert!(server.terminate().success());
        receipts
    }

    fn backup(&self, more: &[&str]) -> (ExitStatus, String, String) {
        let (data, keys, to) = (self.text("data"), self.text("mirror"), self.text("backups"));
        aigaq(&[&["backup", "--data", &data, "--keys", &keys, &to], more].concat())
    }

    fn backed_up(&self) -> PathBuf {
        let (status, out, err) = self.backup(&[]);
        assert!(status.success(), "{out}\n{err}");
        out.lines().next().unwrap().split_whitespace().last().unwrap().into()
    }

    fn restore(&self, from: &Path, data: &str) -> (ExitStatus, String, String) {
        let (from, data, keys) = (from.display().to_string(), self.text(data), self.text("mirror"));
        let master = self.text("data/keys/master.key");
        aigaq(&["restore", &from, "--data", &data, "--keys", &keys, "--master-key", &master])
    }

    /// Destroys the key of the recorder: one asks, another one confirms.
    fn destroy_key(&self) {
        let data = self.text("data");
        let (_, out, _) = aigaq(&["retention", "--data", &data, "--dry-run", "--day", "2200-01-01"]);
        let day = out.split("last day ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let recorder = self.identity.id.to_string();
        let server = self.serve("data").unwrap();
        self.runtime.block_on(async {
            let body = serde_json::json!({ "recorder": recorder, "day": day, "reason": "order 17/26" });
            let asked = reqwest::Client::new().post(format!("http://{}/v1/destructions", server.api));
            let asked = asked.bearer_auth(server.token()).json(&body).send().await.unwrap();
            assert_eq!(asked.status(), 202, "{}", asked.text().await.unwrap());
        });
        assert!(server.terminate().success());
        let destroy = ["keys", "destroy", "--data", &data, "--recorder", &recorder, "--day", &day, "--reason", "x"];
        let (status, out, err) = aigaq(&destroy);
        assert!(status.success(), "{out}{err}");
    }

    /// Ends the log of a data directory; the key that goes on.
    fn succeed(&self, data: &str) -> LogKey {
        let (status, out, err) = aigaq(&["log", "succeed", "--data", &self.text(data), "--reason", "the disk died"]);
        assert!(status.success(), "{out}\n{err}");
        let key = out.lines().find_map(|line| line.strip_prefix("successor")).unwrap();
        LogKey::parse(key.trim()).unwrap()
    }

    async fn opens(&self, server: &ServerProcess) -> bool {
        let endpoint = endpoint();
        let opened = Session::open(&endpoint, server.quic, &self.identity);
        matches!(tokio::time::timeout(Duration::from_millis(500), opened).await, Ok(Ok(_)))
    }

    fn get(&self, url: String) -> String {
        self.runtime.block_on(async { reqwest::get(url).await.unwrap().text().await.unwrap() })
    }

    fn get_json(&self, server: &ServerProcess, path: &str) -> serde_json::Value {
        self.runtime.block_on(async {
            let request = reqwest::Client::new().get(format!("http://{}{path}", server.api));
            request.bearer_auth(server.token()).send().await.unwrap().json().await.unwrap()
        })
    }

    fn restored(&self, from: &Path, data: &str) -> String {
        let (status, out, err) = self.restore(from, data);
        assert!(status.success(), "{out}\n{err}");
        out
    }

    /// Status and body of a segment.
    fn look(&self, server: &ServerProcess, sequence: u64) -> (u16, Vec<u8>) {
        let url = format!("http://{}/v1/recorders/{}/hls/{RANGE}/seg-{sequence}.m4s", server.api, self.identity.id);
        self.runtime.block_on(async {
            let answer = reqwest::Client::new().get(url).bearer_auth(server.token()).send().await.unwrap();
            (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
        })
    }
}

fn check(arguments: &[&str]) -> (ExitStatus, String) {
    let (status, out, err) = aigaq(&[&["check"], arguments].concat());
    (status, format!("{out}\n{err}"))
}

/// What was promised is there, and is what was sent.
fn is_all_there(data: &Path, receipts: &[Receipt], recorder: aigaq_proto::RecorderId) {
    let store = Store::open(&data.join("store"), &Settings::default()).unwrap();
    for receipt in receipts {
        let link = store.link(recorder, receipt.sequence).unwrap();
        let link = link.unwrap_or_else(|| panic!("sequence {} is not there", receipt.sequence));
        assert_eq!(aigaq_proto::link::digest(&link.header), receipt.digest);
        assert_eq!((link.log_index, link.received_at), (receipt.log_index, receipt.received_at));
        store.body(&link).unwrap();
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // What goes while it is looked at is not there.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy_tree(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Recorders that send until they are told to stop; each receipt as it comes, and each link that was sent.
async fn load(identity: Identity, server: SocketAddr, given: Arc<Mutex<Vec<(Link, Receipt)>>>, stop: Arc<AtomicBool>) {
    let mut random = StdRng::seed_from_u64(u64::from(identity.id.0[0]));
    let mut chain = Chain::new(identity.id, AT);
    let session = Session::open(&endpoint(), server, &identity).await.unwrap();
    let mut link = chain.start(&identity.signing);
    while !stop.load(Ordering::Relaxed) {
        match session.send(&link).await {
            Ok(Answer::Receipt(receipt)) => given.lock().unwrap().push((link, *receipt)),
            Ok(Answer::Refusal(refusal)) => panic!("a good link was refused: {refusal:?}"),
            Err(_) => return,
        }
        // Small ones, and ones that make a commit large enough to be ingested as a file.
        let bytes = if random.random_ratio(1, 8) { 9 << 20 } else { random.random_range(1..60_000) };
        let mut payload = vec![0; bytes];
        random.fill_bytes(&mut payload);
        link = chain.media(&identity.signing, Bytes::from(payload));
    }
}

#[test]
fn what_had_its_receipt_before_a_backup_under_load_is_there_after_a_kill_and_the_rest_comes_again() {
    let site = Site::new();
    let server = site.serve("data").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut recorders = Vec::new();
    for name in ["one", "two", "three"] {
        let identity = Identity::enrol(&site.path("data"), &site.path(name));
        let again = Identity::load(&site.path(name));
        let given = Arc::new(Mutex::new(Vec::new()));
        let sending = site.runtime.spawn(load(identity, server.quic, Arc::clone(&given), Arc::clone(&stop)));
        recorders.push((again, given, sending));
    }
    let count = || recorders.iter().map(|(_, given, _)| given.lock().unwrap().len()).sum::<usize>();
    let until = |least: usize| {
        let begun = Instant::now();
        while count() < least {
            assert!(begun.elapsed() < PATIENCE, "the load is no load");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let mut backups = Vec::new();
    for _ in 0..3 {
        until(count() + 10);
        let before: Vec<usize> = recorders.iter().map(|(_, given, _)| given.lock().unwrap().len()).collect();
        backups.push((site.backed_up(), before));
    }
    until(count() + 10);
    server.kill();
    stop.store(true, Ordering::Relaxed);
    let mut given = Vec::new();
    for (identity, links, sending) in recorders {
        site.runtime.block_on(sending).unwrap();
        given.push((identity, std::mem::take(&mut *links.lock().unwrap())));
    }

    for (round, (backup, before)) in backups.iter().enumerate() {
        let (status, said) = check(&["--backup", backup.to_str().unwrap()]);
        assert!(status.success(), "{said}");
        let data = format!("restored-{round}");
        site.restored(backup, &data);
        let (status, said) = check(&["--data", &site.text(&data)]);
        assert!(status.success(), "{said}");
        for ((identity, links), before) in given.iter().zip(before) {
            let receipts: Vec<Receipt> = links[..*before].iter().map(|(_, receipt)| receipt.clone()).collect();
            is_all_there(&site.path(&data), &receipts, identity.id);
        }
    }

    let server = site.serve("restored-2").unwrap();
    assert!(!site.runtime.block_on(site.opens(&server)), "it signs a second history");
    assert!(server.terminate().success());
    let key = site.succeed("restored-2");
    let server = site.serve("restored-2").unwrap();
    let mut again = 0;
    for (identity, links) in &mut given {
        identity.log = key.clone();
        site.runtime.block_on(async {
            let session = Session::open(&endpoint(), server.quic, identity).await.unwrap();
            let durable = session.welcome.durable.clone();
            let has = |at: u64| durable.iter().any(|range| (range.first..=range.last).contains(&at));
            for (link, _) in links.iter().filter(|(link, _)| !has(link.header.sequence)) {
                session.send(link).await.unwrap().receipt();
                again += 1;
            }
        });
    }
    assert!(again > 0, "the backup had everything");
    assert!(server.terminate().success());
    let (status, said) = check(&["--data", &site.text("restored-2")]);
    assert!(status.success() && said.contains("(0 missing, 0 breaks)"), "{said}");
    assert!(said.contains("successions   1"), "{said}");
}

#[test]
fn two_backups_in_one_place_share_what_is_the_same_and_each_is_whole_by_itself() {
    let mut site = Site::new();
    site.filled(40, 300_000);
    let first = site.backed_up();
    site.filled(3, 300_000);
    let second = site.backed_up();
    let of = |backup: &Path| -> BTreeMap<String, u64> {
        let files = files(&backup.join("store")).into_iter();
        let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "sst"));
        files.map(|path| (path.display().to_string(), fs::metadata(path).unwrap().ino())).collect()
    };
    let shared = of(&first).into_values().filter(|inode| of(&second).values().any(|one| one == inode)).count();
    assert!(shared > 0, "everything was copied again");
    let sums = |backup: &Path| {
        Command::new("sha256sum").args(["--quiet", "-c", "SHA256SUMS"]).current_dir(backup).status().unwrap().success()
    };
    assert!(sums(&first) && sums(&second));
    fs::remove_dir_all(&first).unwrap();
    assert!(sums(&second));
    site.restored(&site.path("backups"), "restored");
    let (status, said) = check(&["--data", &site.text("restored")]);
    assert!(status.success() && said.contains("links         43"), "{said}");

    let (status, out, err) = site.backup(&["--keep", "2"]);
    assert!(status.success(), "{out}{err}");
    // What others have there is not its own: neither older, nor unfinished.
    let (other, film) = (site.path("backups/2020-01-01T00-00-00.000000Z"), site.path("backups/film.partial"));
    let mut elsewhere = Site::new();
    elsewhere.filled(1, 10);
    copy_tree(&elsewhere.backed_up(), &other);
    fs::create_dir(&film).unwrap();
    let (status, out, _) = site.backup(&["--keep", "2"]);
    assert!(status.success() && out.contains("removed       1 older"), "{out}");
    assert!(other.exists() && film.exists());
    let kept = fs::read_dir(site.path("backups")).unwrap();
    let kept = kept.filter(|one| one.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(kept, 4);
}

#[test]
fn a_file_that_has_gone_bad_in_one_backup_is_named_and_not_in_the_next() {
    let mut site = Site::new();
    site.filled(10, 300_000);
    let first = site.backed_up();
    let largest = |backup: &Path| {
        let files = files(&backup.join("store")).into_iter();
        let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "sst"));
        files.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    };
    let bad = largest(&first);
    let mut bytes = fs::read(&bad).unwrap();
    assert!(bytes.len() > 200_000, "its end does not tell it");
    bytes[100] ^= 1;
    fs::write(&bad, bytes).unwrap();
    let (status, out, err) = site.backup(&[]);
    assert!(status.success() && out.contains(&format!("damaged       {}", bad.display())), "{out}{err}");
    let (status, said) = check(&["--backup", &site.text("backups")]);
    assert!(status.success(), "{said}");
    let (status, out, _) = site.backup(&[]);
    assert!(status.success() && !out.contains("damaged"), "{out}");
}

#[test]
fn a_bit_that_flips_anywhere_in_a_backup_is_found() {
    let mut site = Site::new();
    site.filled(4, 20_000);
    let backup = site.backed_up();
    let mut random = StdRng::seed_from_u64(4);
    let problems = || {
        let backup = Backup::find(&backup)?;
        backup.verify(&mut |_| {}).map(|seen| seen.problems)
    };
    assert_eq!(problems().unwrap(), 0);
    let mut flips = 0;
    for path in files(&backup) {
        let good = fs::read(&path).unwrap();
        if good.is_empty() {
            continue;
        }
        for _ in 0..3 {
            let mut bad = good.clone();
            let bit = random.random_range(0..bad.len() * 8);
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            assert!(!problems().is_ok_and(|problems| problems == 0), "bit {bit} of {}", path.display());
            flips += 1;
        }
        fs::write(&path, &good).unwrap();
    }
    assert!(flips > 30, "{flips}");
    let body = files(&backup.join("store")).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let good = fs::read(&body).unwrap();
    fs::write(&body, &good[..good.len() - 1]).unwrap();
    let (status, said) = check(&["--backup", &site.text("backups")]);
    assert!(!status.success() && said.contains("not those that were copied"), "{said}");
    let (status, _, err) = site.restore(&backup, "restored");
    assert!(!status.success() && err.contains("is not what was copied"), "{err}");
    let refused = site.serve("restored").map(|_| ()).unwrap_err();
    assert!(refused.contains("cut off"), "{refused}");
    fs::write(&body, &good).unwrap();
    fs::write(backup.join("store/stranger"), b"x").unwrap();
    assert_eq!(problems().unwrap(), 1, "a file that nobody copied");
}

#[test]
fn a_backup_without_keys_is_checked_as_far_as_it_goes_and_with_the_mirror_to_the_end() {
    let mut site = Site::new();
    site.filled(6, 20_000);
    let backup = site.backed_up();
    assert!(!files(&backup).iter().chain(&files(&site.path("mirror"))).any(|path| path.ends_with("master.key")));
    let days = files(&site.path("mirror")).into_iter().filter(|path| path.extension().is_some_and(|end| end == "keys"));
    let days: Vec<_> = days.filter_map(|path| Some(path.file_name()?.to_owned())).collect();
    assert!(!days.is_empty());
    assert!(!files(&backup).iter().any(|path| path.file_name().is_some_and(|name| days.iter().any(|day| day == name))));
    let (status, said) = check(&["--backup", backup.to_str().unwrap()]);
    assert!(status.success() && said.contains("unopened      5 sealed bodies"), "{said}");
    let (mirror, master) = (site.text("mirror"), site.text("data/keys/master.key"));
    let (status, said) = check(&["--backup", backup.to_str().unwrap(), "--keys", &mirror, "--master-key", &master]);
    assert!(status.success() && !said.contains("unopened"), "{said}");
    assert!(said.contains("keys          1 of "), "{said}");
}

#[test]
fn a_restore_takes_an_empty_directory_and_a_whole_backup_alone() {
    let mut site = Site::new();
    site.filled(4, 20_000);
    let backup = site.backed_up();
    fs::create_dir(site.path("full")).unwrap();
    fs::write(site.path("full/mine"), b"mine").unwrap();
    let (status, _, err) = site.restore(&backup, "full");
    assert!(!status.success() && err.contains("is not empty"), "{err}");
    assert_eq!(files(&site.path("full")), [site.path("full/mine")], "nothing is left beside it");
    for damage in ["a file is missing", "the list is cut", "the list is gone"] {
        let (bad, data) = (site.path("bad"), site.path("none"));
        copy_tree(&backup, &bad);
        match damage {
            "a file is missing" => fs::remove_file(bad.join("store/CURRENT")).unwrap(),
            "the list is cut" => {
                let sums = fs::read_to_string(bad.join("SHA256SUMS")).unwrap();
                let cut: Vec<&str> = sums.lines().skip(1).collect();
                fs::write(bad.join("SHA256SUMS"), cut.join("\n")).unwrap();
            }
            _ => fs::remove_file(bad.join("SHA256SUMS")).unwrap(),
        }
        let (status, _, err) = site.restore(&bad, "none");
        assert!(!status.success(), "{damage}");
        assert_eq!(err.lines().count(), 1, "{damage}: {err}");
        assert!(!data.join("store").exists(), "{damage}");
        fs::remove_dir_all(bad).unwrap();
    }
    let (status, _, err) = site.restore(&site.path("mirror"), "none");
    assert!(!status.success() && err.contains("no backup in"), "{err}");
    site.restored(&backup, "none");
}

#[test]
fn a_key_that_is_destroyed_after_the_backup_stays_destroyed_with_it() {
    let mut site = Site::new();
    site.filled(4, 20_000);
    let backup = site.backed_up();
    site.destroy_key();
    let (status, out, err) = site.backup(&[]);
    assert!(status.success() && out.contains("1 keys"), "the mirror follows: {out}{err}");

    let out = site.restored(&backup, "restored");
    assert!(out.contains("1 keys destroyed since the backup"), "{out}");
    let (status, said) = check(&["--data", &site.text("restored")]);
    assert!(status.success() && said.contains("3 destroyed"), "{said}");
    let server = site.serve("restored").unwrap();
    let (status, body) = site.look(&server, 1);
    assert!(!(200..300).contains(&status), "{status}");
    assert!(!body.windows(8).any(|window| window == [7; 8]), "footage is read whose key was destroyed");
    assert!(server.terminate().success());
}

#[test]
fn a_destroyed_key_does_not_come_back_from_a_mirror_that_has_not_followed() {
    let mut site = Site::new();
    site.filled(4, 20_000);
    let before = site.backed_up();
    let id = site.identity.id.0;
    let has_key = |keys: &str| {
        let days = files(&site.path(keys)).into_iter().filter(|path| path.extension().is_some_and(|end| end == "keys"));
        days.map(|path| fs::read(path).unwrap()).any(|bytes| bytes.windows(16).any(|window| window == id))
    };
    copy_tree(&site.path("mirror"), &site.path("behind"));
    site.destroy_key();
    let after = site.backed_up();
    assert!(!has_key("mirror") && has_key("behind"));
    // Behind the backup; and told of a destruction that its files have not followed.
    for (backup, told) in [(&after, "behind/mirror.json"), (&before, "mirror/mirror.json")] {
        let told = fs::read(site.path(told)).unwrap();
        fs::write(site.path("behind/mirror.json"), told).unwrap();
        let (from, to) = (backup.display().to_string(), site.text("restored"));
        let (keys, master) = (site.text("behind"), site.text("data/keys/master.key"));
        let (status, out, err) = aigaq(&["restore", &from, "--data", &to, "--keys", &keys, "--master-key", &master]);
        assert!(status.success(), "{out}{err}");
        assert!(site.serve("restored").unwrap().terminate().success());
        assert!(!has_key("restored/keys"), "a key is back that was destroyed");
        fs::remove_dir_all(site.path("restored")).unwrap();
    }
}

#[test]
fn keys_that_are_gone_or_not_its_own_never_empty_the_mirror() {
    let mut site = Site::new();
    site.filled(3, 20_000);
    site.backed_up();
    let kept = files(&site.path("mirror"));
    assert!(kept.iter().any(|path| path.extension().is_some_and(|extension| extension == "keys")));
    let keys = site.path("data/keys");
    fs::rename(&keys, site.path("aside")).unwrap();
    fs::create_dir(&keys).unwrap();
    let (status, _, err) = site.backup(&["--keep", "1"]);
    let whole = fs::read_dir(site.path("backups")).unwrap().filter(|one| one.as_ref().unwrap().path().is_dir());
    assert_eq!(whole.count(), 2, "older ones go last");
    assert!(!status.success() && err.contains("are not there, and that day is not over"), "{err}");
    assert!(err.contains("is whole, but the mirror"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert_eq!(files(&site.path("mirror")), kept);
    // A master key is made anew where there is none, and with it other keys of the same days.
    fs::remove_dir(&keys).unwrap();
    fs::create_dir(&keys).unwrap();
    site.filled(1, 20_000);
    let (status, _, err) = site.backup(&[]);
    assert!(!status.success() && err.contains("are other keys"), "{err}");
    assert_eq!(files(&site.path("mirror")), kept);

    let mut other = Site::new();
    other.filled(2, 10_000);
    let (to, mirror) = (site.text("backups"), site.text("mirror"));
    let (status, _, err) = aigaq(&["backup", "--data", &other.text("data"), &to]);
    assert!(!status.success() && err.contains("backups of another server"), "{err}");
    let elsewhere = other.text("backups");
    let (status, _, err) = aigaq(&["backup", "--data", &other.text("data"), "--keys", &mirror, &elsewhere]);
    assert!(!status.success() && err.contains("another server's keys"), "{err}");
    assert_eq!(files(&site.path("mirror")), kept);
}

/// `aigaq` in the background.
fn begun(arguments: &[&str]) -> Child {
    Command::new(AIGAQ).args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_backup_that_is_killed_is_none_and_leaves_nothing_in_the_way_of_the_next() {
    let mut site = Site::new();
    site.filled(30, 300_000);
    let server = site.serve("data").unwrap();
    let snapshot = site.path("data/store/snapshot");
    let (data, to) = (site.text("data"), site.text("backups"));
    let slowly = ["backup", "--data", &data, "--rate", "1", &to];
    let mut backup = begun(&slowly);
    wait_for("it copies", || snapshot.exists() && site.path("backups/new.partial/store").exists());
    let (status, _, err) = aigaq(&["backup", "--data", &data, &site.text("elsewhere")]);
    assert!(!status.success() && err.contains("another backup is being taken"), "{err}");
    backup.kill().unwrap();
    backup.wait().unwrap();
    wait_for("the snapshot goes with whoever asked for it", || !snapshot.exists());
    let (status, said) = check(&["--backup", &to]);
    assert!(!status.success() && said.contains("no backup in"), "{said}");

    let mut backup = begun(&slowly);
    wait_for("it copies again", || snapshot.exists());
    server.kill();
    let ended = backup.wait().unwrap();
    assert!(!ended.success(), "the server went, and the backup is none");
    assert!(snapshot.exists(), "nobody was left to take it away");
    let server = site.serve("data").unwrap();
    assert!(!snapshot.exists());
    site.backed_up();
    assert!(!site.path("backups/new.partial").exists());
    assert!(server.terminate().success());
    let (status, said) = check(&["--backup", &to]);
    assert!(status.success() && said.contains("links         30"), "{said}");
}

#[test]
fn a_restore_that_is_killed_leaves_nothing_that_a_server_starts_on_and_goes_on() {
    let mut site = Site::new();
    let receipts = site.filled(60, 500_000);
    let backup = site.backed_up();
    let (from, data, keys) = (backup.display().to_string(), site.text("restored"), site.text("mirror"));
    let master = site.text("data/keys/master.key");
    let arguments = ["restore", &from, "--data", &data, "--keys", &keys, "--master-key", &master];
    let mark = site.path("restored/restore.unfinished");
    let mut cut_off = 0;
    for files_wanted in [1, 8, 20] {
        let mut restore = begun(&arguments);
        wait_for("it begins", || {
            restore.try_wait().unwrap().is_some() || mark.exists() && files(&site.path("restored")).len() > files_wanted
        });
        let _ = restore.kill();
        restore.wait().unwrap();
        if mark.exists() {
            cut_off += 1;
            let refused = site.serve("restored").map(|_| ()).unwrap_err();
            assert!(refused.contains("was cut off"), "{refused}");
            let (status, said) = check(&["--data", &data]);
            assert!(!status.success() && said.contains("was cut off"), "{said}");
        } else {
            fs::remove_dir_all(site.path("restored")).unwrap();
        }
    }
    assert!(cut_off > 0, "it was never cut off in the middle");
    // What the refused server left beside the mark goes too.
    site.restored(&backup, "restored");
    assert!(!mark.exists());
    is_all_there(&site.path("restored"), &receipts, site.identity.id);
}

#[test]
fn a_restore_says_who_is_back_and_ends_what_was_signed_in() {
    let mut site = Site::new();
    site.filled(2, 1_000);
    let server = site.serve("data").unwrap();
    let token = server.token();
    let backup = site.backed_up();
    let last = site.runtime.block_on(async {
        let url = format!("http://{}/metrics", server.ops);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    });
    let last = last.lines().find_map(|line| line.strip_prefix("aigaq_last_backup_seconds ")).unwrap().to_owned();
    assert!(last.parse::<f64>().unwrap() > 1.7e9, "{last}");
    assert!(server.terminate().success());
    let out = site.restored(&backup, "restored");
    assert!(out.contains("sessions      1 ended"), "{out}");
    assert!(out.contains("client:tests (operator, supervisor"), "{out}");
    assert!(out.contains("recorders     1 may connect"), "{out}");
    let server = site.serve("restored").unwrap();
    let status = site.runtime.block_on(async {
        let url = format!("http://{}/v1/recorders", server.api);
        reqwest::Client::new().get(url).bearer_auth(token).send().await.unwrap().status().as_u16()
    });
    assert_eq!(status, 401, "a session outlived the server");
    let trail = site.runtime.block_on(async {
        let url = format!("http://{}/v1/audit?event=restore", server.api);
        reqwest::Client::new().get(url).bearer_auth(server.token()).send().await.unwrap().text().await.unwrap()
    });
    assert!(trail.contains("put back the backup of"), "{trail}");
}

#[test]
fn everything_in_a_data_directory_is_backed_up_or_left_out_on_purpose() {
    let manual = include_str!("../deploy/README.md");
    let table = manual.split("## The data directory").nth(1).unwrap().split("\n## ").next().unwrap();
    let names = table.lines().filter_map(|line| line.strip_prefix("| `")).flat_map(|line| {
        let first = line.split(" | ").next().unwrap();
        first.split(", ").map(|name| name.trim_matches('`').trim_end_matches('/').to_owned()).collect::<Vec<_>>()
    });
    for name in names.filter(|name| name != "store") {
        let name = name.as_str();
        let known = FILES.contains(&name) || DIRECTORIES.contains(&name) || LEFT_OUT.contains(&name);
        assert!(known, "nobody has decided whether {name} belongs into a backup");
    }
    let mut site = Site::new();
    site.filled(1, 10);
    for entry in fs::read_dir(site.path("data")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let known = [&FILES[..], &DIRECTORIES, &LEFT_OUT, &["store", "test.toml", "test.log"]].concat();
        let known = known.contains(&name.as_str()) || name.ends_with(".lock");
        assert!(known, "nobody has decided whether {name} belongs into a backup");
    }
}

/// `aigaq witness` for these logs. Killed when dropped.
struct Witness {
    child: Child,
    key: WitnessKey,
    config: String,
}

impl Witness {
    fn start(dir: &Path, logs: &[&LogKey]) -> Self {
        let mut command = Command::new(AIGAQ);
        command.args(["witness", "--listen", "127.0.0.1:0", "--name", "witness.example/1", "--dir"]).arg(dir);
        for log in logs {
            command.args(["--log", log.as_str()]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(2);
        let lines: Vec<String> =
            lines.map(|line| line.unwrap().split_whitespace().last().unwrap().to_owned()).collect();
        let config = format!("[witness]\nwitnesses = \"{} {}\"\n", lines[1], lines[0]);
        Self { child, key: WitnessKey::parse(&lines[0]).unwrap(), config }
    }

    /// Waits until the published checkpoint has so many entries and is cosigned.
    fn has_seen(&self, site: &Site, server: &ServerProcess, log: &LogKey, size: u64) {
        wait_for("it is cosigned", || {
            let text = site.get(format!("http://{}/v1/log/checkpoint", server.api));
            self.key.cosigned_at(&text).is_some() && log.open(&text).is_ok_and(|(seen, _)| seen >= size)
        });
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_witnessed_server_that_was_put_back_takes_nothing_in_until_its_log_has_a_successor() {
    let mut site = Site::new();
    let old = site.identity.log.clone();
    let witness = Witness::start(&site.path("witness"), &[&old]);
    let any = "127.0.0.1:0".parse().unwrap();
    let server = ServerProcess::start_with(&site.path("data"), any, &witness.config).unwrap();
    let links: Vec<Link> = (0..6).map(|_| site.next(&[7; 5_000])).collect();
    let first = site.send(server.quic, &links[..2]);
    let running = site.backed_up();
    assert!(server.terminate().success());
    let backup = site.backed_up();
    let server = ServerProcess::start_with(&site.path("data"), any, &witness.config).unwrap();
    let lost = site.send(server.quic, &links[2..4]);
    witness.has_seen(&site, &server, &old, lost[1].log_index + 1);
    server.kill();
    // Of a running server the log has always gone on.
    site.restored(&running, "running");
    let (status, _, err) = aigaq(&["log", "resume", "--data", &site.text("running"), "--reason", "a guess"]);
    assert!(!status.success() && err.contains("of a running server"), "{err}");
    site.restored(&backup, "restored");
    let (restored, refused) = (site.path("restored"), |server: ServerProcess, why: &str| {
        assert!(!site.runtime.block_on(site.opens(&server)), "{why}");
        assert!(site.get(format!("http://{}/metrics", server.ops)).contains("aigaq_log_contradicted 1"), "{why}");
        assert_eq!(site.get(format!("http://{}/readyz", server.ops)), "not ready\n", "{why}");
        assert!(server.terminate().success());
        let said = fs::read_to_string(site.path("restored/test.log")).unwrap();
        assert!(said.contains(why), "{said}");
    });
    let start = |config: &str| ServerProcess::start_with(&restored, any, config).unwrap();
    refused(start(""), "was put back from a backup");
    // Whoever says that nothing is lost where something is, is found out.
    let (status, out, err) = aigaq(&["log", "resume", "--data", restored.to_str().unwrap(), "--reason", "a guess"]);
    assert!(status.success(), "{out}{err}");
    refused(start(&witness.config), "witness witness.example/1 shows");

    let next = site.succeed("restored");
    assert_ne!(next, old);
    // Of one log that ends in two copies the successors are two logs.
    let other = site.succeed("running");
    assert_ne!(other.origin(), next.origin());
    let (status, said) = check(&["--data", restored.to_str().unwrap()]);
    assert!(status.success() && said.contains("successions   1"), "{said}");
    drop(witness);
    let witness = Witness::start(&site.path("witness"), &[&old, &next]);
    let server = start(&witness.config);
    let notes = site.get(format!("http://{}/v1/log/succession", server.api));
    assert_eq!(succession::follow(&notes, &old).unwrap(), next);
    site.identity.log = next.clone();
    // What was sent before and after the backup: the one is there, the other comes again, each under the new key.
    let again = site.send(server.quic, &links);
    assert_eq!(
        again[..2].iter().map(|one| one.log_index).collect::<Vec<_>>(),
        [first[0].log_index, first[1].log_index]
    );
    assert!(again.iter().zip(&first).all(|(again, first)| again.checkpoint != first.checkpoint));
    witness.has_seen(&site, &server, &next, again[5].log_index + 1);
    assert!(server.terminate().success());
    let (status, said) = check(&["--data", restored.to_str().unwrap()]);
    assert!(status.success() && said.contains("links         6 (0 missing"), "{said}");

    // A second end follows from the first.
    let third = site.succeed("restored");
    let server = start("");
    let notes = site.get(format!("http://{}/v1/log/succession", server.api));
    assert_eq!((succession::read(&notes).unwrap().len(), succession::follow(&notes, &old).unwrap()), (2, third));
    assert!(server.terminate().success());
}

#[test]
fn a_succession_of_a_restored_store_that_is_cut_off_before_the_store_knows_ends_the_log_once() {
    let mut site = Site::new();
    site.filled(2, 1_000);
    site.restored(&site.backed_up(), "restored");
    let store = site.path("store");
    copy_tree(&site.path("restored/store"), &store);
    let next = site.succeed("restored");
    fs::remove_dir_all(site.path("restored/store")).unwrap();
    fs::rename(store, site.path("restored/store")).unwrap();
    assert_eq!(site.succeed("restored"), next);
    assert!(site.serve("restored").unwrap().terminate().success());
    let (status, said) = check(&["--data", &site.text("restored")]);
    assert!(status.success() && said.contains("successions   1"), "{said}");
    assert_ne!(site.succeed("restored"), next, "it was said: another end is another one");
}

#[test]
fn a_succession_that_is_cut_off_anywhere_goes_on_and_no_server_starts_in_between() {
    let mut site = Site::new();
    site.filled(3, 1_000);
    let before = site.text("before");
    copy_tree(&site.path("data"), Path::new(&before));
    let next = site.succeed("data");
    let cut = site.path("cut");
    copy_tree(&site.path("data"), &cut);
    // As it is when the statement is durable and nothing else has happened.
    fs::rename(cut.join("log.key"), cut.join("log.key.next")).unwrap();
    for name in ["log.key", "checkpoint"] {
        fs::copy(Path::new(&before).join(name), cut.join(name)).unwrap();
    }
    let refused = site.serve("cut").map(|_| ()).unwrap_err();
    assert!(refused.contains("run aigaq log succeed again"), "{refused}");
    let (status, _, err) = aigaq(&["backup", "--data", cut.to_str().unwrap(), &site.text("none")]);
    assert!(!status.success() && err.contains("run aigaq log succeed again"), "{err}");
    assert_eq!(site.succeed("cut"), next);
    let server = site.serve("cut").unwrap();
    assert_eq!(site.get(format!("http://{}/v1/log/key", server.api)).trim(), next.as_str());
    assert!(server.terminate().success());
    let (status, said) = check(&["--data", cut.to_str().unwrap()]);
    assert!(status.success(), "{said}");
    let mut notes = fs::read(cut.join("succession")).unwrap();
    notes[40] ^= 1;
    fs::write(cut.join("succession"), notes).unwrap();
    let (status, said) = check(&["--data", cut.to_str().unwrap()]);
    assert!(!status.success() && said.contains("succession"), "{said}");
}

/// The demo clip, recorded by the real recorder; where its time begins.
fn record(site: &Site, server: &ServerProcess, start: &str) -> String {
    let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/clip/clip.mp4");
    let (identity, address) = (site.text("recorder"), server.quic.to_string());
    let (status, out, err) =
        aigaq(&["record", "--identity", &identity, "--server", &address, "--fast", "--start", start, clip]);
    assert!(status.success(), "{out}\n{err}");
    assert!(out.contains("0 links lost"), "{out}");
    out
}

#[test]
fn links_above_the_receipt_that_is_shown_after_a_restore_are_named_as_lost_with_it_too() {
    let mut site = Site::new();
    let server = site.serve("data").unwrap();
    let links: Vec<Link> = (0..6).map(|_| site.next(&[7; 5_000])).collect();
    site.send(server.quic, &links[..2]);
    let backup = site.backed_up();
    let lost = site.send(server.quic, &links[2..5]);
    server.kill();
    site.restored(&backup, "restored");
    site.identity.log = site.succeed("restored");
    let server = site.serve("restored").unwrap();
    let shown = lost[1].clone();
    site.runtime.block_on(async {
        let shows = Session::open_showing(&endpoint(), server.quic, &site.identity, Some(shown)).await.unwrap();
        shows.send(&links[5]).await.unwrap().receipt();
        Session::open(&endpoint(), server.quic, &site.identity).await.unwrap();
    });
    let path = format!("/v1/recorders/{}/coverage?from=2026-01-17T09:14:00Z&to=2026-01-17T09:15:00Z", site.identity.id);
    let coverage = site.get_json(&server, &path);
    let missing: Vec<_> = coverage["missing"].as_array().unwrap().iter().collect();
    assert!(missing.iter().all(|one| one["cause"] == "lost-with-restore"), "{coverage}");
    assert_eq!((&missing[0]["first"], &missing[missing.len() - 1]["last"]), (&2.into(), &4.into()), "{coverage}");
    assert!(server.terminate().success());
}

#[test]
fn a_recorder_follows_the_log_and_what_it_let_go_is_named_as_lost_with_the_restore() {
    let site = Site::new();
    let old = site.identity.log.clone();
    let server = site.serve("data").unwrap();
    record(&site, &server, "2026-01-17T09:14:00Z");
    let backup = site.backed_up();
    record(&site, &server, "2026-01-17T09:15:00Z");
    server.kill();
    site.restored(&backup, "restored");
    let next = site.succeed("restored");
    let server = site.serve("restored").unwrap();
    record(&site, &server, "2026-01-17T09:16:00Z");
    let told = fs::read_to_string(site.path("recorder/recorder.toml")).unwrap();
    assert!(told.contains(next.as_str()), "{told}");
    record(&site, &server, "2026-01-17T09:17:00Z");

    let metrics = site.get(format!("http://{}/metrics", server.ops));
    assert!(metrics.contains("aigaq_receipts_missing_total 1"), "once for each loss");
    let id = site.identity.id;
    let path = format!("/v1/recorders/{id}/coverage?from=2026-01-17T09:14:00Z&to=2026-01-17T09:18:00Z");
    let coverage = site.get_json(&server, &path);
    // Receipts come in any order: links above the one whose receipt was shown are lost too, up to what came since.
    let missing = coverage["missing"].as_array().unwrap();
    assert!(missing.iter().all(|one| one["cause"] == "lost-with-restore"), "{coverage}");
    assert!(missing.last().unwrap()["last"].as_u64().unwrap() >= 12, "{coverage}");
    assert_eq!(coverage["holes"][0]["cause"], "lost-with-restore", "{coverage}");
    let trail = site.get_json(&server, "/v1/audit?event=restore").to_string();
    assert!(trail.contains("which the store does not have") && trail.contains(&id.to_string()), "{trail}");

    // A stranger who trusts the key that was there before is led to the one that goes on.
    let bundle = site.path("bundle.zip");
    site.runtime.block_on(async {
        let client = reqwest::Client::new();
        let order = serde_json::json!({
            "recorders": [id.to_string()], "from": "2026-01-17T09:14:00Z", "to": "2026-01-17T09:18:00Z",
            "purpose": "case 7", "reason": "asked for by the court",
        });
        let url = |path: &str| format!("http://{}{path}", server.api);
        let token = server.token();
        let ordered = client.post(url("/v1/exports")).bearer_auth(&token).json(&order).send().await.unwrap();
        let job: serde_json::Value = ordered.json().await.unwrap();
        let job = format!("/v1/exports/{}", job["id"].as_str().unwrap());
        let begun = Instant::now();
        let href = loop {
            let job: serde_json::Value =
                client.get(url(&job)).bearer_auth(&token).send().await.unwrap().json().await.unwrap();
            if job["state"] == "done" {
                break job["bundle"]["href"].as_str().unwrap().to_owned();
            }
            assert!(begun.elapsed() < PATIENCE, "{job}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        };
        let bytes = client.get(url(&href)).bearer_auth(&token).send().await.unwrap().bytes().await.unwrap();
        fs::write(&bundle, bytes).unwrap();
    });
    let trust = |log: &LogKey| {
        let path = site.path("trust.toml");
        fs::write(&path, format!("logs = [\"{}\"]\nanchors = [\"recorder/ca.pem\"]\n", log.as_str())).unwrap();
        let (status, out, err) = aigaq(&["verify", bundle.to_str().unwrap(), "--trust", path.to_str().unwrap()]);
        (status.code(), format!("{out}{err}"))
    };
    let (code, said) = trust(&old);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("and this one goes on: the disk died"), "{said}");
    assert_eq!(trust(&next).0, Some(1));
    let stranger = Identity::enrol(&site.path("other"), &site.path("stranger")).log;
    assert_eq!(trust(&stranger).0, Some(3));
    assert!(server.terminate().success());
    let (status, said) = check(&["--data", &site.text("restored")]);
    assert!(status.success(), "{said}");
}
