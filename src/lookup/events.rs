//! `GET /v1/events`: what happens, as it happens, as server-sent events.
//!
//! A stream is a reader of the store's feed with a place in it: nothing is queued for a console, so that one that reads slowly costs
//! nothing and misses nothing, and one that was away goes on where it was (`Last-Event-ID`, which browsers send by themselves). What
//! the feed no longer has is said to be missing. A stream ends after a while, so that whoever may no longer see it does not go
//! on to; coming back is an audit entry of its own. Nothing is sent at the moment of what is not told: where to go on after it is said with
//! the next thing that is, at a fixed beat, or at the end.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aigaq_proto::RecorderId;
use axum::extract::State as Shared;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};

use super::categories::Categories;
use super::problem::Problem;
use super::request::{FromQuery, recorder_id};
use super::viewer::{Find, Scope, Viewer};
use super::{State, marks, time};
use crate::access::Class;
use crate::error::{Context as _, Error, Kind, Result};
use crate::fleet::Fleet;
use crate::http::Followed;
use crate::incident::object;
use crate::store::Store;
use crate::store::records::{FeedRecord, MarkPlace, Occurrence, Raiser, RecorderRecord, WebhookRecord};
use crate::webhook::Render;

/// Streams at once, and those of one who follows.
const STREAMS_MAX: usize = 256;
const OF_ONE_MAX: usize = 32;
/// After so long it is asked anew whether whoever follows is signed in.
const LOOK: Duration = Duration::from_secs(5);
/// How long one lasts.
const LASTS: Duration = Duration::from_secs(15 * 60);
/// After so much silence a comment is sent.
const SILENCE: Duration = Duration::from_secs(15);
/// The beat at which is said where to go on after what was not told.
const BEAT: Duration = Duration::from_secs(15);
/// When a client whose stream ended comes back.
const RETRY: Duration = Duration::from_secs(1);
/// Things that are read at once.
const PAGE: u64 = 256;
/// Where a client says what it has seen.
const LAST_EVENT_ID: &str = "last-event-id";

/// What is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Begin after the event with this number; without it and without `Last-Event-ID`, with what happens next.
    after: Option<u64>,
    /// Only these kinds, separated by commas: `started`, `connected`, `disconnected`, `dark`, `light`, `mark`, `fork`, `quarantine`, `forgotten`, `incident`.
    kinds: Option<String>,
    /// Only of this recorder.
    recorder: Option<String>,
    /// Only of recorders of this department.
    department: Option<String>,
    /// `false`: end with what has happened so far.
    follow: Option<bool>,
}

/// Something that happened: the `data` of an event, whose `event` is its kind and whose `id` its number.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventDocument {
    /// Its number; the next thing that happens has the next one.
    number: u64,
    /// When, RFC 3339 UTC, the server's clock.
    at: String,
    /// What kind of thing.
    kind: &'static str,
    /// To which recorder; not there for what happens to the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorder: Option<EventRecorder>,
    /// What else there is to say.
    #[serde(flatten)]
    what: EventDetail,
}

/// The recorder that something happened to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventRecorder {
    /// Its id.
    id: String,
    /// What people call it.
    label: String,
    /// Officer, vehicle or premises.
    kind: String,
    /// Where it belongs.
    department: String,
    /// Who had it when the thing happened; null for nobody.
    assignee: Option<String>,
}

/// What there is to say of some kinds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum EventDetail {
    /// `dark`.
    Dark {
        /// Why, as the coverage says.
        cause: String,
    },
    /// `mark`.
    Mark {
        /// The name of the mark.
        mark: String,
        /// Its place in the chain, if the recorder raised it.
        #[serde(skip_serializing_if = "Option::is_none")]
        sequence: Option<u64>,
        /// Which operator, if one raised it.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// When; by the device's clock, if the recorder raised it.
        captured_at: String,
        /// Its category.
        category: String,
        /// Whether somebody has to look at once.
        urgent: bool,
        /// Its text.
        note: String,
    },
    /// `incident`.
    Incident {
        /// Its name.
        incident: String,
        /// Its department.
        department: String,
        /// Where it stands.
        state: &'static str,
        /// What was done: `opened`, a transition, `searched`, `noted`, or `found`: more is known of the recorder that the event names.
        what: String,
    },
    /// `fork`.
    Fork {
        /// The sequence that two links claim.
        sequence: u64,
        /// Digest of the second.
        digest: String,
    },
    /// `quarantine`.
    Quarantine {
        /// The check that the link failed.
        reason: &'static str,
    },
    /// `forgotten`.
    Forgotten {
        /// The link of which the recorder holds a receipt, and which the server does not have.
        sequence: u64,
    },
    /// Everything else.
    Nothing {},
}

/// Events are gone: the `data` of an event `missed`.
#[derive(Debug, Serialize, ToSchema)]
struct Missed {
    /// What the client had seen last.
    after: u64,
    /// The next number that there is, or will be.
    next: u64,
}

/// The turns of those who follow: nobody gets all of them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Streams {
    all: Arc<Semaphore>,
    each: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// One turn, given back when dropped.
type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Default for Streams {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(STREAMS_MAX)), each: Arc::default() }
    }
}

impl Streams {
    fn take(&self, actor: &str) -> Result<Turn> {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has no stream is forgotten.
        each.retain(|_, turns| Arc::strong_count(turns) > 1);
        let turns = each.entry(actor.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(OF_ONE_MAX)));
        let own = Arc::clone(turns).try_acquire_owned();
        let own = own.map_err(|_| Error::new(Kind::Busy, format!("{actor} has {OF_ONE_MAX} streams already")))?;
        let of_all = Arc::clone(&self.all).try_acquire_owned();
        let of_all = of_all.map_err(|_| Error::new(Kind::Busy, "as many streams are open as there may be"))?;
        Ok((own, of_all))
    }
}

/// Which things are told.
#[derive(Default)]
struct Filter {
    kinds: Option<BTreeSet<&'static str>>,
    recorder: Option<RecorderId>,
    department: Option<String>,
}

impl Filter {
    fn of_webhook(webhook: &WebhookRecord) -> Self {
        let named = |name: &String| Occurrence::NAMES.into_iter().find(|known| known == name);
        let kinds = (!webhook.kinds.is_empty()).then(|| webhook.kinds.iter().filter_map(named).collect());
        Self { kinds, recorder: None, department: webhook.department.clone() }
    }

    fn of(query: &EventsQuery) -> Result<Self> {
        let named = |name: &str| {
            let known = Occurrence::NAMES.into_iter().find(|known| *known == name.trim());
            let names = || format!("kinds must be of {}", Occurrence::NAMES.join(", "));
            known.ok_or_else(|| Error::new(Kind::Invalid, names()))
        };
        let kinds = query.kinds.as_deref().map(|kinds| kinds.split(',').map(named).collect()).transpose()?;
        let recorder = query.recorder.as_deref().map(recorder_id).transpose()?;
        Ok(Self { kinds, recorder, department: query.department.clone() })
    }

    /// As far as it can be told without asking who the recorder is.
    fn takes(&self, record: &FeedRecord) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(record.what.name()))
            && self.recorder.is_none_or(|wanted| record.recorder == Some(wanted))
    }

    fn takes_department(&self, department: &str) -> bool {
        self.department.as_deref().is_none_or(|wanted| wanted == department)
    }
}

/// What happens, as it happens: server-sent events, each with its number as `id`, its kind as `event` and a JSON object as `data`.
/// `missed` says that events are gone which the client has not seen; it should read anew what it shows.
#[utoipa::path(get, operation_id = "follow_events", path = "/v1/events", tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<u64>, Header, description = "The last number that the client has seen")),
    responses((status = 200, description = "Events until the stream ends; come back with the last id", body = EventDocument,
        content_type = "text/event-stream", example = "id: 7\nevent: connected\ndata: {\"number\":7,\"kind\":\"connected\"}\n\n"),
        (status = 503, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn follow(
    viewer: Viewer,
    Shared(state): Shared<State>,
    headers: HeaderMap,
    FromQuery(query): FromQuery<EventsQuery>,
) -> Result<Response, Problem> {
    let filter = Arc::new(Filter::of(&query)?);
    let seen = headers.get(LAST_EVENT_ID).map(|value| {
        let number = value.to_str().ok().and_then(|value| value.parse().ok());
        number.ok_or_else(|| Error::new(Kind::Invalid, "Last-Event-ID must be the number of an event"))
    });
    let turn = state.streams.take(viewer.actor())?;
    let scope = viewer.over::<Find>().await?;
    let news = scope.evidence().ask(|store| Ok(store.watch_feed())).await?;
    let after = seen.transpose()?.or(query.after).unwrap_or_else(|| *news.borrow());
    let follower = Follower {
        scope,
        fleet: state.fleet.clone(),
        categories: Arc::clone(&state.categories),
        filter,
        after,
        news,
        said: after,
        ready: VecDeque::from([Event::default().retry(RETRY).id(after.to_string())]),
        beat: Instant::now() + BEAT,
        until: Instant::now() + LASTS,
        follow: query.follow.unwrap_or(true),
        closing: state.closing.clone(),
        _turn: turn,
    };
    let events = stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(SILENCE)).into_response();
    response.extensions_mut().insert(Followed);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Somebody's place in the feed.
struct Follower {
    scope: Scope<Find>,
    fleet: Fleet,
    categories: Arc<Categories>,
    filter: Arc<Filter>,
    after: u64,
    /// Where the client knows that it goes on.
    said: u64,
    news: watch::Receiver<u64>,
    ready: VecDeque<Event>,
    beat: Instant,
    until: Instant,
    follow: bool,
    closing: CancellationToken,
    _turn: Turn,
}

impl Follower {
    /// The next event; `None` when the stream ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.news.mark_unchanged();
            let now = Instant::now();
            if now >= self.until {
                return self.say();
            }
            if now >= self.beat {
                self.beat = now + BEAT;
                let place = self.say();
                self.ready.extend(place);
                continue;
            }
            // Before each page, so that nobody is told of anything who is signed in no more.
            let read = match self.scope.holds().await {
                Ok(true) => self.read().await,
                Ok(false) => return None,
                Err(error) => Err(error),
            };
            match read {
                Ok(true) => {}
                Ok(false) if !self.follow => return self.say(),
                Ok(false) => tokio::select! {
                    changed = self.news.changed() => if changed.is_err() { return self.say() },
                    () = tokio::time::sleep(LOOK) => {}
                    () = tokio::time::sleep_until(self.beat.min(self.until)) => {}
                    () = self.closing.cancelled() => return self.say(),
                },
                Err(error) => {
                    tracing::error!(%error, "a stream of events ends: the feed cannot be read");
                    return None;
                }
            }
        }
    }

    /// Where to go on after what was not told, unless that was said.
    fn say(&mut self) -> Option<Event> {
        let is_news = std::mem::replace(&mut self.said, self.after) != self.after;
        is_news.then(|| Event::default().id(self.after.to_string()))
    }

    /// Reads on; whether there was anything.
    async fn read(&mut self) -> Result<bool> {
        let (after, filter, fleet) = (self.after, Arc::clone(&self.filter), self.fleet.clone());
        let (scope, categories) = (self.scope.clone(), Arc::clone(&self.categories));
        let (page, told) = self
            .scope
            .evidence()
            .ask(move |store| {
                let page = store.feed(after, PAGE)?;
                let eyes = Eyes {
                    recorder: &|known| scope.sees(known),
                    department: &|department| scope.sees_department(department),
                };
                let mut told = Vec::new();
                for record in page.records.iter().filter(|record| filter.takes(record)) {
                    told.extend(document(store, &fleet, &eyes, record, &filter, &categories)?);
                }
                Ok(((page.missed, page.next), told))
            })
            .await?;
        let (missed, next) = page;
        if missed {
            let first = told.first().map_or(next + 1, |document| document.number);
            self.ready
                .push_back(Event::default().event("missed").json_data(Missed { after, next: first }).map_err(json)?);
        }
        for document in told {
            self.said = document.number;
            let event = Event::default().id(document.number.to_string()).event(document.kind);
            self.ready.push_back(event.json_data(document).map_err(json)?);
        }
        self.after = next;
        Ok(next != after)
    }
}

fn json(error: axum::Error) -> Error {
    Error::new(Kind::Internal, "an event has no JSON form").because(error)
}

/// What the one who is told may know of.
struct Eyes<'a> {
    recorder: &'a dyn Fn(&RecorderRecord) -> bool,
    department: &'a dyn Fn(&str) -> bool,
}

/// What webhooks are sent: what consoles are told, of all departments, and never of what is sealed.
#[must_use]
pub fn renderer(state: &State) -> Render {
    let (fleet, access, categories) = (state.fleet.clone(), state.access.clone(), Arc::clone(&state.categories));
    Arc::new(move |store, record, webhook| {
        let filter = Filter::of_webhook(webhook);
        if !filter.takes(record) {
            return Ok(None);
        }
        let eyes = Eyes { recorder: &|known| access.class_of(known) < Class::Sealed, department: &|_| true };
        let document = document(store, &fleet, &eyes, record, &filter, &categories)?;
        let json = |document| serde_json::to_vec(&document).context(Kind::Internal, "an event has no JSON form");
        document.map(json).transpose()
    })
}

/// What is told of a thing; nothing if it is not wanted, or not for this person.
fn document(
    store: &Store,
    fleet: &Fleet,
    eyes: &Eyes<'_>,
    record: &FeedRecord,
    filter: &Filter,
    categories: &Categories,
) -> Result<Option<EventDocument>> {
    let recorder = match record.recorder {
        Some(id) => {
            let wanted = |known: &RecorderRecord| (eyes.recorder)(known) && filter.takes_department(&known.department);
            let Some(known) = store.recorder(id)?.filter(wanted) else { return Ok(None) };
            // A recorder may have come to another department since it was found for an incident.
            if let Occurrence::Incident { department, .. } = &record.what
                && !(eyes.department)(department)
            {
                return Ok(None);
            }
            Some(named(fleet, known, record)?)
        }
        None if !takes_without(record, eyes, filter) => return Ok(None),
        None => None,
    };
    Ok(Some(EventDocument {
        number: record.number,
        at: time::format(record.at),
        kind: record.what.name(),
        what: detail(record.recorder, &record.what, categories),
        recorder,
    }))
}

/// Whether something that happened to no recorder is wanted, and for this person.
fn takes_without(record: &FeedRecord, eyes: &Eyes<'_>, filter: &Filter) -> bool {
    match &record.what {
        Occurrence::Incident { department, .. } => (eyes.department)(department) && filter.takes_department(department),
        _ => filter.department.is_none(),
    }
}

fn named(fleet: &Fleet, known: RecorderRecord, record: &FeedRecord) -> Result<EventRecorder> {
    let at = match record.what {
        Occurrence::Mark { captured_at, .. } => captured_at,
        Occurrence::OperatorMark { place, .. } => place.at,
        _ => record.at,
    };
    let assignee = fleet.assigned_at(known.id, at)?.map(|assignment| assignment.assignee);
    let (id, kind) = (known.id.to_string(), known.kind.name().to_owned());
    Ok(EventRecorder { id, label: known.label, kind, department: known.department, assignee })
}

fn detail(recorder: Option<RecorderId>, what: &Occurrence, categories: &Categories) -> EventDetail {
    match what {
        Occurrence::Dark { reason } => EventDetail::Dark { cause: reason.clone() },
        Occurrence::Mark { sequence, captured_at, category, note } => {
            let recorder = recorder.unwrap_or(RecorderId([0; 16]));
            let place = MarkPlace { at: *captured_at, recorder, raiser: Raiser::Recorder(*sequence) };
            mark(place, None, category, note, categories)
        }
        Occurrence::OperatorMark { place, category, note, by } => {
            mark(*place, Some(by.clone()), category, note, categories)
        }
        Occurrence::Incident { number, department, state, what } => EventDetail::Incident {
            incident: object(*number),
            department: department.clone(),
            state: state.name(),
            what: what.clone(),
        },
        Occurrence::Fork { sequence, digest } => EventDetail::Fork { sequence: *sequence, digest: digest.to_string() },
        Occurrence::Quarantined { reason, .. } => EventDetail::Quarantine { reason: reason.name() },
        Occurrence::Forgotten { sequence } => EventDetail::Forgotten { sequence: *sequence },
        Occurrence::Started | Occurrence::Connected | Occurrence::Disconnected | Occurrence::Light => {
            EventDetail::Nothing {}
        }
    }
}

fn mark(place: MarkPlace, by: Option<String>, category: &str, note: &str, categories: &Categories) -> EventDetail {
    let sequence = match place.raiser {
        Raiser::Recorder(sequence) => Some(sequence),
        Raiser::Operator(_) => None,
    };
    EventDetail::Mark {
        mark: marks::name(place),
        sequence,
        by,
        captured_at: time::format(place.at),
        category: category.to_owned(),
        urgent: categories.is_urgent(category),
        note: note.to_owned(),
    }
}
