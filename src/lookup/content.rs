//! Bytes over HTTP: validators, conditional requests, single ranges (RFC 9110 sections 8.8.3, 13, 14) and bodies that
//! hold their room in memory until they are gone.
//!
//! An entity tag here is always strong: it is a digest of the very bytes. A range that cannot be read is ignored, as
//! the RFC says; one that lies outside is 416.

use std::convert::Infallible;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use aigaq_proto::Digest;

use super::problem::Problem;

/// Longest piece that a body hands out at once: what a slow reader can keep beyond the permits.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// Kept by the one who asked, and asked for again before it is shown: a clip grows with what arrives late, and each viewing is written
/// down, also where the bytes are the same.
pub(super) const ASKED_AGAIN: HeaderValue = HeaderValue::from_static("private, no-cache");

/// What a request for bytes wants to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing: it has the same already.
    Nothing,
    /// All of it.
    All,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that are not there.
    Outside,
}

/// Bytes that can be asked for, before any of them is read.
#[derive(Debug, Clone)]
pub(super) struct Content {
    /// Media type.
    pub(super) media_type: &'static str,
    /// What the entity tag is made of.
    pub(super) digest: Digest,
    /// Length, bytes.
    pub(super) length: u64,
}

impl Content {
    fn etag(&self) -> String {
        format!("\"{}\"", self.digest)
    }

    /// What the conditions and the range of a request come to.
    #[must_use]
    pub(super) fn wanted(&self, method: &Method, headers: &HeaderMap) -> Wanted {
        let etag = self.etag();
        if headers.get_all(header::IF_NONE_MATCH).iter().any(|value| matches_weakly(value, &etag)) {
            return Wanted::Nothing;
        }
        let whole = headers.get(header::IF_RANGE).is_some_and(|value| value.as_bytes() != etag.as_bytes());
        let mut ranges = headers.get_all(header::RANGE).iter();
        let range = match (ranges.next(), ranges.next()) {
            (Some(range), None) if method == Method::GET && !whole => range,
            _ => return Wanted::All,
        };
        range.to_str().ok().and_then(|text| parse_range(text, self.length)).unwrap_or(Wanted::All)
    }

    /// The answer without its body: status and headers for what is wanted.
    #[must_use]
    pub(super) fn answer(&self, wanted: &Wanted, body: Body) -> Response {
        let (status, length, range) = match wanted {
            Wanted::Nothing => (StatusCode::NOT_MODIFIED, None, None),
            Wanted::All => (StatusCode::OK, Some(self.length), None),
            Wanted::Part(part) => {
                let shown = format!("bytes {}-{}/{}", part.start, part.end.saturating_sub(1), self.length);
                (StatusCode::PARTIAL_CONTENT, Some(part.end - part.start), Some(shown))
            }
            Wanted::Outside => {
                let problem =
                    Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("there are {} bytes", self.length));
                let mut response = problem.into_response();
                insert(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{}", self.length));
                return response;
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, ASKED_AGAIN);
        insert(headers, header::ETAG, &self.etag());
        if let Some(length) = length {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        if let Some(range) = range {
            insert(headers, header::CONTENT_RANGE, &range);
        }
        response
    }
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    // Made of hexadecimal digits, decimal digits and fixed text: always a header value.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn matches_weakly(value: &HeaderValue, etag: &str) -> bool {
    let Ok(text) = value.to_str() else { return false };
    text.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// One range of bytes; `None` for what is to be ignored: other units, several ranges, malformed ones.
fn parse_range(text: &str, length: u64) -> Option<Wanted> {
    let (unit, range) = text.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let part = match (first, last) {
        ("", last) => length.saturating_sub(number(last)?)..length,
        (first, "") => number(first)?..length,
        (first, last) if number(first)? <= number(last)? => number(first)?..number(last)?.saturating_add(1).min(length),
        _ => return None,
    };
    Some(if part.start < part.end { Wanted::Part(part) } else { Wanted::Outside })
}

/// A body that is in memory and keeps its permit until its last piece was taken.
pub(super) struct Held {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Held {
    /// The body `bytes`, for which `room` was made.
    #[must_use]
    pub(super) fn new(bytes: Bytes, room: OwnedSemaphorePermit) -> Self {
        Self { bytes, _room: room }
    }

    /// The next piece, if there is one.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        let length = self.bytes.len().min(PIECE_BYTES_MAX);
        (length > 0).then(|| self.bytes.split_to(length))
    }
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.next_piece().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(pairs: &[(header::HeaderName, &str)]) -> Wanted {
        let content = Content { media_type: "video/mp4", digest: Digest::ZERO, length: 100 };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        content.wanted(&Method::GET, &headers)
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (text, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=10-", Wanted::Part(10..100)),
            ("bytes=-10", Wanted::Part(90..100)),
            ("bytes=-1000", Wanted::Part(0..100)),
            ("bytes=90-1000", Wanted::Part(90..100)),
            ("bytes=0-18446744073709551615", Wanted::Part(0..100)),
            ("bytes=100-", Wanted::Outside),
            ("bytes=-0", Wanted::Outside),
            ("bytes=5-4", Wanted::All),
            ("bytes=0-1,5-6", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=99999999999999999999-", Wanted::All),
            ("seconds=0-1", Wanted::All),
            ("bytes", Wanted::All),
            ("bytes=-", Wanted::All),
        ] {
            assert_eq!(wanted(&[(header::RANGE, text)]), expected, "{text}");
        }
    }

    #[test]
    fn an_entity_tag_is_compared() {
        let tag = format!("\"{}\"", Digest::ZERO);
        assert_eq!(wanted(&[(header::IF_NONE_MATCH, &tag)]), Wanted::Nothing);
        assert_eq!(wanted(&[(header::IF_NONE_MATCH, &format!("\"x\", W/{tag}"))]), Wanted::Nothing);
        assert_eq!(wanted(&[(header::IF_NONE_MATCH, "*")]), Wanted::Nothing);
        assert_eq!(wanted(&[(header::IF_NONE_MATCH, "\"x\"")]), Wanted::All);
        assert_eq!(wanted(&[(header::RANGE, "bytes=0-4"), (header::IF_RANGE, &tag)]), Wanted::Part(0..5));
        assert_eq!(wanted(&[(header::RANGE, "bytes=0-4"), (header::IF_RANGE, "\"x\"")]), Wanted::All);
    }
}
