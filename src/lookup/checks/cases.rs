//! `/v1/checks/cases`: the library of situational cases. A version is named by the digest of its canonical JSON, which is in the log before
//! the version is used; nothing changes it afterwards.

use aigaq_proto::Digest;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::{PageQuery, digest};
use crate::error::{Error, Kind, Result};
use crate::integrity::case::{self, Case};
use crate::lookup::State;
use crate::lookup::holds::{ActDocument, act_document};
use crate::lookup::problem::Problem;
use crate::lookup::request::{FromJson, FromPath, FromQuery};
use crate::lookup::viewer::{Check, Viewer};
use crate::store::Store;
use crate::store::records::{Act, CaseRecord, Event};

/// A version of a case.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct CaseDocument {
    /// SHA-256 of its canonical JSON (RFC 8785): its name.
    digest: String,
    /// The case.
    case: Case,
    /// Who added it and when.
    added: ActDocument,
    /// Number of the audit entry that has its digest.
    entry: u64,
    /// Index of that entry in the log; a version without one is not used yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_index: Option<u64>,
}

/// A version of a case, in short.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct CaseSummary {
    /// SHA-256 of its canonical JSON: its name.
    digest: String,
    /// What people call it.
    name: String,
    /// Who added it and when.
    added: ActDocument,
}

/// A page of the library.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct CasePage {
    /// By digest.
    cases: Vec<CaseSummary>,
    /// Cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Adds a version of a case. The same again is the same.
#[utoipa::path(post, operation_id = "add_case", path = "/v1/checks/cases", tag = "checks",
    request_body(content = Case, example = json!({
        "name": "money in the papers",
        "text": { "kk": "Жүргізуші құжаттарын ішіне ақша салып береді.", "ru": "Водитель подаёт документы с деньгами внутри.",
            "en": "A driver hands over his papers with money in them." },
        "options": [
            { "id": "refused-and-reported", "text": { "kk": "бас тартты, хабарлады", "ru": "отказался и сообщил", "en": "refused and reported" } },
            { "id": "took", "text": { "kk": "алды", "ru": "взял", "en": "took it" } }],
        "criteria": [
            { "id": "courtesy", "weight": 1, "measure": { "points": { "max": 5, "bound": 1 } },
                "text": { "kk": "әдептілік", "ru": "вежливость", "en": "courtesy" } },
            { "id": "appeal", "weight": 3, "measure": { "response-time": { "target_s": 300, "bound_s": 10 } },
                "text": { "kk": "өтінішке жауап", "ru": "ответ на обращение", "en": "answer to the appeal" } }]
    })),
    responses((status = 201, description = "It is in the library", body = CaseDocument),
        (status = 200, description = "It was there before", body = CaseDocument),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn add_case(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromJson(new): FromJson<Case>,
) -> Result<Response, Problem> {
    new.validate()?;
    let canonical = new.canonical()?;
    let digest = case::digest(&canonical);
    let added = Act { at: state.clock.now(), by: viewer.actor().to_owned(), reason: String::new() };
    let mut entry = viewer.entry(Event::Check, format!("add case {digest}")).about(digest.to_string());
    (entry.at, entry.content) = (added.at, Some(digest));
    let record = CaseRecord { canonical, added, entry: 0 };
    let scope = viewer.over::<Check>().await?;
    let (document, is_new) = scope
        .evidence()
        .ask(move |store| {
            let (record, is_new) = store.add_case(digest, &record, &entry)?;
            Ok((document(store, digest, record)?, is_new))
        })
        .await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let place = [(header::LOCATION, format!("/v1/checks/cases/{digest}"))];
    Ok((status, place, Json(document)).into_response())
}

/// The library, a page at a time.
#[utoipa::path(get, operation_id = "list_cases", path = "/v1/checks/cases", tag = "checks", params(PageQuery),
    responses((status = 200, body = CasePage), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn list_cases(
    viewer: Viewer,
    FromQuery(query): FromQuery<PageQuery>,
) -> Result<Json<CasePage>, Problem> {
    let limit = query.limit()?;
    let after = query.cursor.as_deref().map(|cursor| digest("cursor", cursor)).transpose()?;
    let scope = viewer.over::<Check>().await?;
    let page = scope.evidence().ask(move |store| {
        let mut page = CasePage { cases: Vec::new(), next: None };
        for case in store.cases(after) {
            let (digest, record) = case?;
            if page.cases.len() == limit {
                page.next = page.cases.last().map(|last| last.digest.clone());
                break;
            }
            let name = Case::read(&record.canonical)?.name;
            page.cases.push(CaseSummary { digest: digest.to_string(), name, added: act_document(record.added) });
        }
        Ok(page)
    });
    Ok(Json(page.await?))
}

/// A version of a case.
#[utoipa::path(get, operation_id = "case", path = "/v1/checks/cases/{digest}", tag = "checks",
    params(("digest" = String, Path, description = "SHA-256 of its canonical JSON")),
    responses((status = 200, body = CaseDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn case(
    viewer: Viewer,
    FromPath(named): FromPath<String>,
) -> Result<Json<CaseDocument>, Problem> {
    let named = digest("digest", &named)?;
    let scope = viewer.over::<Check>().await?;
    let document = scope.evidence().ask(move |store| {
        let record = store.case(named)?.ok_or_else(|| Error::new(Kind::NotFound, "there is no such case"))?;
        document(store, named, record)
    });
    Ok(Json(document.await?))
}

fn document(store: &Store, digest: Digest, record: CaseRecord) -> Result<CaseDocument> {
    Ok(CaseDocument {
        digest: digest.to_string(),
        case: Case::read(&record.canonical)?,
        added: act_document(record.added),
        entry: record.entry,
        log_index: store.audit_leaf(record.entry)?.map(|leaf| leaf.log_index),
    })
}
