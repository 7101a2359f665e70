//! What the audit trail says of a request before anybody decides about it: what kind of thing, about what, why.

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use http::Method;
use http::request::Parts;

use super::State;
use crate::http::Source;
use crate::store::records::{AuditRecord, Event};

/// The header in which a client says why it asks.
const REASON: &str = "x-aigaq-reason";
/// Longest reason and longest object that are written down, characters.
const REASON_CHARS_MAX: usize = 500;
const OBJECT_CHARS_MAX: usize = 128;

/// The entry of a request that is granted to `actor`.
pub(super) async fn entry(parts: &mut Parts, state: &State, actor: &str) -> AuditRecord {
    let source = parts.extensions.get::<Source>().map_or_else(|| "unknown".to_owned(), |source| source.0.to_string());
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let action = format!("{} {path}", parts.method);
    let event = event(&parts.method, parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str));
    let reason = parts.headers.get(REASON).map(|reason| String::from_utf8_lossy(reason.as_bytes()).into_owned());
    let reason = reason.unwrap_or_default();
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
    AuditRecord::new(0, event, actor, &source, action).about(object(parts, state).await).because(reason)
}

/// The first parameter of the path: a recorder or the like; where the path has none, the recorder that the query asks for. Nothing where
/// neither names anything.
async fn object(parts: &mut Parts, state: &State) -> String {
    let of_path = RawPathParams::from_request_parts(parts, state).await.ok();
    let first = of_path.and_then(|named| named.iter().next().map(|(_, value)| value.to_owned()));
    let named = first.unwrap_or_else(|| of_query(parts.uri.query().unwrap_or_default()));
    named.chars().take(OBJECT_CHARS_MAX).collect()
}

/// The recorders that a query asks for, of which a request may have one.
fn of_query(query: &str) -> String {
    let named = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "recorder");
    let all: Vec<_> = named.map(|(_, value)| value.into_owned()).collect();
    all.join(" ")
}

/// Whether a route is about integrity checks: nothing of it is counted.
pub(super) fn is_sealed(route: &str) -> bool {
    route == "/v1/checks" || route.starts_with("/v1/checks/")
}

fn event(method: &Method, route: &str) -> Event {
    let shows = ["/hls/", "/live/", "/live.m3u8", "/clip.mp4", "/payload"];
    match () {
        // Whatever is asked about integrity checks is for inspectors alone.
        () if is_sealed(route) => Event::Check,
        () if *method != Method::GET && *method != Method::HEAD => Event::Request,
        () if route.ends_with("/bundle.zip") => Event::Export,
        () if shows.iter().any(|part| route.contains(part)) => Event::View,
        () => Event::LookUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_asks_for_a_recorder_is_about_it() {
        assert_eq!(of_query("from=1&recorder=%61b25&limit=2"), "ab25");
        assert_eq!(of_query("recorder=a&recorder=b"), "a b");
        assert_eq!(of_query("from=1&recorders=a") + &of_query(""), "");
    }

    #[test]
    fn what_shows_footage_is_a_view_and_what_changes_something_a_request() {
        for (method, route, expected) in [
            (Method::GET, "/v1/recorders", Event::LookUp),
            (Method::GET, "/v1/recorders/{id}/coverage", Event::LookUp),
            (Method::GET, "/v1/recorders/{id}/hls/{from}/{to}/{file}", Event::View),
            (Method::HEAD, "/v1/recorders/{id}/live.m3u8", Event::View),
            (Method::GET, "/v1/recorders/{id}/clip.mp4", Event::View),
            (Method::GET, "/v1/recorders/{id}/quarantine/{number}/payload", Event::View),
            (Method::GET, "/v1/exports/{id}/bundle.zip", Event::Export),
            (Method::POST, "/v1/pulls", Event::Request),
            (Method::POST, "/v1/checks", Event::Check),
            (Method::GET, "/v1/checks/{id}", Event::Check),
            (Method::GET, "/v1/statistics/checks", Event::LookUp),
        ] {
            assert_eq!(event(&method, route), expected, "{method} {route}");
        }
    }
}
