//! `/v1/recorders/{id}/verdict`, `/forks`, `/quarantine`: what the links of a range are worth and which of them decide it, and what is
//! kept beside the chain as evidence.

use aigaq_proto::signature::PublicKey;
use aigaq_proto::verdict::{Facts, Judge, Payload, Place};
use aigaq_proto::{LinkHeader, link, receipt};
use axum::Json;
use axum::extract::State as FromState;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::State;
use super::problem::Problem;
use super::request::{FromPath, FromQuery, recorder_id};
use super::time::{self, TimeRange};
use super::viewer::{Find, Permit, Viewer};
use crate::error::{Error, Kind, Result};
use crate::log::Reader;
use crate::store::Store;
use crate::store::engine::Direction;

/// Longest range of a verdict, days, and most links that it looks at.
const DAYS_MAX: u64 = 31;
const LINKS_MAX: u64 = 200_000;
/// Entries on a page of forks or of quarantine.
const PAGE: usize = 100;

/// The range that is judged.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VerdictQuery {
    /// Beginning, RFC 3339 UTC, device clock.
    from: String,
    /// End, exclusive, at most 31 days later.
    to: String,
}

/// Links that decide a verdict.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VerdictFinding {
    /// The first sequence.
    first: u64,
    /// The last.
    last: u64,
    /// What they are, of a closed set, such as `dropped` or `fork`.
    what: String,
    /// The same for people.
    meaning: String,
}

/// What the links of a range are worth.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VerdictDocument {
    /// `authentic`, `authentic-with-gaps`, `pending`, `unsigned` or `not-authentic`.
    verdict: String,
    /// Links that were looked at: headers, signatures, log. Payloads are hashed by exports and by the verifier.
    links: u64,
    /// What decides it; at most 1000.
    findings: Vec<VerdictFinding>,
    /// How many more there are.
    more: u64,
}

/// Which page of evidence is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EvidenceQuery {
    /// Entries before the page; `next` of the page before.
    skip: Option<usize>,
}

/// One side of a fork.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ForkSide {
    /// Link digest, hexadecimal.
    digest: String,
    /// When it arrived, RFC 3339 UTC.
    received_at: String,
    /// Index in the log.
    log_index: u64,
}

/// Two links for one sequence.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ForkEntryDocument {
    /// The sequence that both claim.
    sequence: u64,
    /// The one in the chain; null if it does not read.
    kept: Option<ForkSide>,
    /// The one beside it.
    other: ForkSide,
}

/// A page of forks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ForkPage {
    /// By sequence.
    forks: Vec<ForkEntryDocument>,
    /// `skip` of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<usize>,
}

/// A link that failed a check.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QuarantinedDocument {
    /// The check, such as `bad-signature`.
    reason: String,
    /// The sequence that it claims; null if its header does not decode.
    sequence: Option<u64>,
    /// Link digest, hexadecimal.
    digest: String,
    /// SHA-256 of the payload that arrived.
    payload_digest: String,
    /// Its length, bytes.
    payload_bytes: u64,
    /// When it arrived, RFC 3339 UTC.
    received_at: String,
}

/// A page of quarantine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QuarantinePage {
    /// In order of arrival.
    quarantined: Vec<QuarantinedDocument>,
    /// `skip` of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<usize>,
}

/// What the links of a range are worth.
#[utoipa::path(get, operation_id = "verdict", path = "/v1/recorders/{id}/verdict", tag = "footage",
    params(("id" = String, Path, description = "Recorder"), VerdictQuery),
    responses((status = 200, body = VerdictDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn verdict(
    viewer: Viewer,
    FromState(state): FromState<State>,
    FromPath(id): FromPath<String>,
    FromQuery(query): FromQuery<VerdictQuery>,
) -> Result<Json<VerdictDocument>, Problem> {
    let id = recorder_id(&id)?;
    let range = TimeRange::parse(&query.from, &query.to, DAYS_MAX)?;
    let permit = viewer.of::<Find>(id).await?;
    let evidence = permit.evidence().clone();
    let document = evidence.ask(move |store| judge(store, &state.log, &permit, &range));
    Ok(Json(document.await?))
}

/// Links kept as the other side of a fork.
#[utoipa::path(get, operation_id = "forks", path = "/v1/recorders/{id}/forks", tag = "footage",
    params(("id" = String, Path, description = "Recorder"), EvidenceQuery),
    responses((status = 200, body = ForkPage), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn forks(
    viewer: Viewer,
    FromPath(id): FromPath<String>,
    FromQuery(query): FromQuery<EvidenceQuery>,
) -> Result<Json<ForkPage>, Problem> {
    let (id, skip) = (recorder_id(&id)?, query.skip.unwrap_or(0));
    let permit = viewer.of::<Find>(id).await?;
    let page = permit.evidence().ask(move |store| {
        let side = |digest: String, received_at, log_index| ForkSide {
            digest,
            received_at: time::format(received_at),
            log_index,
        };
        let mut forks = Vec::new();
        let mut next = None;
        for fork in store.forks(id).skip(skip) {
            if forks.len() == PAGE {
                next = Some(skip.saturating_add(PAGE));
                break;
            }
            let fork = fork?;
            let kept = store.link(id, fork.sequence)?;
            let kept = kept.map(|kept| side(link::digest(&kept.header).to_string(), kept.received_at, kept.log_index));
            let other = side(fork.digest.to_string(), fork.record.received_at, fork.record.log_index);
            forks.push(ForkEntryDocument { sequence: fork.sequence, kept, other });
        }
        Ok(ForkPage { forks, next })
    });
    Ok(Json(page.await?))
}

/// Links that failed a check.
#[utoipa::path(get, operation_id = "quarantine", path = "/v1/recorders/{id}/quarantine", tag = "footage",
    params(("id" = String, Path, description = "Recorder"), EvidenceQuery),
    responses((status = 200, body = QuarantinePage), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn quarantine(
    viewer: Viewer,
    FromPath(id): FromPath<String>,
    FromQuery(query): FromQuery<EvidenceQuery>,
) -> Result<Json<QuarantinePage>, Problem> {
    let (id, skip) = (recorder_id(&id)?, query.skip.unwrap_or(0));
    let permit = viewer.of::<Find>(id).await?;
    let page = permit.evidence().ask(move |store| {
        let mut quarantined = Vec::new();
        let mut next = None;
        for entry in store.quarantine(id).skip(skip) {
            if quarantined.len() == PAGE {
                next = Some(skip.saturating_add(PAGE));
                break;
            }
            let record = entry?.record;
            quarantined.push(QuarantinedDocument {
                reason: record.reason.name().to_owned(),
                sequence: LinkHeader::sequence_of(&record.header),
                digest: link::digest(&record.header).to_string(),
                payload_digest: record.payload_digest.to_string(),
                payload_bytes: record.payload_length,
                received_at: time::format(record.received_at),
            });
        }
        Ok(QuarantinePage { quarantined, next })
    });
    Ok(Json(page.await?))
}

fn judge(store: &Store, log: &Reader, permit: &Permit<Find>, range: &TimeRange) -> Result<VerdictDocument> {
    let (id, recorder) = (permit.id(), permit.record());
    let tree = log.newest()?;
    let mut ends: Option<(u64, u64)> = None;
    let from = range.from.saturating_sub(u64::from(aigaq_proto::limits::DURATION_US_MAX));
    for entry in store.timeline(id, from..range.to, Direction::Forward) {
        let entry = entry?;
        if range.touches(entry.captured_at, entry.record.duration_us) {
            let (low, high) = ends.unwrap_or((entry.sequence, entry.sequence));
            ends = Some((low.min(entry.sequence), high.max(entry.sequence)));
        }
    }
    let sequences = ends.map_or(0..0, |(low, high)| low.saturating_sub(1)..high.saturating_add(2));
    if sequences.end.saturating_sub(sequences.start) > LINKS_MAX {
        return Err(Error::new(Kind::Invalid, format!("more than {LINKS_MAX} links are in the range: ask for less")));
    }
    let keys = recorder.keys.iter().filter_map(|key| PublicKey::from_spki(&key.spki).ok()).collect();
    let mut judge = Judge::new(id, keys);
    let place = |entry: &[u8; receipt::ENTRY_BYTES], index: u64| {
        if index >= tree.size {
            return Ok(Place::Pending);
        }
        match log.prove_entry(entry, index, &tree) {
            Ok(_) => Ok(Place::Proven),
            Err(error) if error.kind() == Kind::Damaged => Ok(Place::Refuted),
            Err(error) => Err(error),
        }
    };
    let look = |sequence: u64, record: &crate::store::records::LinkRecord, judge: &mut Judge, fork: bool| {
        let digest = link::digest(&record.header);
        let header = LinkHeader::decode(&record.header).ok();
        let facts = Facts {
            sequence,
            digest,
            header: &record.header,
            signature: &record.signature,
            agrees: true,
            place: place(&receipt::entry(&digest, record.received_at), record.log_index)?,
            payload: if store.is_deleted(id, &record.body) { Payload::Deleted } else { Payload::Absent },
            inside: header.is_some_and(|header| range.touches(header.captured_at, header.duration_us)),
        };
        let _ = if fork { judge.fork(&facts) } else { judge.link(&facts) };
        Result::Ok(())
    };
    for found in store.links(id, sequences.clone()) {
        let (sequence, record) = match found {
            // What does not read is missing from the chain that can be shown: the judge says so.
            Err(error) if error.kind() == Kind::Damaged => continue,
            found => found?,
        };
        look(sequence, &record, &mut judge, false)?;
    }
    for fork in store.forks(id) {
        let fork = fork?;
        if sequences.contains(&fork.sequence) {
            look(fork.sequence, &fork.record, &mut judge, true)?;
        }
    }
    let report = judge.finish();
    let name = |what| serde_json::to_value(what).ok().and_then(|name| name.as_str().map(str::to_owned));
    let findings = report.findings.iter().map(|finding| VerdictFinding {
        first: finding.first,
        last: finding.last,
        what: name(finding.what).unwrap_or_default(),
        meaning: finding.what.meaning().to_owned(),
    });
    Ok(VerdictDocument {
        verdict: report.verdict.to_string(),
        links: report.links,
        findings: findings.collect(),
        more: report.more,
    })
}
