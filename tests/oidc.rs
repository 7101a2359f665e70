//! Signing in with a provider of OpenID Connect: a real one, which needs Node.js; without it these tests say so and pass.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use aigaq::Clock;
use aigaq::config::Config;
use aigaq::server::Server;
use reqwest::{Client, Response, StatusCode, redirect};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use url::Url;

const CLIENT: &str = "aigaq";
/// What browsers reach the API by; the tests go to where it really is.
const REDIRECT: &str = "http://localhost/v1/sign-in/oidc/callback";

/// The folder of the provider, with what it needs; `None` if that cannot be had.
fn installed() -> Option<&'static Path> {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oidc"));
    let install = || {
        let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        let there = || dir.join("node_modules/oidc-provider").is_dir();
        let node = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
        node && (there()
            || Command::new("npm").args(arguments).current_dir(dir).output().is_ok_and(|done| done.status.success())
                && there())
    };
    let installed = *INSTALLED.get_or_init(install);
    if !installed {
        eprintln!("NOT TESTED: signing in with an OpenID provider needs node, and npm with its registry");
    }
    installed.then_some(dir)
}

/// The provider and a server that it signs people in to.
struct Site {
    provider: Child,
    issuer: String,
    api: String,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<aigaq::Result<()>>,
    _home: tempfile::TempDir,
}

/// A browser's cookies, for the provider and for the server.
#[derive(Default)]
struct Browser {
    cookies: Vec<(String, String)>,
}

impl Browser {
    async fn get(&mut self, url: &Url) -> Response {
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap();
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = client.get(url.clone()).header("cookie", cookies.join("; ")).send().await.unwrap();
        for cookie in answer.headers().get_all("set-cookie") {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        answer
    }
}

fn location(answer: &Response, base: &Url) -> Url {
    base.join(answer.headers()["location"].to_str().unwrap()).unwrap()
}

impl Site {
    async fn start() -> Option<Self> {
        let dir = installed()?;
        let mut provider = Command::new("node")
            .args(["provider.mjs", CLIENT, REDIRECT])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(provider.stdout.take().unwrap()).lines();
        let issuer = lines.find_map(|line| line.ok().filter(|line| line.starts_with("http://"))).unwrap();
        tokio::task::spawn_blocking(move || lines.for_each(drop));
        let home = tempfile::tempdir().unwrap();
        let secret = home.path().join("secret");
        std::fs::write(&secret, "the-secret-of-this-site\n").unwrap();
        let mut config = Config::parse(&format!(
            "[access]\noidc_issuer = \"{issuer}\"\noidc_client_id = \"{CLIENT}\"\noidc_redirect = \"{REDIRECT}\"\n\
             oidc_secret_file = \"{}\"\n\
             oidc_groups = {{ \"shift-astana\" = \"operator in Astana\", \"isb\" = \"inspector; auditor\" }}\n",
            secret.display()
        ))
        .unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        (config.quic.listen, config.api.listen, config.ops.listen) = (any, any, any);
        config.store.dir = home.path().join("data");
        let server = Server::start(config, Clock::system()).await.unwrap();
        let api = format!("http://{}", server.api_addr);
        let stop = CancellationToken::new();
        let served = tokio::spawn(server.run_until(stop.clone().cancelled_owned()));
        Some(Self { provider, issuer, api, stop, served, _home: home })
    }

    /// Says who signs in next, and what is wrong with the tokens.
    async fn tell(&self, query: &str) {
        let client = Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("{}/test?{query}", self.issuer)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }

    /// Where the server sends a browser.
    async fn depart(&self, browser: &mut Browser) -> Url {
        let begin: Url = format!("{}/v1/sign-in/oidc", self.api).parse().unwrap();
        let answer = browser.get(&begin).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        location(&answer, &begin)
    }

    /// Goes through the provider; where it sends the browser back to, as the server is really reached.
    async fn through(&self, browser: &mut Browser, mut at: Url) -> Url {
        for _ in 0..10 {
            let answer = browser.get(&at).await;
            assert!(answer.status().is_redirection(), "{at}: {}", answer.text().await.unwrap());
            at = location(&answer, &at);
            if at.as_str().starts_with(REDIRECT) {
                return format!("{}{}?{}", self.api, at.path(), at.query().unwrap()).parse().unwrap();
            }
        }
        panic!("the provider goes round in circles at {at}");
    }

    async fn sign_in(&self, browser: &mut Browser) -> Response {
        let departure = self.depart(browser).await;
        let back = self.through(browser, departure).await;
        browser.get(&back).await
    }

    async fn stop(mut self) {
        drop(self.provider.stdin.take());
        self.provider.wait().unwrap();
        self.stop.cancel();
        self.served.await.unwrap().unwrap();
    }

    async fn get(&self, token: &str, path: &str) -> Response {
        let client = Client::builder().no_proxy().build().unwrap();
        client.get(format!("{}{path}", self.api)).bearer_auth(token).send().await.unwrap()
    }
}

async fn token(answer: Response) -> String {
    assert_eq!(answer.status(), StatusCode::OK);
    let document: Value = answer.json().await.unwrap();
    document["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_the_provider_knows_has_the_roles_of_their_groups() {
    let Some(site) = Site::start().await else { return };
    let operator = token(site.sign_in(&mut Browser::default()).await).await;
    assert_eq!(site.get(&operator, "/v1/recorders").await.status(), StatusCode::OK);
    assert_eq!(site.get(&operator, "/v1/audit").await.status(), StatusCode::FORBIDDEN);
    site.tell("as=berik").await;
    let auditor = token(site.sign_in(&mut Browser::default()).await).await;
    let trail = site.get(&auditor, "/v1/audit").await.text().await.unwrap();
    assert!(trail.contains("\"oidc:anna\"") && trail.contains("\"oidc:berik\""), "{trail}");
    assert!(
        !trail.contains("code=") && !trail.contains("state="),
        "what the provider answers is not written down: {trail}"
    );
    site.tell("as=stranger").await;
    assert_eq!(
        site.sign_in(&mut Browser::default()).await.status(),
        StatusCode::FORBIDDEN,
        "in no group that is named"
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_wrong_in_any_way_signs_nobody_in() {
    let Some(site) = Site::start().await else { return };
    for wrong in [
        "expired",
        "wrong-audience",
        "two-audiences",
        "wrong-azp",
        "wrong-issuer",
        "wrong-nonce",
        "no-nonce",
        "future",
        "forged",
        "none",
        "hmac",
    ] {
        site.tell(&format!("wrong={wrong}")).await;
        assert_eq!(site.sign_in(&mut Browser::default()).await.status(), StatusCode::UNAUTHORIZED, "{wrong}");
    }
    site.tell("").await;
    token(site.sign_in(&mut Browser::default()).await).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_without_a_restart() {
    let Some(site) = Site::start().await else { return };
    token(site.sign_in(&mut Browser::default()).await).await;
    site.tell("wrong=rotated").await;
    // The keys are not asked for again within seconds, so that nobody makes this server ask and ask.
    let until = async {
        while site.sign_in(&mut Browser::default()).await.status() != StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), until).await.expect("the new key is believed");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_good_once_in_the_browser_that_asked_for_the_question_it_answers() {
    let Some(site) = Site::start().await else { return };
    let mut browser = Browser::default();
    let departure = site.depart(&mut browser).await;
    let back = site.through(&mut browser, departure).await;
    let stolen = Browser::default().get(&back).await.status();
    assert_eq!(stolen, StatusCode::UNAUTHORIZED, "another browser, as with a link that somebody was sent");
    assert_eq!(browser.get(&back).await.status(), StatusCode::UNAUTHORIZED, "it was shown before");

    let mut browser = Browser::default();
    let departure = site.depart(&mut browser).await;
    let back = site.through(&mut browser, departure).await;
    token(browser.get(&back).await).await;
    assert_eq!(browser.get(&back).await.status(), StatusCode::UNAUTHORIZED, "a second time");

    // The code of one question under the state of another: its verifier and its nonce are those of the other.
    let (mut one, mut other) = (Browser::default(), Browser::default());
    let (first, second) = (site.depart(&mut one).await, site.depart(&mut other).await);
    let (first, second) = (site.through(&mut one, first).await, site.through(&mut other, second).await);
    let of = |url: &Url, name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    let mut mixed = second.clone();
    mixed
        .query_pairs_mut()
        .clear()
        .append_pair("code", &of(&first, "code"))
        .append_pair("state", &of(&second, "state"));
    assert_eq!(other.get(&mixed).await.status(), StatusCode::UNAUTHORIZED);
    let mut from_elsewhere = first.clone();
    let code = of(&first, "code");
    let state = of(&first, "state");
    from_elsewhere.query_pairs_mut().clear().append_pair("code", &code).append_pair("state", &state);
    from_elsewhere.query_pairs_mut().append_pair("iss", "http://127.0.0.1:1");
    assert_eq!(one.get(&from_elsewhere).await.status(), StatusCode::UNAUTHORIZED, "another issuer says so");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_always_has_a_challenge_and_without_it_there_is_no_code() {
    let Some(site) = Site::start().await else { return };
    let mut browser = Browser::default();
    let departure = site.depart(&mut browser).await;
    let query: std::collections::BTreeMap<String, String> = departure.query_pairs().into_owned().collect();
    assert_eq!((query["code_challenge_method"].as_str(), query["code_challenge"].len()), ("S256", 43));
    let other = site.depart(&mut Browser::default()).await;
    for name in ["state", "nonce", "code_challenge"] {
        assert!(other.query_pairs().all(|(key, value)| key != name || value != query[name]), "{name} is new each time");
    }
    let mut weaker = departure.clone();
    weaker.query_pairs_mut().clear();
    for (key, value) in query.iter().filter(|(key, _)| !key.starts_with("code_challenge")) {
        weaker.query_pairs_mut().append_pair(key, value);
    }
    let back = site.through(&mut browser, weaker).await;
    assert!(back.query_pairs().any(|(key, _)| key == "error"), "{back}");
    assert_eq!(browser.get(&back).await.status(), StatusCode::UNAUTHORIZED);
    site.stop().await;
}
