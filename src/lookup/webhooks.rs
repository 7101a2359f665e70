//! `/v1/webhooks`: where events are sent as they happen. For administrators of the whole site: what is sent is not narrowed to anybody's
//! departments, only never of what is sealed.

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use super::problem::Problem;
use super::request::{self, FromJson, FromPath};
use super::state::State;
use super::time;
use super::viewer::{Administer, Viewer};
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::records::{Act, AuditRecord, Event, Occurrence, WebhookRecord};
use crate::webhook::{Made, Removed, Standing, WEBHOOKS_MAX, origin, sign};

/// Bytes of a secret that is made here.
const SECRET_BYTES: usize = 32;
/// Longest name and longest address, bytes; longest department, characters.
const NAME_BYTES_MAX: usize = 64;
const URL_BYTES_MAX: usize = 1_000;
const DEPARTMENT_CHARS_MAX: usize = 100;
/// What is said of a webhook that is not there.
const ABSENT: &str = "there is no such webhook";

/// A webhook that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "cad", "url": "https://cad.example.kz/aigaq", "kinds": ["mark", "incident"], "department": "Astana" }))]
pub(super) struct NewWebhook {
    /// What it is called: letters, digits, hyphens and underscores, at most 64.
    name: String,
    /// Where it listens: https, or http where the configuration allows it.
    url: String,
    /// Only these kinds of events; without it, all.
    #[serde(default)]
    kinds: Vec<String>,
    /// Only events of this department.
    department: Option<String>,
    /// Begin after the event with this number; without it, with what happens next.
    after: Option<u64>,
}

/// Where to go on from.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "after": 4711 }))]
pub(super) struct Replay {
    /// The number of an event: what came after it is sent, again if it was sent before.
    after: u64,
}

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookDocument {
    /// What it is called.
    name: String,
    /// Where it listens; of one of the configuration the beginning.
    url: String,
    /// Only these kinds of events; all if there are none.
    kinds: Vec<String>,
    /// Only events of this department.
    #[serde(skip_serializing_if = "Option::is_none")]
    department: Option<String>,
    /// Whether it comes from the configuration.
    configured: bool,
    /// When it was made, RFC 3339 UTC.
    made_at: String,
    /// By whom.
    made_by: String,
    /// The number of the last event that it has taken, or does not want.
    cursor: u64,
    /// That its messages do not arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing: Option<FailingDocument>,
    /// What its messages are signed with (Standard Webhooks); shown once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// That messages do not arrive.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FailingDocument {
    /// Since when, RFC 3339 UTC.
    since: String,
    /// Attempts since then.
    attempts: u64,
    /// What went wrong last.
    why: String,
}

/// Webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookList {
    /// By name.
    webhooks: Vec<WebhookDocument>,
}

/// The webhooks, and how far each is.
#[utoipa::path(get, operation_id = "list_webhooks", path = "/v1/webhooks", tag = "events",
    responses((status = 200, body = WebhookList), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(viewer: Viewer, Shared(state): Shared<State>) -> Result<Json<WebhookList>, Problem> {
    let scope = viewer.whole::<Administer>().await?;
    let webhooks = state.webhooks(&scope)?;
    let webhooks = scope.evidence().ask(move |_| Ok(webhooks.list())).await?;
    Ok(Json(WebhookList { webhooks: webhooks.into_iter().map(document).collect() }))
}

/// Has events sent to an address, each as one JSON object like those of `/v1/events`, signed as Standard Webhooks says, in their order, again
/// and again until it answers with a status of 2xx.
#[utoipa::path(post, operation_id = "make_webhook", path = "/v1/webhooks", tag = "events", request_body = NewWebhook,
    responses((status = 201, description = "It is made; its secret is shown this once", body = WebhookDocument),
        (status = 409, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn make(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromJson(new): FromJson<NewWebhook>,
) -> Result<Response, Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if new.name.is_empty() || new.name.len() > NAME_BYTES_MAX || !new.name.chars().all(plain) {
        return Err(Problem::invalid(format!(
            "name needs 1 to {NAME_BYTES_MAX} letters, digits, hyphens and underscores"
        )));
    }
    let url = address(&new.url)?;
    for kind in &new.kinds {
        if !Occurrence::NAMES.contains(&kind.as_str()) {
            return Err(Problem::invalid(format!("kinds must be of {}", Occurrence::NAMES.join(", "))));
        }
    }
    let department = new.department.map(|name| request::words("department", name, DEPARTMENT_CHARS_MAX)).transpose()?;
    let scope = viewer.whole::<Administer>().await?;
    let mut secret = vec![0; SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut secret).context(Kind::Internal, "no random bytes are to be had")?;
    let webhooks = state.webhooks(&scope)?;
    let made = Act { at: state.clock.now(), by: viewer.actor().to_owned(), reason: String::new() };
    let action = format!("make the webhook {} to {}", new.name, origin(url.as_str()));
    let entry = AuditRecord { at: made.at, ..viewer.entry(Event::Configuration, action) };
    let after = new.after;
    let made = scope.evidence().ask(move |store| {
        let record = WebhookRecord {
            name: new.name,
            url: url.into(),
            secret,
            kinds: new.kinds,
            department,
            configured: false,
            made,
            cursor: after.unwrap_or_else(|| *store.watch_feed().borrow()),
        };
        Ok((webhooks.make(record.clone(), &entry)?, record))
    });
    match made.await? {
        (Made::Done, record) => {
            let secret = Some(sign::shown(&record.secret));
            let document = WebhookDocument { secret, ..document(Standing { record, failing: None }) };
            let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            Ok((StatusCode::CREATED, no_store, Json(document)).into_response())
        }
        (Made::Taken, _) => Err(Problem::new(StatusCode::CONFLICT, "there is a webhook with this name")),
        (Made::TooMany, _) => {
            Err(Problem::new(StatusCode::CONFLICT, format!("there are {WEBHOOKS_MAX} webhooks already")))
        }
    }
}

/// Takes a webhook away.
#[utoipa::path(delete, operation_id = "remove_webhook", path = "/v1/webhooks/{name}", tag = "events",
    params(("name" = String, Path, description = "Webhook")),
    responses((status = 204, description = "It is gone"), (status = 409, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn remove(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(name): FromPath<String>,
) -> Result<StatusCode, Problem> {
    let scope = viewer.whole::<Administer>().await?;
    let webhooks = state.webhooks(&scope)?;
    let entry = viewer.entry(Event::Configuration, format!("remove the webhook {name}"));
    let entry = AuditRecord { at: state.clock.now(), ..entry };
    match scope.evidence().ask(move |_| webhooks.remove(&name, &entry)).await? {
        Removed::Done => Ok(StatusCode::NO_CONTENT),
        Removed::Missing => Err(absent().into()),
        Removed::Configured => {
            Err(Problem::new(StatusCode::CONFLICT, "the webhook comes from the configuration: take it out there"))
        }
    }
}

/// Has a webhook go on from another place, behind or ahead of where it is.
#[utoipa::path(post, operation_id = "replay_webhook", path = "/v1/webhooks/{name}/replay", tag = "events",
    params(("name" = String, Path, description = "Webhook")), request_body = Replay,
    responses((status = 200, description = "It goes on from there", body = WebhookDocument),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn replay(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(name): FromPath<String>,
    FromJson(wanted): FromJson<Replay>,
) -> Result<Json<WebhookDocument>, Problem> {
    let scope = viewer.whole::<Administer>().await?;
    let webhooks = state.webhooks(&scope)?;
    let entry = viewer.entry(Event::Configuration, format!("have the webhook {name} go on after {}", wanted.after));
    let entry = AuditRecord { at: state.clock.now(), ..entry };
    let standing = scope.evidence().ask(move |_| webhooks.replay(&name, wanted.after, &entry));
    Ok(Json(document(standing.await?.ok_or_else(absent)?)))
}

fn absent() -> Error {
    Error::new(Kind::NotFound, ABSENT)
}

/// An address that can be one; whether it may be reached is decided each time that it is.
fn address(text: &str) -> Result<Url> {
    let wrong = || {
        Error::new(
            Kind::Invalid,
            "url must be an address with https or http, at most 1000 bytes, without a user or a fragment",
        )
    };
    let url: Url =
        Some(text).filter(|text| text.len() <= URL_BYTES_MAX).and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    let fine = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    if fine { Ok(url) } else { Err(wrong()) }
}

fn document(standing: Standing) -> WebhookDocument {
    let Standing { record, failing } = standing;
    let WebhookRecord { name, url, kinds, department, configured, made, cursor, .. } = record;
    let failing = failing.map(|failing| FailingDocument {
        since: time::format(failing.since),
        attempts: failing.attempts,
        why: failing.why,
    });
    WebhookDocument {
        name,
        url: if configured { origin(&url) } else { url },
        kinds,
        department,
        configured,
        made_at: time::format(made.at),
        made_by: made.by,
        cursor,
        failing,
        secret: None,
    }
}
