//! What a request may say: path parameters, query parameters and the identifiers in them, each parsed once, strictly.
//!
//! Whatever does not parse becomes a problem document; nothing from a path reaches the store except as a typed value.

use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use serde::de::DeserializeOwned;

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

/// Reads a recorder's identifier.
///
/// # Errors
/// [`Kind::Invalid`] if it is not 32 lower-case hexadecimal digits.
pub(super) fn recorder_id(text: &str) -> Result<RecorderId> {
    text.parse().map_err(|_| Error::new(Kind::Invalid, "a recorder's id has 32 lower-case hexadecimal digits"))
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
