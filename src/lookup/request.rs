//! What a request may say: path parameters, query parameters and the identifiers in them, each parsed once, strictly.
//!
//! Whatever does not parse becomes a problem document; nothing from a path reaches the store except as a typed value.

use axum::Form;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http::{StatusCode, header};
use serde::de::DeserializeOwned;

use aigaq_proto::link::controls;
use aigaq_proto::{RecorderId, Sequence};

use super::State;
use super::problem::Problem;
use crate::error::{Error, Kind, Result};

/// The parameters of the path.
pub(super) struct FromPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<State> for FromPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let Path(values) =
            Path::from_request_parts(parts, state).await.map_err(|error| Problem::invalid(error.body_text()))?;
        Ok(Self(values))
    }
}

/// The parameters of the query.
pub(super) struct FromQuery<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<State> for FromQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let Query(values) =
            Query::from_request_parts(parts, state).await.map_err(|error| Problem::invalid(error.body_text()))?;
        Ok(Self(values))
    }
}

/// Largest body that a route reads, bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

/// The body, one JSON value.
pub(super) struct FromJson<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<State> for FromJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &State) -> Result<Self, Problem> {
        let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).map(str::trim);
        if !media_type.is_some_and(|value| value.eq_ignore_ascii_case("application/json")) {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"));
        }
        let bytes = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|_| {
            Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body may have {BODY_BYTES_MAX} bytes, and must end"),
            )
        })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| Problem::invalid(format!("the body: {error}")))
    }
}

/// The body, one form.
pub(super) struct FromForm<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<State> for FromForm<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        let Form(values) = Form::from_request(request, state).await.map_err(|error| {
            let status = error.status();
            match status {
                StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(status, "the body must be a form"),
                StatusCode::PAYLOAD_TOO_LARGE => Problem::new(status, "the body is too long"),
                // What was sent may be a secret: nothing of it is said again.
                _ => Problem::invalid("the form lacks something, or has more than it may, or does not read"),
            }
        })?;
        Ok(Self(values))
    }
}

/// Words of a person, without the space around them.
///
/// # Errors
/// [`Kind::Invalid`] if there are none, too many, or characters that control how a text is shown.
pub(super) fn words(name: &'static str, text: String, chars_max: usize) -> Result<String> {
    let trimmed = text.trim();
    exactly(name, if trimmed.len() == text.len() { text } else { trimmed.to_owned() }, chars_max)
}

/// Words as they were said, with the space around them: what a recorder signed is looked for as it is.
///
/// # Errors
/// [`Kind::Invalid`] if there are none, too many, or characters that control how a text is shown.
pub(super) fn exactly(name: &'static str, text: String, chars_max: usize) -> Result<String> {
    if text.is_empty() || text.chars().count() > chars_max || text.contains(controls) {
        let text = format!("{name} needs 1 to {chars_max} characters, none of which controls how a text is shown");
        return Err(Error::new(Kind::Invalid, text));
    }
    Ok(text)
}

/// Reads a recorder's identifier.
///
/// # Errors
/// [`Kind::Invalid`] if it is not 32 lower-case hexadecimal digits.
pub(super) fn recorder_id(text: &str) -> Result<RecorderId> {
    text.parse().map_err(|_| Error::new(Kind::Invalid, "a recorder's id has 32 lower-case hexadecimal digits"))
}

/// Characters of a recorder's identifier.
const RECORDER_CHARS: usize = 32;

/// The recorder that a thing is named after: its own identifier, or that of something that belongs to it.
pub(super) fn recorder_of(name: &str) -> Option<RecorderId> {
    name.get(..RECORDER_CHARS).and_then(|id| recorder_id(id).ok())
}

/// The recorders that a text names anywhere.
pub(super) fn recorders_in(text: &str) -> Vec<RecorderId> {
    text.to_ascii_lowercase().split(|c: char| !c.is_ascii_hexdigit()).filter_map(recorder_of).collect()
}

/// The files that a playlist names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaFile {
    /// `init-{sequence}.mp4`: the initialisation segment in the `Start` link with this sequence.
    Init(Sequence),
    /// `seg-{sequence}.m4s`: the segment in the `Media` link with this sequence.
    Segment(Sequence),
}

impl MediaFile {
    /// Reads the name of a file: exactly the two forms, the number in decimal without leading zeros.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for every other name.
    pub(super) fn parse(name: &str) -> Result<Self> {
        let number = |prefix: &str, suffix: &str| {
            let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
            digits.parse::<Sequence>().ok().filter(|number| number.to_string() == digits)
        };
        number("init-", ".mp4")
            .map(Self::Init)
            .or_else(|| number("seg-", ".m4s").map(Self::Segment))
            .ok_or_else(|| Error::new(Kind::NotFound, "there are init-{sequence}.mp4 and seg-{sequence}.m4s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_forms_are_files() {
        assert_eq!(MediaFile::parse("init-0.mp4").unwrap(), MediaFile::Init(0));
        assert_eq!(MediaFile::parse("seg-18446744073709551615.m4s").unwrap(), MediaFile::Segment(u64::MAX));
        for name in [
            "",
            "seg-.m4s",
            "seg-01.m4s",
            "seg-+1.m4s",
            "seg--1.m4s",
            "seg-1.mp4",
            "init-1.m4s",
            "../seg-1.m4s",
            "seg-1.m4s/",
            "seg-1.m4s\0",
            "SEG-1.m4s",
            "seg-18446744073709551616.m4s",
            "seg-١.m4s",
        ] {
            assert_eq!(MediaFile::parse(name).unwrap_err().kind(), Kind::NotFound, "{name}");
        }
    }
}
