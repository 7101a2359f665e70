//! Problem documents (RFC 9457): the one form in which a look-up says no.
//!
//! The status comes from the table of [`Kind`]. A problem of the server's own names nothing of
//! its inside: it carries a number, and the log line with the same number has the rest. Never a bare status, never a
//! stack of sources.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::{ToResponse, ToSchema};

use super::gone::Gone;
use crate::error::{Error, Kind};

/// Content type of a problem document.
pub const CONTENT_TYPE: &str = "application/problem+json";
/// What a client that came too early is told to wait, seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("2");

static INSTANCES: AtomicU64 = AtomicU64::new(1);

/// A problem document.
#[derive(Debug, Clone, Serialize, ToResponse, ToSchema)]
#[response(description = "A refusal: its type and detail say why", content_type = "application/problem+json")]
pub struct Problem {
    /// Kind of the problem, a URN of a closed set.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for a person.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What exactly is wrong with this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Names this occurrence; the server's log has the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The code that OAuth 2.0 has for it (RFC 6749 section 5.2), where a token was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Where the proof is that footage which is gone was deleted, and by which rule or whose order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// The recordings of the range, where the range must lie in one: ask for one of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recordings: Vec<RecordingRange>,
}

/// The part of a range that one recording covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecordingRange {
    /// Sequence of the recording's `Start` link.
    pub recording: u64,
    /// Beginning, RFC 3339 UTC.
    pub from: String,
    /// End, exclusive, RFC 3339 UTC.
    pub to: String,
}

impl Problem {
    /// A problem with this status; its type and title are those of the status.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Problem");
        Self {
            kind: format!("urn:aigaq:problem:{}", title.to_ascii_lowercase().replace(' ', "-")),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: Some(detail.into()),
            instance: None,
            error: None,
            statement: None,
            recordings: Vec::new(),
        }
    }

    /// The range lies in several recordings and must lie in one.
    #[must_use]
    pub fn several(recordings: Vec<RecordingRange>) -> Self {
        let detail = "the range touches several recordings, which no single file can hold: ask for one of them";
        Self { recordings, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// More requests than one person or service may make.
    #[must_use]
    pub fn too_often() -> Self {
        let detail = "you ask more often than one may: wait, and ask again more slowly";
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
    }

    /// Something that a part of the request is not.
    #[must_use]
    pub fn invalid(detail: impl Into<String>) -> Self {
        Error::new(Kind::Invalid, detail).into()
    }
}

impl From<Error> for Problem {
    /// Consumes the error: this is where it is logged, once.
    fn from(error: Error) -> Self {
        if let Some(gone) = Gone::of(&error) {
            tracing::debug!(%error, "look-up of what is gone");
            let statement = gone.statement.map(|number| format!("/v1/audit/{number}/proof"));
            let title = "It was there and is gone".to_owned();
            return Self { title, statement, ..Self::new(StatusCode::GONE, error.context()) };
        }
        let kind = error.kind();
        let status = StatusCode::from_u16(kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let instance = format!("urn:aigaq:occurrence:{:08x}", INSTANCES.fetch_add(1, Ordering::Relaxed));
        match kind.level() {
            tracing::Level::ERROR => tracing::error!(%error, kind = kind.label(), instance, "look-up failed"),
            tracing::Level::WARN => tracing::warn!(%error, kind = kind.label(), instance, "look-up failed"),
            tracing::Level::INFO => tracing::info!(%error, kind = kind.label(), instance, "look-up put off"),
            _ => tracing::debug!(%error, kind = kind.label(), instance, "look-up refused"),
        }
        let (title, own) = match kind {
            Kind::Invalid => ("The request cannot be understood", false),
            Kind::Unauthorised => ("Credentials are missing or wrong", false),
            Kind::NotFound => ("There is no such thing", false),
            Kind::Damaged => ("The stored bytes are not what was received", false),
            Kind::Busy => ("Busy, try again later", false),
            Kind::StorageFull | Kind::Fatal => ("Not able to answer, try again later", true),
            Kind::Internal => ("The server failed", true),
        };
        Self {
            kind: format!("urn:aigaq:problem:{}", kind.label().replace('_', "-")),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: (!own).then(|| error.context().to_owned()),
            // What is not there and what is not theirs look the same, to the last byte.
            instance: (kind != Kind::NotFound).then_some(instance),
            error: None,
            statement: None,
            recordings: Vec::new(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_S);
        }
        response
    }
}
