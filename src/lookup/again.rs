//! `Idempotency-Key` on every POST (draft-ietf-httpapi-idempotency-key-header): the same request of the same actor under the same key gets
//! the answer that it got, for a day, also after a restart.
//!
//! Kept are answers of 2xx: what was refused may be asked again. An answer is durable before it goes out; between a deed and its
//! answer a crash may come, and then the deed is done anew: where that matters the deed has a name of its own. Whoever is given an
//! answer again is an entry of the trail, and has the roles that it was given under. Never kept is what holds a secret.

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
use super::request::BODY_BYTES_MAX;
use super::state::State;
use super::viewer::bearer;
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

/// Which answers are kept, and which requests are under way.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_age: Mutex<Option<BTreeSet<(Micros, Digest)>>>,
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
        let mut by_age = lock(&self.by_age);
        let by_age = match &mut *by_age {
            Some(known) => known,
            unknown => unknown.insert(store.answers().collect::<Result<_>>()?),
        };
        if let Some(before) = store.answer(answer.name)? {
            // Its time is over, and its row is that of this one.
            by_age.remove(&(before.at, before.name));
        }
        store.put_answer(answer)?;
        by_age.insert((answer.at, answer.name));
        let surplus = by_age.len().saturating_sub(ANSWERS_MAX);
        let is_over = |at: Micros| at.saturating_add(KEPT_US) <= answer.at;
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
    let Some(_turn) = Turn::take(&state.answers, name) else {
        return Err(Problem::new(StatusCode::CONFLICT, "the same request is under way"));
    };
    let now = state.clock.now();
    let known = state.behind.count(move |store| store.answer(name)).await?;
    if let Some(known) = known.filter(|known| known.at.saturating_add(KEPT_US) > now) {
        if known.asked != asked {
            let detail = "the idempotency key came with another request before";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        if !state.access.may_ask(&who) {
            return Err(Problem::too_often());
        }
        let entry = asked::entry(&mut parts, state, &who.actor).await;
        state.trail.write(entry.ended("answered again")).await?;
        return Ok(replayed(known));
    }
    let answer = next.run(Request::from_parts(parts, Body::from(body))).await;
    remember(state, name, asked, answer).await
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
    use super::*;

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
