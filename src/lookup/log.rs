//! `GET /v1/log/…`: the transparency log in the C2SP tlog-tiles layout, for anybody.
//!
//! The log holds digests and times, nothing of the footage and no name; clients of C2SP logs send no token. So there
//! is no [`Viewer`](super::viewer::Viewer) and no audit entry here, only a limit on the rate. Full tiles never change
//! and may be kept for ever.
//!
//! ```text
//! tile/<L>/<N>[.p/<W>]        L 0 to 63; N in groups of three digits: 1234067 is x001/x234/067
//! tile/entries/<N>[.p/<W>]    W 1 to 255
//! ```

use std::num::NonZeroU8;
use std::time::Instant;

use axum::Json;
use axum::extract::State as FromState;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::State;
use super::problem::Problem;
use super::request::{FromPath, recorder_id};
use super::time;
use crate::error::{Error, Kind, Result};
use crate::http::{Rate, Rates};
use crate::log::Reader;

/// How often the log answers, for all clients together.
const RATE: Rate = Rate { burst: 1_000.0, per_s: 500.0 };
/// Hashes or entries in a full tile.
const WIDTH_FULL: u16 = 256;
/// What may change with the next commit.
const CHANGING: HeaderValue = HeaderValue::from_static("no-cache");
/// What never changes.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// How often all clients together may still ask.
pub(super) fn rate() -> Rates<()> {
    Rates::new(RATE, None, Instant::now())
}

/// The newest checkpoint that a quorum of witnesses cosigned, with their signature lines; without witnesses, the newest (C2SP
/// tlog-checkpoint).
#[utoipa::path(get, operation_id = "log_checkpoint", path = "/v1/log/checkpoint", tag = "log",
    responses((status = 200, description = "Signed note", body = String, content_type = "text/plain"),
        (status = "default", response = Problem)))]
pub(super) async fn checkpoint(FromState(state): FromState<State>) -> Result<Response, Problem> {
    let text = ask(&state, Reader::published).await?;
    Ok(answer(text, "text/plain; charset=utf-8", CHANGING))
}

/// The key that signs the checkpoints, as the `vkey` of C2SP signed-note.
#[utoipa::path(get, operation_id = "log_key", path = "/v1/log/key", tag = "log",
    responses((status = 200, description = "vkey", body = String, content_type = "text/plain"),
        (status = "default", response = Problem)))]
pub(super) async fn key(FromState(state): FromState<State>) -> Result<Response, Problem> {
    let text = format!("{}\n", state.log.key().as_str());
    Ok(answer(text, "text/plain; charset=utf-8", CHANGING))
}

/// The statements by which the logs before this one ended, each naming the key of the next, oldest first (proto/SPEC.md section 10.3); empty
/// for a log that is the first.
#[utoipa::path(get, operation_id = "log_succession", path = "/v1/log/succession", tag = "log",
    responses((status = 200, description = "Signed notes", body = String, content_type = "text/plain"),
        (status = "default", response = Problem)))]
pub(super) async fn succession(FromState(state): FromState<State>) -> Result<Response, Problem> {
    let text = state.log.succession().to_owned();
    Ok(answer(text, "text/plain; charset=utf-8", CHANGING))
}

/// The proof that a link is in the log (C2SP tlog-proof): its place, and the newest cosigned checkpoint that has it; the newest
/// checkpoint while none has. The leaf is the 40 bytes of its entry: link digest, time of arrival.
#[utoipa::path(get, operation_id = "log_proof", path = "/v1/log/proof/{recorder}/{sequence}", tag = "log",
    params(("recorder" = String, Path, description = "Recorder"), ("sequence" = u64, Path, description = "Link")),
    responses((status = 200, description = "tlog-proof", body = String, content_type = "text/plain"),
        (status = "default", response = Problem)))]
pub(super) async fn proof(
    FromState(state): FromState<State>,
    FromPath((recorder, sequence)): FromPath<(String, String)>,
) -> Result<Response, Problem> {
    let recorder = recorder_id(&recorder)?;
    let sequence = decimal(&sequence).ok_or_else(|| Error::new(Kind::Invalid, "the sequence is not a number"))?;
    if !state.is_within_log_rate() {
        return Err(too_often());
    }
    let absent = || Error::new(Kind::NotFound, "there is no such link in the log");
    let (entry, index) = state.behind.logged(recorder, sequence).await?.ok_or_else(absent)?;
    let text = state.behind.log(&state.log, move |log| log.tlog_proof(&entry, index, &log.tree_with(index)?));
    Ok(answer(text.await?, "text/plain; charset=utf-8", CHANGING))
}

/// A time stamp over a checkpoint of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StampDocument {
    /// How many entries the checkpoint covers.
    entries: u64,
    /// The time of the stamp, RFC 3339 UTC.
    at: String,
    /// The name in the certificate of the authority.
    authority: String,
    /// What is stamped, byte for byte: its SHA-256 is in the token.
    checkpoint: String,
    /// The answer of the authority, DER `TimeStampResp` of RFC 3161, base64.
    answer: String,
}

/// The earliest time stamp (RFC 3161) over a checkpoint with at least `size` entries: these were there at its time.
#[utoipa::path(get, operation_id = "log_timestamp", path = "/v1/log/timestamps/{size}", tag = "log",
    params(("size" = u64, Path, description = "Entries, from 1")),
    responses((status = 200, body = StampDocument), (status = "default", response = Problem)))]
pub(super) async fn timestamp(
    FromState(state): FromState<State>,
    FromPath(size): FromPath<String>,
) -> Result<Json<StampDocument>, Problem> {
    let size = decimal(&size).ok_or_else(|| Error::new(Kind::Invalid, "the size is not a number"))?;
    let stamp = ask(&state, move |log| log.stamp(size.max(1)..u64::MAX)).await?;
    let stamp = stamp.ok_or_else(|| Error::new(Kind::NotFound, "nothing of that size has a time stamp"))?;
    Ok(Json(StampDocument {
        entries: stamp.tree.size,
        at: time::format(stamp.token.at),
        authority: stamp.token.authority,
        checkpoint: stamp.tree.checkpoint,
        answer: BASE64.encode(&stamp.answer),
    }))
}

/// A tile of hashes or a bundle of entries (C2SP tlog-tiles).
#[utoipa::path(get, operation_id = "log_tile", path = "/v1/log/tile/{path}", tag = "log",
    params(("path" = String, Path, description = "`<L>/<N>[.p/<W>]` or `entries/<N>[.p/<W>]`, with slashes")),
    responses(
        (status = 200, description = "Hashes or entries", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", response = Problem)))]
pub(super) async fn tile(
    FromState(state): FromState<State>,
    FromPath(path): FromPath<String>,
) -> Result<Response, Problem> {
    let tile = Tile::parse(&path).ok_or_else(|| Error::new(Kind::NotFound, "there is no such tile"))?;
    let bytes = ask(&state, move |log| match tile.of {
        Of::Hashes(level) => log.tile(level, tile.number, tile.width),
        Of::Entries => log.entries(tile.number, tile.width),
    });
    // A partial tile never changes either; C2SP lets a log forget it once the full one is there.
    Ok(answer(bytes.await?, "application/octet-stream", FOR_EVER))
}

fn answer(body: impl IntoResponse, media_type: &'static str, cache: HeaderValue) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    response
}

impl State {
    /// Whether a request to the log is let through.
    fn is_within_log_rate(&self) -> bool {
        self.log_rate.admit(Some(()), Instant::now())
    }
}

fn too_often() -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "the log is asked too often")
}

async fn ask<T: Send + 'static>(
    state: &State,
    question: impl FnOnce(&Reader) -> Result<T> + Send + 'static,
) -> Result<T, Problem> {
    if !state.is_within_log_rate() {
        return Err(too_often());
    }
    Ok(state.behind.log(&state.log, question).await?)
}

/// What a tile is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Hashes(u8),
    Entries,
}

/// A tile that a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    of: Of,
    number: u64,
    width: u16,
}

impl Tile {
    /// Reads the one spelling that C2SP allows.
    fn parse(path: &str) -> Option<Self> {
        let (first, rest) = path.split_once('/')?;
        let of = match first {
            "entries" => Of::Entries,
            level => Of::Hashes(decimal(level)?.try_into().ok().filter(|level| *level < 64)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, u16::from(NonZeroU8::new(decimal(width)?.try_into().ok()?)?.get())),
            None => (rest, WIDTH_FULL),
        };
        Some(Self { of, number: tile_number(number)?, width })
    }
}

/// A decimal number in its one spelling.
fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// `x001/x234/067`, where the first group is not `x000`.
fn tile_number(text: &str) -> Option<u64> {
    let mut number: u64 = 0;
    let mut groups = text.split('/').peekable();
    let mut first = true;
    while let Some(group) = groups.next() {
        let digits = if groups.peek().is_some() { group.strip_prefix('x')? } else { group };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        if first && groups.peek().is_some() && digits == "000" {
            return None;
        }
        first = false;
        number = number.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_spelling_is_a_tile() {
        let tile = |of, number, width| Some(Tile { of, number, width });
        assert_eq!(Tile::parse("0/000"), tile(Of::Hashes(0), 0, 256));
        assert_eq!(Tile::parse("3/x001/x234/067"), tile(Of::Hashes(3), 1_234_067, 256));
        assert_eq!(Tile::parse("entries/x001/000.p/7"), tile(Of::Entries, 1_000, 7));
        for path in [
            "",
            "0",
            "0/",
            "0/0",
            "0/0000",
            "00/000",
            "64/000",
            "-1/000",
            "+0/000",
            "0/x000/001",
            "0/001/002",
            "0/x001",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/01",
            "0/000.p/",
            "0/000.p",
            "0/000/",
            "0//000",
            "data/000",
            "0/x001/x002",
            "0/x999/x999/x999/x999/x999/x999/x999/999",
            "entries/../000",
        ] {
            assert_eq!(Tile::parse(path), None, "{path}");
        }
    }
}
