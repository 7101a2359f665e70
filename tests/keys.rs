//! The keys of footage in a server's hands and in its operator's: a KMS that comes and goes, keys that are destroyed and exchanged.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aigaq_proto::message::RefusalReason;
use bytes::Bytes;
use support::Identity;
use support::chain::{Chain, Link};
use support::process::{ServerProcess, aigaq};
use support::session::{Answer, Session, endpoint};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// 2026-01-17T09:14:02Z.
const AT: u64 = 1_768_641_242_000_000;
const RANGE: &str = "2026-01-17T09:14:00Z/2026-01-17T09:15:00Z";
const SECRET: &[u8] = b"a scene that is nobody's business but the court's";

struct Site {
    home: TempDir,
    runtime: Runtime,
    identity: Identity,
    links: Vec<Link>,
}

impl Site {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let identity = Identity::enrol(&home.path().join("data"), &home.path().join("recorder"));
        let mut chain = Chain::new(identity.id, AT);
        let mut links = vec![chain.start(&identity.signing)];
        links.extend((0..3).map(|_| chain.media(&identity.signing, Bytes::from_static(SECRET))));
        Self { home, runtime, identity, links }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn serve(&self, more: &str) -> ServerProcess {
        ServerProcess::start_with(&self.data(), "127.0.0.1:0".parse().unwrap(), more).unwrap()
    }

    fn send(&self, server: &ServerProcess, link: &Link) -> Answer {
        self.runtime.block_on(async {
            let endpoint = endpoint();
            let session = Session::open(&endpoint, server.quic, &self.identity).await.unwrap();
            session.send(link).await.unwrap()
        })
    }

    /// Sends again while the server says that it is busy.
    fn send_until_taken(&self, server: &ServerProcess, link: &Link) {
        let begun = std::time::Instant::now();
        loop {
            match self.send(server, link) {
                Answer::Receipt(_) => return,
                Answer::Refusal(refusal) => assert_eq!(refusal.reason, RefusalReason::Busy),
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it is never taken");
            self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(200)).await });
        }
    }

    /// Status and body of a segment.
    fn look(&self, server: &ServerProcess, sequence: u64) -> (u16, Vec<u8>) {
        let url = format!("http://{}/v1/recorders/{}/hls/{RANGE}/seg-{sequence}.m4s", server.api, self.identity.id);
        self.runtime.block_on(async {
            let answer = reqwest::Client::new().get(url).bearer_auth(server.token()).send().await.unwrap();
            (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
        })
    }

    fn hold(&self, server: &ServerProcess) {
        let (from, to) = RANGE.split_once('/').unwrap();
        let body = serde_json::json!({
            "recorder": self.identity.id.to_string(), "from": from, "to": to, "reason": "case 7"
        });
        self.runtime.block_on(async {
            let client = reqwest::Client::new();
            let answer = client
                .post(format!("http://{}/v1/holds", server.api))
                .bearer_auth(server.token())
                .json(&body)
                .send()
                .await
                .unwrap();
            assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        });
    }

    /// Asks over the API that the key of a day be destroyed.
    fn ask_destruction(&self, server: &ServerProcess, day: &str) {
        let body = serde_json::json!({ "recorder": self.identity.id.to_string(), "day": day, "reason": "order 17/26" });
        self.runtime.block_on(async {
            let url = format!("http://{}/v1/destructions", server.api);
            let answer = reqwest::Client::new().post(url).bearer_auth(server.token()).json(&body).send().await.unwrap();
            assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
        });
    }

    /// Takes that back; the status.
    fn withdraw(&self, server: &ServerProcess, day: &str) -> u16 {
        self.runtime.block_on(async {
            let url = format!("http://{}/v1/destructions/{}-{day}", server.api, self.identity.id);
            let answer = reqwest::Client::new().delete(url).bearer_auth(server.token()).send().await.unwrap();
            answer.status().as_u16()
        })
    }

    /// The day on which the footage expires, as the command line takes it.
    fn day(&self) -> String {
        let (_, out, _) =
            aigaq(&["retention", "--data", self.data().to_str().unwrap(), "--dry-run", "--day", "2200-01-01"]);
        let line = out.lines().find(|line| line.contains("last day ")).unwrap_or_else(|| panic!("{out}")).to_owned();
        line.split("last day ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    }
}

fn files_with(dir: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if fs::read(&path).unwrap_or_default().windows(bytes.len()).any(|window| window == bytes) {
            found.push(path);
        }
    }
    found
}

#[test]
fn with_a_kms_that_comes_and_goes_footage_waits_and_nothing_is_lost() {
    let site = Site::new();
    let up = site.home.path().join("up");
    let kms = site.home.path().join("kms");
    fs::write(&kms, format!("[ -e '{}' ] || exit 1\nexec tr '\\000-\\377' '\\200-\\377\\000-\\177'\n", up.display()))
        .unwrap();
    let command = format!("[\"/bin/sh\", \"{}\"]", kms.display());
    let config = format!("[seal]\nwrap_command = {command}\nunwrap_command = {command}\n");
    let server = site.serve(&config);
    assert!(matches!(site.send(&server, &site.links[0]), Answer::Receipt(_)), "what is no footage goes on");
    match site.send(&server, &site.links[1]) {
        Answer::Refusal(refusal) => assert_eq!(refusal.reason, RefusalReason::Busy),
        Answer::Receipt(_) => panic!("a receipt for what could not be sealed"),
    }
    fs::write(&up, "").unwrap();
    site.send_until_taken(&server, &site.links[1]);
    assert_eq!(site.look(&server, 1), (200, SECRET.to_vec()));
    assert!(!site.data().join("keys/master.key").exists());
    fs::remove_file(&up).unwrap();
    assert_eq!(site.look(&server, 1).0, 200, "the key of the day is in memory");
    assert!(server.terminate().success());
    let server = site.serve(&config);
    assert_eq!(site.look(&server, 1).0, 503);
    fs::write(&up, "").unwrap();
    site.send_until_taken(&server, &site.links[2]);
    assert_eq!(site.look(&server, 1), (200, SECRET.to_vec()));
    assert!(server.terminate().success());
    let (data, test_config) = (site.data(), site.data().join("test.toml"));
    let (data, test_config) = (data.to_str().unwrap(), test_config.to_str().unwrap());
    let (status, out, err) = aigaq(&["check", "--data", data, "--config", test_config]);
    assert!(status.success(), "{out}\n{err}");
    let (status, out, _) = aigaq(&["check", "--data", data]);
    assert!(!status.success() && out.contains("a key command wrapped them and none is set"), "{out}");
    assert_eq!(files_with(&site.data(), SECRET), Vec::<PathBuf>::new());
}

#[test]
fn an_operator_destroys_a_key_and_exchanges_the_master_key() {
    let site = Site::new();
    let server = site.serve("");
    site.links.iter().for_each(|link| site.send_until_taken(&server, link));
    let data = site.data();
    let data = data.to_str().unwrap();
    let id = site.identity.id.to_string();
    let destroy = |day: &str| {
        aigaq(&["keys", "destroy", "--data", data, "--recorder", &id, "--day", day, "--reason", "order 17/26"])
    };
    let (status, _, err) = destroy("2026-04-18");
    assert!(status.code() == Some(1) && err.contains("in use"), "{err}");
    assert!(server.terminate().success());
    let day = site.day();
    let (status, out, err) = aigaq(&["keys", "rotate", "--data", data]);
    assert!(status.success(), "{out}{err}");
    let (status, _, err) = destroy("2021-01-01");
    assert!(status.code() == Some(1) && err.contains("nothing of"), "{err}");

    let held = site.home.path().join("held");
    copy(&site.data(), &held);
    let server = ServerProcess::start(&held).unwrap();
    site.hold(&server);
    site.ask_destruction(&server, &day);
    assert!(server.terminate().success());
    let in_held = held.to_str().unwrap();
    let refused =
        aigaq(&["keys", "destroy", "--data", in_held, "--recorder", &id, "--day", &day, "--reason", "order 17/26"]);
    assert!(refused.0.code() == Some(1) && refused.2.contains("hold 1 covers what it seals"), "{}", refused.2);

    let (status, out, err) = destroy(&day);
    assert!(status.success() && out.contains("another person confirms it"), "{out}{err}");
    let (status, _, err) = destroy(&day);
    assert!(status.code() == Some(1) && err.contains("another person"), "nobody does it alone: {err}");
    let server = site.serve("");
    assert_eq!(site.withdraw(&server, &day), 200);
    site.ask_destruction(&server, &day);
    assert!(server.terminate().success());
    let (status, out, err) = destroy(&day);
    assert!(status.success() && out.contains("3 links"), "{out}{err}");
    let (status, out, err) = aigaq(&["check", "--data", data]);
    assert!(status.success() && out.contains("3 destroyed"), "{out}{err}");
    let server = site.serve("");
    let (status, problem) = site.look(&server, 1);
    let problem = String::from_utf8(problem).unwrap();
    assert!(status == 410 && problem.contains("destroyed with its key, by command line: order 17/26"), "{problem}");
    assert!(problem.contains("/v1/audit/"), "and where it is proven: {problem}");
    assert!(server.terminate().success());
    // The other copy still has its key, and its master key is the new one.
    let server = ServerProcess::start(&held).unwrap();
    assert_eq!(site.look(&server, 1), (200, SECRET.to_vec()));
    assert!(server.terminate().success());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
