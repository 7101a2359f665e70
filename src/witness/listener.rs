//! The HTTP interface of a witness: `POST /add-checkpoint` for logs, `GET /<origin hash>/checkpoint` for monitors. Nobody
//! is asked who they are: the log's signature says it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{StatusCode, header};
use tokio::sync::Semaphore;

use super::Witness;
use super::judge::{Refusal, Request};

/// Largest request, bytes: a proof of 63 lines and a checkpoint with many signatures.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Requests that are judged at once.
const JUDGED_MAX: usize = 8;
const TEXT: &str = "text/plain; charset=utf-8";

#[derive(Clone)]
struct Desk {
    witness: Arc<Witness>,
    turns: Arc<Semaphore>,
}

/// The routes of a witness.
pub fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add))
        .route("/{origin}/checkpoint", get(checkpoint))
        .with_state(Desk { witness, turns: Arc::new(Semaphore::new(JUDGED_MAX)) })
}

async fn add(State(desk): State<Desk>, body: Body) -> Response {
    let Ok(bytes) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {BODY_BYTES_MAX} bytes\n"));
    };
    let request = std::str::from_utf8(&bytes).map_err(|_| Refusal::Malformed).and_then(Request::parse);
    let request = match request {
        Ok(request) => request,
        Err(refusal) => return refused(refusal),
    };
    let Ok(turn) = desk.turns.acquire_owned().await else { return failed() };
    let witness = desk.witness;
    // Runs to its end also when the log has gone away.
    let judged = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        witness.add(&request)
    });
    match judged.await {
        Ok(Ok(Ok(line))) => text(StatusCode::OK, line),
        Ok(Ok(Err(refusal))) => refused(refusal),
        Ok(Err(error)) => {
            tracing::error!(%error, "a checkpoint could not be cosigned");
            failed()
        }
        Err(_) => failed(),
    }
}

async fn checkpoint(State(desk): State<Desk>, Path(origin): Path<String>) -> Response {
    match desk.witness.checkpoint(&origin) {
        Some(checkpoint) => text(StatusCode::OK, checkpoint),
        None => text(StatusCode::NOT_FOUND, "nothing was cosigned of such a log\n".to_owned()),
    }
}

fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Malformed => text(StatusCode::BAD_REQUEST, "not a request to add a checkpoint\n".to_owned()),
        Refusal::Unsigned => text(StatusCode::FORBIDDEN, "not signed by the log\n".to_owned()),
        Refusal::Unknown => text(StatusCode::NOT_FOUND, "this log is not followed\n".to_owned()),
        Refusal::Conflict(size) => {
            (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n")).into_response()
        }
        Refusal::Inconsistent => {
            text(StatusCode::UNPROCESSABLE_ENTITY, "it does not continue what was cosigned\n".to_owned())
        }
    }
}

fn failed() -> Response {
    text(StatusCode::INTERNAL_SERVER_ERROR, "the witness failed\n".to_owned())
}

fn text(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, TEXT)], body).into_response()
}
