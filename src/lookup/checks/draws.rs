//! `/v1/checks/draws`: who is checked, drawn so that nobody chose it and everybody who may see it can draw again.
//!
//! First the digest of a seed and the roster, which the log takes in; then the seed. A draw whose seed is never shown stays in the list.

use std::sync::Arc;

use aigaq_proto::Digest;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{PageQuery, check_id, checked_by, digest, id_text, new_id};
use crate::error::{Error, Kind, Result};
use crate::integrity::{draw as drawing, said};
use crate::lookup::State;
use crate::lookup::holds::{ActDocument, act, act_document};
use crate::lookup::problem::Problem;
use crate::lookup::request::{FromJson, FromPath, FromQuery, words};
use crate::lookup::time;
use crate::lookup::viewer::{Check, Scope, Viewer};
use crate::store::records::{CheckId, DrawRecord, Event, RevealedRecord};
use crate::store::{Changed, Store};

/// What is said of a draw that is not there, or not for them.
const ABSENT: &str = "there is no such draw";

/// What a draw commits to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "department": "Astana", "roster": ["badge 4711", "badge 4712", "badge 4713"], "count": 1,
    "seed_digest": "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925", "reason": "plan of the first quarter"
}))]
pub(in crate::lookup) struct NewDraw {
    /// The department whose people are drawn.
    department: String,
    /// Who can be drawn; 1 to 2000 names, each once.
    #[schema(min_items = 1, max_items = 2000)]
    roster: Vec<String>,
    /// How many are drawn.
    #[schema(minimum = 1)]
    count: u32,
    /// SHA-256 of a seed of 32 random bytes, hexadecimal.
    seed_digest: String,
    /// Why; at most 500 characters.
    reason: String,
}

/// The seed of a draw.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "seed": "0000000000000000000000000000000000000000000000000000000000000000" }))]
pub(in crate::lookup) struct NewSeed {
    /// The 32 bytes whose digest was committed to, hexadecimal.
    seed: String,
}

/// A draw, with everything that it takes to draw again.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct DrawDocument {
    /// Its name.
    id: String,
    /// The department.
    department: String,
    /// How is drawn: proto/DRAW.md says it step by step.
    algorithm: &'static str,
    /// SHA-256 of the seed.
    seed_digest: String,
    /// Who can be drawn, sorted.
    roster: Vec<String>,
    /// SHA-256 of the roster: each name and a line feed.
    roster_digest: String,
    /// How many are drawn.
    count: u32,
    /// Who committed to it, when and why.
    committed: ActDocument,
    /// Number of the audit entry that has the digest of the commitment.
    entry: u64,
    /// Digest of the commitment: SHA-256 of its canonical JSON.
    commitment: String,
    /// Index of that entry in the log; without one no seed is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_index: Option<u64>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    revealed: Option<RevealedDocument>,
}

/// What came of a draw.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct RevealedDocument {
    /// The seed.
    seed: String,
    /// Size of the first tree of the log that has the commitment.
    tree_size: u64,
    /// Its root, hexadecimal.
    root: String,
    /// Who was drawn, in the order of the draw.
    drawn: Vec<String>,
    /// Those of them of whom there is no check by this draw.
    unchecked: Vec<String>,
    /// When the seed was shown, RFC 3339 UTC.
    at: String,
    /// By whom.
    by: String,
}

/// A draw, in short.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct DrawSummary {
    /// Its name.
    id: String,
    /// The department.
    department: String,
    /// How many are drawn.
    count: u32,
    /// Who committed to it, when and why.
    committed: ActDocument,
    /// Whether its seed was shown.
    is_revealed: bool,
}

/// A page of draws.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct DrawPage {
    /// In the order in which they were committed to.
    draws: Vec<DrawSummary>,
    /// Cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Commits to a draw: to a roster, and to a seed that is shown when the log has that.
#[utoipa::path(post, operation_id = "commit_draw", path = "/v1/checks/draws", tag = "checks", request_body = NewDraw,
    responses((status = 201, description = "It is committed to", body = DrawDocument),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn commit_draw(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromJson(new): FromJson<NewDraw>,
) -> Result<Response, Problem> {
    let roster = drawing::roster(new.roster)?;
    if !(1..=roster.len()).contains(&usize::try_from(new.count).unwrap_or(usize::MAX)) {
        return Err(Problem::invalid("count must be from 1 to the size of the roster"));
    }
    let draw = DrawRecord {
        id: new_id(&state)?,
        department: words("department", new.department, super::NAME_CHARS_MAX)?,
        seed_digest: digest("seed_digest", &new.seed_digest)?,
        roster,
        count: new.count,
        committed: act(&viewer, &state, new.reason)?,
        entry: 0,
        revealed: None,
    };
    let (id, department) = (id_text(draw.id), draw.department.clone());
    let theirs = move |_: &Store, scope: &Scope<Check>| Ok(scope.sees_department(&department));
    let scope = viewer.over_if("there is no such department", theirs).await?;
    let commitment = said::committed(&draw)?;
    let mut entry = viewer.entry(Event::Check, format!("commit to draw {id}")).about(id.clone());
    (entry.at, entry.content) = (draw.committed.at, Some(commitment));
    let document = scope.evidence().ask(move |store| {
        let draw = store.add_draw(&draw, &entry)?;
        document(store, draw)
    });
    let place = [(header::LOCATION, format!("/v1/checks/draws/{id}"))];
    Ok((StatusCode::CREATED, place, Json(document.await?)).into_response())
}

/// Draws, a page at a time, those whose seed was never shown among them.
#[utoipa::path(get, operation_id = "list_draws", path = "/v1/checks/draws", tag = "checks", params(PageQuery),
    responses((status = 200, body = DrawPage), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn list_draws(
    viewer: Viewer,
    FromQuery(query): FromQuery<PageQuery>,
) -> Result<Json<DrawPage>, Problem> {
    let (limit, after) = (query.limit()?, query.after()?);
    let scope = viewer.over::<Check>().await?;
    let evidence = scope.evidence().clone();
    let page = evidence.ask(move |store| {
        let mut page = DrawPage { draws: Vec::new(), next: None };
        for draw in store.draws(after) {
            let draw = draw?;
            if !scope.sees_department(&draw.department) {
                continue;
            }
            if page.draws.len() == limit {
                page.next = page.draws.last().map(|last| last.id.clone());
                break;
            }
            page.draws.push(DrawSummary {
                id: id_text(draw.id),
                department: draw.department,
                count: draw.count,
                committed: act_document(draw.committed),
                is_revealed: draw.revealed.is_some(),
            });
        }
        Ok(page)
    });
    Ok(Json(page.await?))
}

/// A draw, with everything that it takes to draw again.
#[utoipa::path(get, operation_id = "draw", path = "/v1/checks/draws/{id}", tag = "checks",
    params(("id" = String, Path, description = "Draw")),
    responses((status = 200, body = DrawDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn draw(
    viewer: Viewer,
    FromPath(id): FromPath<String>,
) -> Result<Json<DrawDocument>, Problem> {
    let id = check_id(&id)?;
    let scope = of_draw(&viewer, id).await?;
    let document = scope.evidence().ask(move |store| document(store, store.draw(id)?.ok_or_else(absent)?));
    Ok(Json(document.await?))
}

/// Shows the seed of a draw, which draws.
#[utoipa::path(post, operation_id = "reveal_draw", path = "/v1/checks/draws/{id}/seed", tag = "checks",
    params(("id" = String, Path, description = "Draw")), request_body = NewSeed,
    responses((status = 200, description = "It is drawn", body = DrawDocument), (status = 503, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn reveal_draw(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromJson(new): FromJson<NewSeed>,
) -> Result<Json<DrawDocument>, Problem> {
    let (id, seed) = (check_id(&id)?, digest("seed", &new.seed)?);
    let scope = of_draw(&viewer, id).await?;
    let mut entry = viewer.entry(Event::Check, format!("show the seed of draw {}", id_text(id))).about(id_text(id));
    entry.at = state.clock.now();
    let (by, at, log) = (viewer.actor().to_owned(), entry.at, Arc::clone(&state.log));
    let drawn = scope.evidence().ask(move |store| {
        let changed = store.change_draw(id, &entry, |draw| {
            if Digest::of(&seed.0) != draw.seed_digest {
                return Err(Error::new(Kind::Invalid, "the seed has not the digest that was committed to"));
            }
            if draw.revealed.is_some() {
                return Ok(Some(draw.clone()));
            }
            let leaf = store.audit_leaf(draw.entry)?;
            let early = || Error::new(Kind::Busy, "the commitment is not in the log yet: ask again in a second");
            let tree_size = leaf.ok_or_else(early)?.tree_size;
            let root = log.root(tree_size)?;
            let drawn = drawing::draw(seed, &draw.roster, root, draw.count);
            draw.revealed = Some(RevealedRecord { seed, tree_size, root, drawn, at, by });
            Ok(None)
        });
        match changed? {
            // Who shows it again sees what came of it.
            Changed::Done(draw) | Changed::Refused(draw) => document(store, draw),
            Changed::Missing => Err(absent()),
        }
    });
    Ok(Json(drawn.await?))
}

async fn of_draw(viewer: &Viewer, id: CheckId) -> Result<Scope<Check>, Problem> {
    let theirs = move |store: &Store, scope: &Scope<Check>| {
        Ok(store.draw(id)?.is_some_and(|draw| scope.sees_department(&draw.department)))
    };
    viewer.over_if(ABSENT, theirs).await
}

fn absent() -> Error {
    Error::new(Kind::NotFound, ABSENT)
}

fn document(store: &Store, draw: DrawRecord) -> Result<DrawDocument> {
    let name = |place: &u32| usize::try_from(*place).ok().and_then(|place| draw.roster.get(place)).cloned();
    let revealed = draw.revealed.as_ref().map(|revealed| {
        let drawn: Vec<String> = revealed.drawn.iter().filter_map(name).collect();
        let checked = checked_by(store, draw.id)?;
        Ok(RevealedDocument {
            seed: revealed.seed.to_string(),
            tree_size: revealed.tree_size,
            root: revealed.root.to_string(),
            unchecked: drawn.iter().filter(|person| !checked.contains(*person)).cloned().collect(),
            drawn,
            at: time::format(revealed.at),
            by: revealed.by.clone(),
        })
    });
    let revealed = revealed.transpose()?;
    Ok(DrawDocument {
        id: id_text(draw.id),
        algorithm: drawing::ALGORITHM,
        seed_digest: draw.seed_digest.to_string(),
        roster_digest: drawing::roster_digest(&draw.roster).to_string(),
        count: draw.count,
        committed: act_document(draw.committed.clone()),
        entry: draw.entry,
        commitment: said::committed(&draw)?.to_string(),
        log_index: store.audit_leaf(draw.entry)?.map(|leaf| leaf.log_index),
        revealed,
        department: draw.department,
        roster: draw.roster,
    })
}
