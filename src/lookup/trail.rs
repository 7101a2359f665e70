//! `GET /v1/audit`: who did what, when, from where, why, and what came of it; and the proof that the log has an entry.
//!
//! Asking is an entry itself, which is durable before the page is read. A page is made from at most so many entries, so that a
//! filter that matches nothing does not read the whole trail at once.

use aigaq_proto::{Digest, RecorderId, receipt, statement};
use axum::Json;
use axum::extract::State as Shared;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{FromPath, FromQuery, recorder_of, recorders_in};
use super::viewer::{Audit, Glance, Scope, Viewer};
use super::{State, checks, incidents, time};
use crate::error::{Error, Kind, Result};
use crate::integrity::check::{self, Part};
use crate::store::records::{self, AuditRecord, Event, LeafRecord};
use crate::store::{Direction, Store};

/// Entries on a page when nothing else is asked for, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Entries that are looked through for one page at most; a page may be short and still have a next one.
const SCANNED_MAX: usize = 20_000;
/// What is said of an entry that is not there, or not for the one who asks.
const ABSENT: &str = "there is no such entry";

/// Which entries are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those about this object, such as the id of a recorder.
    object: Option<String>,
    /// Only those of this actor, such as `token:anna`.
    actor: Option<String>,
    /// Only those of this kind, such as `view` or `denial`.
    event: Option<String>,
    /// Only those not before this time, RFC 3339 UTC.
    from: Option<String>,
    /// Only those before this time.
    to: Option<String>,
    /// `next` of the page before.
    cursor: Option<u64>,
    /// Most entries on the page, 1 to 1000; 100 if not given.
    limit: Option<usize>,
}

/// An entry of the audit trail.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditDocument {
    /// Its place in the trail, from 1; who does not see every entry sees gaps.
    number: u64,
    /// When, RFC 3339 UTC.
    at: String,
    /// What kind of thing.
    event: &'static str,
    /// Who.
    actor: String,
    /// From where.
    source: String,
    /// About what; may be empty.
    object: String,
    /// What: method and path, or words.
    action: String,
    /// Why; may be empty.
    reason: String,
    /// SHA-256 of what the entry speaks of, where that is a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// What came of it.
    outcome: String,
    /// Index in the log; not there for about a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_index: Option<u64>,
}

/// A page of the audit trail.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditPage {
    /// In the order in which they were written.
    entries: Vec<AuditDocument>,
    /// Cursor of the next page, if there is more to look through; a page may be short.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// That the log has an entry of the audit trail.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditProof {
    /// Its place in the trail.
    number: u64,
    /// The entry as it is stored, base64: SPEC.md section 10 says how its digest is made.
    entry: String,
    /// Its leaf in the log, 40 bytes, base64.
    leaf: String,
    /// Index in the log.
    log_index: u64,
    /// Inclusion proof with a signed checkpoint: C2SP tlog-proof.
    proof: String,
}

struct Filter {
    object: Option<String>,
    actor: Option<String>,
    event: Option<Event>,
    from: u64,
    to: u64,
}

impl Filter {
    fn takes(&self, entry: &AuditRecord) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&self.object, &entry.object)
            && is(&self.actor, &entry.actor)
            && self.event.is_none_or(|event| event == entry.event)
            && (self.from..self.to).contains(&entry.at)
    }
}

/// What was done with the evidence, by whom and why. Asking is itself an entry.
#[utoipa::path(get, operation_id = "list_audit", path = "/v1/audit", tag = "audit", params(ListQuery),
    responses((status = 200, body = AuditPage), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(viewer: Viewer, FromQuery(query): FromQuery<ListQuery>) -> Result<Json<AuditPage>, Problem> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::invalid(format!("limit must be from 1 to {PAGE_MAX}")));
    }
    let event = match query.event {
        Some(name) => Some(Event::named(&name).ok_or_else(|| {
            let names: Vec<_> = Event::ALL.iter().map(|event| event.name()).collect();
            Problem::invalid(format!("event must be one of {}", names.join(", ")))
        })?),
        None => None,
    };
    let filter = Filter {
        object: query.object,
        actor: query.actor,
        event,
        from: query.from.map_or(Ok(0), |from| time::parse("from", &from))?,
        to: query.to.map_or(Ok(u64::MAX), |to| time::parse("to", &to))?,
    };
    let cursor = query.cursor.unwrap_or_default();
    let actor = viewer.actor().to_owned();
    let scope = viewer.over::<Audit>().await?;
    let evidence = scope.evidence().clone();
    let page = evidence.ask(move |store| {
        let mut glance = scope.glance();
        let first = store.first_audit_at(filter.from)?.max(cursor);
        let mut entries = Vec::new();
        for (scanned, entry) in store.audit_numbers(first..u64::MAX, Direction::Forward).enumerate() {
            let entry = entry?;
            if entry.at >= filter.to {
                break;
            }
            if entries.len() >= limit || scanned >= SCANNED_MAX {
                return Ok(AuditPage { entries, next: Some(entry.number) });
            }
            if filter.takes(&entry) && is_seen(store, &scope, &mut glance, &entry, &actor)? {
                let leaf = store.audit_leaf(entry.number)?;
                entries.push(document(entry, leaf));
            }
        }
        Ok(AuditPage { entries, next: None })
    });
    Ok(Json(page.await?))
}

/// The proof that the log has an entry.
#[utoipa::path(get, operation_id = "audit_proof", path = "/v1/audit/{number}/proof", tag = "audit",
    params(("number" = u64, Path, description = "Place in the trail")),
    responses((status = 200, body = AuditProof), (status = 404, response = Problem),
        (status = 503, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn proof(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(number): FromPath<u64>,
) -> Result<Json<AuditProof>, Problem> {
    let log = state.log;
    let actor = viewer.actor().to_owned();
    let theirs = move |store: &Store, scope: &Scope<Audit>| match store.audit_entry(number)? {
        Some((stored, _)) => is_seen(store, scope, &mut scope.glance(), &records::decode(&stored, "audit")?, &actor),
        None => Ok(true),
    };
    let scope = viewer.over_if(ABSENT, theirs).await?;
    let proof = scope.evidence().ask(move |store| {
        let absent = || Error::new(Kind::NotFound, ABSENT);
        let (stored, leaf) = store.audit_entry(number)?.ok_or_else(absent)?;
        let record: AuditRecord = records::decode(&stored, "audit")?;
        let leaf =
            leaf.ok_or_else(|| Error::new(Kind::Busy, "the entry is not in the log yet: ask again in a second"))?;
        let of_log = receipt::entry(&statement::digest(&stored), record.at);
        let proof = log.tlog_proof(&of_log, leaf.log_index, &log.tree_with(leaf.log_index)?)?;
        Ok(AuditProof {
            number,
            entry: BASE64.encode(&stored),
            leaf: BASE64.encode(&of_log),
            log_index: leaf.log_index,
            proof,
        })
    });
    Ok(Json(proof.await?))
}

/// Whether an entry is for the one who asks: for whoever audits the whole site each that is about no recorder which is kept from them,
/// for others those about recorders of their departments, and about no others beside them, and of whole days of footage.
fn is_seen(
    store: &Store,
    scope: &Scope<Audit>,
    glance: &mut Glance<'_, Audit>,
    entry: &AuditRecord,
    actor: &str,
) -> Result<bool> {
    if entry.event == Event::Check {
        return is_seen_of_check(store, scope, entry, actor);
    }
    // What is said of a whole day of footage is about everybody's, names nobody, and is what a deleted payload is answered with.
    if matches!(entry.event, Event::Deletion | Event::KeyDestruction) && entry.object.is_empty() {
        return Ok(true);
    }
    let named: Vec<Option<RecorderId>> = entry.object.split(' ').map(recorder_of).collect();
    if scope.sees_all() {
        // A cursor names one, too.
        let plain = percent_encoding::percent_decode_str(&entry.action).decode_utf8_lossy();
        for id in named.into_iter().flatten().chain(recorders_in(&plain)) {
            if glance.hides(store, id)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    if let Ok(number) = incidents::number_of(&entry.object) {
        return Ok(store.incident(number)?.is_some_and(|of| scope.sees_department(&of.call.department)));
    }
    let ids: Option<Vec<RecorderId>> = named.into_iter().collect();
    ids.map_or(Ok(false), |ids| glance.sees_each(store, &ids))
}

/// Whether an entry about an integrity check is for the one who asks: for inspectors of its department; for those who score it, what they did
/// themselves, until it is closed.
fn is_seen_of_check(store: &Store, scope: &Scope<Audit>, entry: &AuditRecord, actor: &str) -> Result<bool> {
    let Ok(id) = checks::check_id(&entry.object) else { return Ok(scope.inspects_all()) };
    if let Some(check) = store.check(id)? {
        let is_blind = check.closed_at.is_none() && check::part(&check, actor) != Part::Other;
        return Ok(scope.inspects(&check.department) && (!is_blind || entry.actor == actor));
    }
    Ok(store.draw(id)?.map_or_else(|| scope.inspects_all(), |draw| scope.inspects(&draw.department)))
}

fn document(entry: AuditRecord, leaf: Option<LeafRecord>) -> AuditDocument {
    AuditDocument {
        number: entry.number,
        at: time::format(entry.at),
        event: entry.event.name(),
        actor: entry.actor,
        source: entry.source,
        object: entry.object,
        action: entry.action,
        reason: entry.reason,
        content: entry.content.map(|content: Digest| content.to_string()),
        outcome: entry.outcome,
        log_index: leaf.map(|leaf| leaf.log_index),
    }
}
