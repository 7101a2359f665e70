//! `/v1/recorders/{id}/verdict`, `/forks`, `/quarantine`: what the links of a range are worth and which of them decide it, and what is
//! kept beside the chain as evidence, with its payloads.
//!
//! The rule of a verdict is that of exports and of the verifier. Payloads are read and hashed one after the other, up to a bound that is
//! told with the answer: what was not hashed now was when it arrived, and by the scrub since.

use aigaq_proto::signature::PublicKey;
use aigaq_proto::verdict::{Facts, Judge, Payload, Place};
use aigaq_proto::{Content, Digest, LinkHeader, RecorderId, link, receipt};
use axum::Json;
use axum::extract::State as FromState;
use axum::response::Response;
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::gone::Statements;
use super::problem::Problem;
use super::request::{FromPath, FromQuery, recorder_id};
use super::time::{self, TimeRange};
use super::viewer::{Fetch, Find, Permit, Viewer};
use super::{State, coverage, footage};
use crate::error::{Error, Kind, Result};
use crate::log::{Reader, Tree};
use crate::store::Store;
use crate::store::engine::Direction;
use crate::store::records::LinkRecord;

/// Longest range of a verdict, days, and most links that it looks at.
const DAYS_MAX: u64 = 31;
const LINKS_MAX: u64 = 200_000;
/// Payload that is read and hashed for one verdict at most, bytes: a second or two.
const HASHED_BYTES_MAX: u64 = 1 << 30;
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

/// Which payloads were read and hashed for a verdict. One whose bytes are not those that were received is a finding, `damaged`.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct HashedDocument {
    /// Payloads that were hashed now.
    hashed: u64,
    /// Their length, bytes; at most 1 GiB and one payload.
    hashed_bytes: u64,
    /// Payloads of the range that were not, for want of time: ask for less, or export.
    unread: u64,
    /// Everything that was stored before this time, RFC 3339 UTC, was read again since then, and what came later was hashed when it
    /// arrived; null while the scrub has not been through once.
    scrubbed_since: Option<String>,
}

/// What the links of a range are worth.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VerdictDocument {
    /// `authentic`, `authentic-with-gaps`, `pending`, `unsigned` or `not-authentic`.
    verdict: String,
    /// Links that were looked at: headers, signatures, log.
    links: u64,
    /// Holes of the range that coverage shows.
    gaps: u64,
    /// Which payloads were hashed.
    #[schema(inline)]
    payloads: HashedDocument,
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
    /// Where its payload is.
    payload: String,
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
    /// Its name.
    id: String,
    /// Where its payload is, as it arrived.
    payload: String,
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
    let _room = evidence.room(u64::from(aigaq_proto::limits::PAYLOAD_BYTES_MAX)).await?;
    let document = evidence.ask(move |store| judge(store, &state, &permit, &range));
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
        let side = |sequence: u64, digest: Digest, record: &LinkRecord| ForkSide {
            digest: digest.to_string(),
            received_at: time::format(record.received_at),
            log_index: record.log_index,
            payload: format!("/v1/recorders/{id}/forks/{sequence}/{digest}/payload"),
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
            let kept = kept.map(|kept| side(fork.sequence, link::digest(&kept.header), &kept));
            let other = side(fork.sequence, fork.digest, &fork.record);
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
            let entry = entry?;
            let (name, record) = (format!("{}-{}", entry.commit, entry.index), entry.record);
            quarantined.push(QuarantinedDocument {
                payload: format!("/v1/recorders/{id}/quarantine/{name}/payload"),
                id: name,
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

/// The payload of one side of a fork: of the link in the chain, or of the one beside it.
#[utoipa::path(get, operation_id = "fork_payload", path = "/v1/recorders/{id}/forks/{sequence}/{digest}/payload",
    tag = "footage",
    params(("id" = String, Path, description = "Recorder"),
        ("sequence" = u64, Path, description = "The sequence that both sides claim"),
        ("digest" = String, Path, description = "Link digest of the side, hexadecimal"),
        ("x-aigaq-reason" = Option<String>, Header, description = "Why; footage that is not open is shown to nobody without it")),
    responses((status = 200, description = "The bytes as received", body = Vec<u8>, content_type = "application/octet-stream",
            example = json!("the bytes of the payload")),
        (status = 206, description = "The bytes of the range", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "The same as the client has"),
        (status = 409, response = Problem),
        (status = 410, response = Problem),
        (status = 416, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn fork_payload(
    viewer: Viewer,
    method: Method,
    headers: HeaderMap,
    FromPath((id, sequence, digest)): FromPath<(String, u64, String)>,
) -> Result<Response, Problem> {
    let id = recorder_id(&id)?;
    let digest: Digest =
        digest.parse().map_err(|_| Problem::invalid("a digest has 64 lower-case hexadecimal digits"))?;
    let permit = viewer.of::<Fetch>(id).await?;
    let of_find = permit.clone();
    let kept = permit.evidence().ask(move |store| footage::side(store, &of_find, sequence, digest)).await?;
    Ok(footage::serve_kept(&permit, kept, &method, &headers).await?)
}

/// The payload of a link that failed a check, as it arrived.
#[utoipa::path(get, operation_id = "quarantined_payload", path = "/v1/recorders/{id}/quarantine/{name}/payload",
    tag = "footage",
    params(("id" = String, Path, description = "Recorder"),
        ("name" = String, Path, description = "`id` of the entry in the list"),
        ("x-aigaq-reason" = Option<String>, Header, description = "Why; footage that is not open is shown to nobody without it")),
    responses((status = 200, description = "The bytes as received", body = Vec<u8>, content_type = "application/octet-stream",
            example = json!("the bytes of the payload")),
        (status = 206, description = "The bytes of the range", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "The same as the client has"),
        (status = 409, response = Problem),
        (status = 410, response = Problem),
        (status = 416, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn quarantined_payload(
    viewer: Viewer,
    method: Method,
    headers: HeaderMap,
    FromPath((id, name)): FromPath<(String, String)>,
) -> Result<Response, Problem> {
    let id = recorder_id(&id)?;
    let place = name.split_once('-').and_then(|(commit, index)| Some((commit.parse().ok()?, index.parse().ok()?)));
    let place: (u64, u32) =
        place.ok_or_else(|| Problem::invalid("the name of an entry is two numbers with a hyphen"))?;
    let permit = viewer.of::<Fetch>(id).await?;
    let of_find = permit.clone();
    let kept = permit.evidence().ask(move |store| footage::quarantined(store, &of_find, place)).await?;
    Ok(footage::serve_kept(&permit, kept, &method, &headers).await?)
}

fn judge(store: &Store, state: &State, permit: &Permit<Find>, range: &TimeRange) -> Result<VerdictDocument> {
    let (id, recorder) = (permit.id(), permit.record());
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
    let mut looking = Looking {
        store,
        log: &state.log,
        tree: state.log.newest()?,
        recorder: id,
        range: *range,
        judge: Judge::new(id, keys),
        statements: Statements::default(),
        payloads: HashedDocument::default(),
    };
    for found in store.links(id, sequences.clone()) {
        let (sequence, record) = match found {
            // What does not read is missing from the chain that can be shown: the judge says so.
            Err(error) if error.kind() == Kind::Damaged => continue,
            found => found?,
        };
        looking.at(sequence, &record, false)?;
    }
    for fork in store.forks(id) {
        let fork = fork?;
        if sequences.contains(&fork.sequence) {
            looking.at(fork.sequence, &fork.record, true)?;
        }
    }
    let Looking { mut judge, mut payloads, .. } = looking;
    let gaps = coverage::scan(store, &state.fleet, id, *range, Some(state.clock.now()), |_| {})?.holes.len() as u64;
    if gaps > 0 {
        judge.gap();
    }
    payloads.scrubbed_since = store.scrub()?.map(|scrub| time::format(scrub.verified_since));
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
        gaps,
        payloads,
        findings: findings.collect(),
        more: report.more,
    })
}

/// Looks at links, one after the other.
struct Looking<'a> {
    store: &'a Store,
    log: &'a Reader,
    tree: Tree,
    recorder: RecorderId,
    range: TimeRange,
    judge: Judge,
    statements: Statements,
    payloads: HashedDocument,
}

impl Looking<'_> {
    fn at(&mut self, sequence: u64, record: &LinkRecord, fork: bool) -> Result<()> {
        let digest = link::digest(&record.header);
        let header = LinkHeader::decode(&record.header).ok();
        let inside = header.as_ref().is_some_and(|header| self.range.touches(header.captured_at, header.duration_us));
        let wanted = header.as_ref().filter(|header| match header.content {
            Content::Media { .. } => inside,
            Content::Start { .. } => true,
            _ => false,
        });
        let facts = Facts {
            sequence,
            digest,
            header: &record.header,
            signature: &record.signature,
            agrees: true,
            place: self.place(&receipt::entry(&digest, record.received_at), record.log_index)?,
            payload: match wanted {
                Some(header) => self.payload(header, record, fork)?,
                None => Payload::Absent,
            },
            inside,
        };
        let _ = if fork { self.judge.fork(&facts) } else { self.judge.link(&facts) };
        Ok(())
    }

    fn place(&self, entry: &[u8; receipt::ENTRY_BYTES], index: u64) -> Result<Place> {
        if index >= self.tree.size {
            return Ok(Place::Pending);
        }
        match self.log.prove_entry(entry, index, &self.tree) {
            Ok(_) => Ok(Place::Proven),
            Err(error) if error.kind() == Kind::Damaged => Ok(Place::Refuted),
            Err(error) => Err(error),
        }
    }

    fn payload(&mut self, header: &LinkHeader, record: &LinkRecord, fork: bool) -> Result<Payload> {
        let deleted = self.store.is_deleted(self.recorder, &record.body);
        if self.payloads.hashed_bytes >= HASHED_BYTES_MAX && !deleted {
            self.payloads.unread += 1;
            return Ok(Payload::Unread);
        }
        let found = footage::hashed(self.store, (header, record), fork, &mut self.statements, self.tree.size)?;
        if matches!(found, Payload::Present { .. } | Payload::Damaged) {
            self.payloads.hashed += 1;
            self.payloads.hashed_bytes += u64::from(header.payload_length);
        }
        Ok(found)
    }
}
