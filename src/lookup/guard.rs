//! What holds for every route: limits on the request before any handler sees it, a deadline for the answer's head,
//! security headers, and the metrics.
//!
//! Routes are counted under their template; what has none is `none`; those of integrity checks are not counted. A method or a path that does not exist is a
//! problem document like every other refusal.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State as FromState};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::asked;
use super::metrics::Metrics;
use super::problem::Problem;
use super::request::BODY_BYTES_MAX;
use crate::error::{Error, Kind};

/// Longest path with its query, bytes.
const TARGET_BYTES_MAX: usize = 2_048;
/// How long an answer's head may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Checks, answers, counts.
pub(super) async fn guard(FromState(metrics): FromState<Metrics>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let started = Instant::now();
    let mut response = match refusal(&request) {
        Some(problem) => problem.into_response(),
        None => tokio::time::timeout(ANSWER_MAX, next.run(request))
            .await
            .unwrap_or_else(|_| Problem::from(Error::new(Kind::Busy, "the answer took too long")).into_response()),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    let class = match response.status().as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    if asked::is_sealed(&route) {
        return response;
    }
    metrics.seconds.with_label_values(&[&route]).observe(started.elapsed().as_secs_f64());
    metrics.answers.with_label_values(&[route.as_str(), class]).inc();
    response
}

fn refusal(request: &Request) -> Option<Problem> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET_BYTES_MAX {
        let detail = format!("the path and query have {target} bytes, the limit is {TARGET_BYTES_MAX}");
        return Some(Problem::new(StatusCode::URI_TOO_LONG, detail));
    }
    let length = request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
    let detail = || format!("the body has {length} bytes, the limit is {BODY_BYTES_MAX}");
    (length > BODY_BYTES_MAX as u64).then(|| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail()))
}

/// For paths that do not exist.
pub(super) async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such path; /v1/openapi.json lists all")
}

/// For methods that a path does not have. Axum adds the `Allow` header.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "the path does not have this method; the header Allow lists those it has",
    )
}
