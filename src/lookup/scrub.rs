//! `GET /v1/scrub`: since when every byte of footage is known to be what was received, and what was found damaged.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::time;
use super::viewer::{Report, Viewer};
use crate::error::{Error, Kind, Result};
use crate::store::records::{Owner, ScrubRecord};
use crate::store::{Place, Store};

/// How the scrub stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScrubDocument {
    /// Footage that is older was read again and hashed since then; what is newer was hashed when it arrived.
    verified_since: String,
    /// When the newest pass over all footage began.
    pass_began_at: String,
    /// Whether it is still under way.
    pass_under_way: bool,
    /// Bodies that were found damaged, in this pass or in the one before.
    damaged: u64,
    /// Whose they are; at most a thousand.
    damaged_links: Vec<DamagedLink>,
}

/// A link whose footage is damaged.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DamagedLink {
    /// Whose.
    recorder: String,
    /// Its place in the chain; null for one in quarantine.
    sequence: Option<u64>,
    /// Whether it is the other side of a fork.
    fork: bool,
}

/// Since when every byte of footage is known to be what was received, and what was found damaged.
#[utoipa::path(get, operation_id = "scrub", path = "/v1/scrub", tag = "retention",
    responses((status = 200, body = ScrubDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn scrub(viewer: Viewer) -> Result<Json<ScrubDocument>, Problem> {
    let read = |store: &Store| {
        let none = || Error::new(Kind::Busy, "the scrub has not begun; ask again in a minute");
        document(store, &store.scrub()?.ok_or_else(none)?)
    };
    let scope = viewer.whole::<Report>().await?;
    Ok(Json(scope.evidence().ask(read).await?))
}

fn document(store: &Store, scrub: &ScrubRecord) -> Result<ScrubDocument> {
    let found = if scrub.found.bodies >= scrub.found_before.bodies { &scrub.found } else { &scrub.found_before };
    Ok(ScrubDocument {
        verified_since: time::format(scrub.verified_since),
        pass_began_at: time::format(scrub.began),
        pass_under_way: scrub.place.is_some(),
        damaged: found.bodies,
        damaged_links: found.places.iter().map(|place| damaged(store, place)).collect::<Result<_>>()?,
    })
}

fn damaged(store: &Store, place: &Place) -> Result<DamagedLink> {
    let (recorder, owner) = store.owner_at(place)?;
    let (sequence, fork) = match owner {
        Owner::Link(sequence) => (Some(sequence), false),
        Owner::Fork(sequence, _) => (Some(sequence), true),
        Owner::Quarantined(..) => (None, false),
    };
    Ok(DamagedLink { recorder: recorder.to_string(), sequence, fork })
}
