//! What the log has of a draw and of a check: digests of all that was said, which its audit entries carry.
//!
//! Each is of the canonical JSON of what is stored, so that what is stored can be held against the log at any time.

use aigaq_proto::Digest;
use serde::Serialize;

use super::{case, draw};
use crate::error::Result;
use crate::store::records::{CheckId, CheckRecord, DrawRecord, JudgedRecord, SheetRecord};

#[derive(Serialize)]
struct Commitment<'a> {
    algorithm: &'a str,
    department: &'a str,
    roster_digest: String,
    count: u32,
    seed_digest: String,
}

/// What a draw commits to.
///
/// # Errors
/// As [`case::canonical`].
pub fn committed(draw: &DrawRecord) -> Result<Digest> {
    of(&Commitment {
        algorithm: draw::ALGORITHM,
        department: &draw.department,
        roster_digest: draw::roster_digest(&draw.roster).to_string(),
        count: draw.count,
        seed_digest: draw.seed_digest.to_string(),
    })
}

#[derive(Serialize)]
struct Made<'a> {
    check: String,
    department: &'a str,
    recorder: String,
    case: String,
    draw: Option<String>,
    person: &'a str,
    from: u64,
    to: u64,
    by: &'a str,
    at: u64,
    reason: &'a str,
    assessors: &'a [String; 2],
}

/// What a check was made as.
///
/// # Errors
/// As [`case::canonical`].
pub fn made(check: &CheckRecord) -> Result<Digest> {
    of(&Made {
        check: id(check.id),
        department: &check.department,
        recorder: check.recorder.to_string(),
        case: check.case.to_string(),
        draw: check.draw.map(id),
        person: &check.person,
        from: check.from,
        to: check.to,
        by: &check.made.by,
        at: check.made.at,
        reason: &check.made.reason,
        assessors: &check.assessors,
    })
}

#[derive(Serialize)]
struct Scored<'a> {
    check: String,
    by: &'a str,
    at: u64,
    option: &'a str,
    scores: Vec<Judged<'a>>,
}

#[derive(Serialize)]
struct Judged<'a> {
    criterion: &'a str,
    value: u32,
    from: u64,
    to: u64,
    first: u64,
    last: u64,
    links: String,
}

/// What was scored of a check.
///
/// # Errors
/// As [`case::canonical`].
pub fn scored(check: CheckId, sheet: &SheetRecord) -> Result<Digest> {
    let scores = sheet.judged.iter().map(|JudgedRecord { criterion, value, span }| Judged {
        criterion,
        value: *value,
        from: span.from,
        to: span.to,
        first: span.first,
        last: span.last,
        links: span.digest.to_string(),
    });
    let scores = scores.collect();
    of(&Scored { check: id(check), by: &sheet.by, at: sheet.at, option: &sheet.option, scores })
}

fn of<T: Serialize>(said: &T) -> Result<Digest> {
    Ok(case::digest(&case::canonical(said)?))
}

fn id(id: CheckId) -> String {
    data_encoding::HEXLOWER.encode(&id.0)
}
