//! `Idempotency-Key` on every POST (draft-ietf-httpapi-idempotency-key-header): the same request of the same actor under the same key gets
//! the answer that it got, for a day, also after a restart.
//!
//! Kept are answers of 2xx: what was refused may be asked again. An answer is durable before it goes out, and kept whether its client is
//! still there or not; between a deed and its answer a crash may come, and then the deed is done anew: where that matters the deed has a
//! name of its own. Whoever is given an answer again is an entry of the trail, has the roles that it was given under, and may still find
//! the recorders that it is about. Never kept is what holds a secret.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aigaq_proto::{Digest, Micros};
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State as FromState};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::asked;
use super::problem::Problem;
use super::pulls::idempotency_key;
use super::request::{BODY_BYTES_MAX, recorder_of, recorders_in};
use super::state::State;
use super::viewer::{bearer, denial};
use crate::access::{Identity, Verb};
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::store::records::AnswerRecord;

/// For how long an answer is kept, microseconds: a day.
const KEPT_US: Micros = 86_400_000_000;
/// Answers that are kept at most; the oldest are forgotten first.
const ANSWERS_MAX: usize = 20_000;
/// Answers that are forgotten at once, beyond those that are too many.
const FORGOTTEN_MAX: usize = 256;
/// Largest body that is kept, bytes.
const KEPT_BYTES_MAX: usize = 16 * 1024;
/// Routes that remember by themselves, or answer with a secret.
const APART: [&str; 5] = ["/v1/pulls", "/v1/exports", "/v1/sign-in", "/v1/token", "/v1/webhooks"];
/// Says that an answer was given before.
const REPLAYED: &str = "idempotency-replayed";

/// When each answer was kept.
type Ages = BTreeSet<(Micros, Digest)>;

/// Which answers are kept, and which requests are under way.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_age: Mutex<Option<Ages>>,
    under_way: Mutex<HashSet<Digest>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That a request is under way, until it is dropped.
struct Turn {
    answers: Arc<Answers>,
    name: Digest,
}

impl Turn {
    fn take(answers: &Arc<Answers>, name: Digest) -> Option<Self> {
        let is_first = lock(&answers.under_way).insert(name);
        is_first.then(|| Self { answers: Arc::clone(answers), name })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.answers.under_way).remove(&self.name);
    }
}

impl Answers {
    /// Keeps an answer and forgets those whose time is over. Blocks.
    fn keep(&self, store: &Store, answer: &AnswerRecord) -> Result<()> {
        if let Some(before) = store.answer(answer.name)? {
            // Its time is over, and its row will be that of this one: from here on nobody forgets it for the old one's sake.
            self.ages(store, |by_age| by_age.remove(&(before.at, before.name)))?;
        }
        store.put_answer(answer)?;
        self.ages(store, |by_age| {
            by_age.insert((answer.at, answer.name));
            Self::forget_old(store, by_age, answer.at)
        })?
    }

    /// Does something with the ages of all answers; others wait.
    fn ages<T>(&self, store: &Store, with: impl FnOnce(&mut Ages) -> T) -> Result<T> {
        let mut by_age = lock(&self.by_age);
        let by_age = match &mut *by_age {
            Some(known) => known,
            unknown => unknown.insert(store.answers().collect::<Result<_>>()?),
        };
        Ok(with(by_age))
    }

    /// Forgets those whose time is over, and the oldest of too many.
    fn forget_old(store: &Store, by_age: &mut Ages, now: Micros) -> Result<()> {
        let surplus = by_age.len().saturating_sub(ANSWERS_MAX);
        let is_over = |at: Micros| at.saturating_add(KEPT_US) <= now;
        let over: Vec<(Micros, Digest)> = by_age
            .iter()
            .enumerate()
            .take(surplus.saturating_add(FORGOTTEN_MAX))
            .take_while(|(index, (at, _))| *index < surplus || is_over(*at))
            .map(|(_, one)| *one)
            .collect();
        let names: Vec<Digest> = over.iter().map(|(_, name)| *name).collect();
        store.forget_answers(&names)?;
        for one in &over {
            by_age.remove(one);
        }
        Ok(())
    }
}

/// Answers from memory, or has the request answered and remembers that.
pub(super) async fn answer(FromState(state): FromState<State>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if request.method() != Method::POST || APART.contains(&route) {
        return next.run(request).await;
    }
    match idempotency_key(request.headers()) {
        Ok(None) => next.run(request).await,
        Ok(Some(key)) => {
            let key = key.to_vec();
            once(&state, &key, request, next).await.unwrap_or_else(IntoResponse::into_response)
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

async fn once(state: &State, key: &[u8], request: Request, next: Next) -> Result<Response, Problem> {
    let token = bearer(request.headers()).map(str::to_owned);
    let who = match token {
        Some(token) => state.access.identify(&token).await?,
        None => None,
    };
    // Whoever is nobody is refused where all are.
    let Some(who) = who else { return Ok(next.run(request).await) };
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        let text = format!("the body may have {BODY_BYTES_MAX} bytes, and must end");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    })?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    // With other roles it is another request: what was told under those that are gone is not told again.
    let name = Digest::of(&[format!("{}\n{:?}\n{target}\n", who.actor, who.grants).as_bytes(), key].concat());
    let asked = Digest::of(&body);
    let Some(turn) = Turn::take(&state.answers, name) else {
        return Err(counted(state, &who, Problem::new(StatusCode::CONFLICT, "the same request is under way")));
    };
    let now = state.clock.now();
    let entry = asked::entry(&mut parts, state, &who.actor).await;
    let (access, grants, object) = (state.access.clone(), who.grants.clone(), entry.object.clone());
    let known = state.behind.count(move |store| {
        let known = store.answer(name)?.filter(|known| known.at.saturating_add(KEPT_US) > now);
        let Some(known) = known else { return Ok(None) };
        let finds = |id| {
            let record = store.recorder(id)?;
            Ok(record.is_none_or(|record| grants.allow(Verb::Find, &record.department, access.class_of(&record))))
        };
        let about = recorder_of(&object).or_else(|| recorder_of(known.location.rsplit('/').next()?));
        // Nothing may be done to what may not be found: asked anew, it is refused where all is.
        if !about.map_or(Ok(true), finds)? {
            return Ok(None);
        }
        let body = String::from_utf8_lossy(&known.body);
        let is_theirs =
            recorders_in(&body).into_iter().map(finds).collect::<Result<Vec<_>>>()?.into_iter().all(|one| one);
        Ok(Some((known, is_theirs)))
    });
    if let Some((known, is_theirs)) = known.await? {
        if known.asked != asked {
            let detail = "the idempotency key came with another request before";
            return Err(counted(state, &who, Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)));
        }
        if !state.access.may_ask(&who) {
            return Err(Problem::too_often());
        }
        if !is_theirs {
            state.trail.write(denial(&who, entry)).await?;
            return Err(Error::new(Kind::NotFound, "the answer is about recorders that are not there for you").into());
        }
        state.trail.write(entry.ended("answered again")).await?;
        return Ok(replayed(known));
    }
    // A task of its own: a client that goes away takes the connection with it, and neither the deed nor what is remembered of it.
    let state = state.clone();
    let deed = tokio::spawn(async move {
        let _turn = turn;
        let answer = next.run(Request::from_parts(parts, Body::from(body))).await;
        remember(&state, name, asked, answer).await
    });
    deed.await.map_err(|error| Error::new(Kind::Internal, "a request failed").because(error))?
}

/// A refusal, which counts among what one asks.
fn counted(state: &State, who: &Identity, refusal: Problem) -> Problem {
    if state.access.may_ask(who) { refusal } else { Problem::too_often() }
}

/// Keeps an answer, if it is one to be kept.
async fn remember(state: &State, name: Digest, asked: Digest, answer: Response) -> Result<Response, Problem> {
    if !is_to_be_kept(&answer) {
        return Ok(answer);
    }
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, KEPT_BYTES_MAX)
        .await
        .map_err(|error| Error::new(Kind::Internal, "an answer could not be kept").because(error))?;
    let record = AnswerRecord {
        name,
        asked,
        at: state.clock.now(),
        status: parts.status.as_u16(),
        content_type: text(&parts.headers, &header::CONTENT_TYPE),
        location: text(&parts.headers, &header::LOCATION),
        body: body.to_vec(),
    };
    let answers = Arc::clone(&state.answers);
    state.behind.count(move |store| answers.keep(store, &record)).await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn is_to_be_kept(answer: &Response) -> bool {
    let is_secret = text(answer.headers(), &header::CACHE_CONTROL).contains("no-store");
    let bytes = axum::body::HttpBody::size_hint(answer.body()).upper();
    answer.status().is_success() && !is_secret && bytes.is_some_and(|bytes| bytes <= KEPT_BYTES_MAX as u64)
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn replayed(known: AnswerRecord) -> Response {
    let status = StatusCode::from_u16(known.status).unwrap_or(StatusCode::OK);
    let mut response = (status, Body::from(known.body)).into_response();
    let headers = response.headers_mut();
    for (name, value) in [(header::CONTENT_TYPE, known.content_type), (header::LOCATION, known.location)] {
        if let Some(value) = HeaderValue::from_str(&value).ok().filter(|value| !value.is_empty()) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use axum::routing::post;
    use tokio::sync::Notify;
    use tower::ServiceExt as _;

    use super::*;
    use crate::access::{self, Access, Grants};
    use crate::clock::Clock;
    use crate::fleet::Fleet;
    use crate::log::{Identity as LogIdentity, Log};
    use crate::lookup::Metrics;

    const TOKEN: &str = "a-token-for-tests-alone";

    fn state() -> State {
        let (store, clock) = (Store::memory(), Clock::fixed(1));
        let reader = Log::open(store.clone(), LogIdentity::ephemeral().unwrap(), None).unwrap().reader();
        let access = Access::open(store.clone(), None, clock.clone(), access::Settings::default()).unwrap();
        access.admit(TOKEN, "token:first-start", Grants::everything()).unwrap();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let fleet = Fleet::open(store.clone(), clock.clone()).unwrap();
        State::new(store, Arc::new(reader), access, clock, metrics, fleet).unwrap()
    }

    #[tokio::test]
    async fn a_deed_whose_client_goes_away_is_done_once_and_its_answer_kept() {
        let (deeds, begun, goes_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (of_deeds, of_begun, of_goes_on) = (Arc::clone(&deeds), Arc::clone(&begun), Arc::clone(&goes_on));
        let deed = post(async move || {
            of_deeds.fetch_add(1, Ordering::SeqCst);
            of_begun.notify_one();
            of_goes_on.notified().await;
            (StatusCode::CREATED, "done")
        });
        let state = state();
        let layer = axum::middleware::from_fn_with_state(state, super::answer);
        let router = axum::Router::new().route("/v1/recorders/{id}/marks", deed).layer(layer);
        let ask = || {
            let request = Request::post("/v1/recorders/7/marks").header("idempotency-key", "k");
            let request = request.header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
            router.clone().oneshot(request.body(Body::empty()).unwrap())
        };
        let client = tokio::spawn(ask());
        begun.notified().await;
        client.abort();
        assert!(client.await.unwrap_err().is_cancelled());
        goes_on.notify_one();
        let again = async {
            loop {
                let answer = ask().await.unwrap();
                if answer.status() != StatusCode::CONFLICT {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        let again = tokio::time::timeout(Duration::from_secs(20), again).await.expect("it is answered");
        assert_eq!((again.status(), deeds.load(Ordering::SeqCst)), (StatusCode::CREATED, 1));
        assert!(again.headers().contains_key(REPLAYED));
    }

    fn answer(number: u64, at: Micros) -> AnswerRecord {
        let name = Digest::of(&number.to_be_bytes());
        let (content_type, location) = (String::new(), String::new());
        AnswerRecord { name, asked: name, at, status: 201, content_type, location, body: Vec::new() }
    }

    #[test]
    fn answers_are_forgotten_when_their_time_is_over_also_those_of_an_earlier_start() {
        let (store, answers) = (Store::memory(), Answers::default());
        for number in 0..10 {
            answers.keep(&store, &answer(number, number)).unwrap();
        }
        let anew = Answers::default();
        anew.keep(&store, &answer(10, KEPT_US + 4)).unwrap();
        assert_eq!(store.answers().count(), 6);
        assert!(
            store.answer(answer(4, 0).name).unwrap().is_none() && store.answer(answer(5, 0).name).unwrap().is_some()
        );
    }

    #[test]
    fn the_oldest_give_way_when_there_are_too_many() {
        let (store, answers) = (Store::memory(), Answers::default());
        let many: BTreeSet<_> = (0..ANSWERS_MAX as u64).map(|number| (number + 1, answer(number, 0).name)).collect();
        *lock(&answers.by_age) = Some(many);
        answers.keep(&store, &answer(u64::MAX, 9_999_999)).unwrap();
        let by_age = lock(&answers.by_age);
        let by_age = by_age.as_ref().unwrap();
        assert_eq!((by_age.len(), by_age.first().unwrap().0), (ANSWERS_MAX, 2));
    }
}
