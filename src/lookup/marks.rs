//! `GET /v1/marks`: what was marked, by whom, in the order of time; and `POST /v1/recorders/{id}/marks`, with which an operator marks
//! footage. A mark is never changed or taken away: one that was wrong is corrected by a later one, and both stay.

use std::ops::Range;

use aigaq_proto::limits::TEXT_BYTES_MAX;
use aigaq_proto::{Micros, RecorderId};
use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::State;
use super::categories::{Categories, Category};
use super::problem::Problem;
use super::request::{self, FromJson, FromPath, FromQuery, recorder_id};
use super::time::{self, TimeRange};
use super::viewer::{Find, Mark, Viewer};
use crate::error::{Error, Kind, Result};
use crate::store::policy::day_of;
use crate::store::records::{Event, MarkPlace, MarkRecord, Raiser};
use crate::store::{NewMark, Store};

/// Longest range that a mark covers, days.
const DAYS_MAX: u64 = 1;
/// Marks on a page when nothing else is asked for, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Marks that are looked through for one page at most; a page may be short and still have a next one.
const SCANNED_MAX: usize = 20_000;
/// What is said of a mark that is not there, or not for the one who asks.
const ABSENT: &str = "there is no such mark";

/// A mark that is to be raised.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "category": "insult", "at": "2026-01-17T09:14:30Z", "note": "at the entrance" }))]
pub(super) struct NewMarkDocument {
    /// One of `/v1/marks/categories`.
    category: String,
    /// When, RFC 3339 UTC; the seconds of the category around it belong to the mark. Either this or `from` and `to`.
    at: Option<String>,
    /// Beginning of what belongs to it.
    from: Option<String>,
    /// End, exclusive, at most a day later.
    to: Option<String>,
    /// What else there is to say; at most 512 bytes.
    note: Option<String>,
    /// The mark of the same recorder whose place it takes.
    corrects: Option<String>,
}

/// A mark.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "id": "ab25d58504dd103930f03e729a98f929-1768641270000000-o1", "at": "2026-01-17T09:14:30.000000Z",
    "from": "2026-01-17T09:09:30.000000Z", "to": "2026-01-17T09:24:30.000001Z", "recorder": "ab25d58504dd103930f03e729a98f929",
    "department": "Astana", "category": "insult", "urgent": false, "note": "at the entrance", "raised_by": "operator",
    "by": "account:anna", "recorded_at": "2026-01-17T10:02:11.000000Z" }))]
pub(super) struct MarkDocument {
    /// Its name.
    pub(super) id: String,
    /// When, RFC 3339 UTC; by the clock of the recorder, if that raised it.
    pub(super) at: String,
    /// Beginning of what belongs to it: what the mark says, and at least what its category says.
    pub(super) from: String,
    /// End, exclusive.
    pub(super) to: String,
    /// The recorder.
    pub(super) recorder: String,
    /// Where the recorder belongs.
    pub(super) department: String,
    /// Its category.
    pub(super) category: String,
    /// Whether somebody has to look at once.
    pub(super) urgent: bool,
    /// Its text; may be empty.
    pub(super) note: String,
    /// Who raised it.
    #[schema(inline)]
    pub(super) raised_by: RaisedBy,
    /// Its place in the chain, if the recorder raised it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sequence: Option<u64>,
    /// Which operator, if one raised it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) by: String,
    /// When it became known here.
    pub(super) recorded_at: String,
    /// The mark whose place it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) corrects: Option<String>,
    /// The mark that took its place last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) corrected_by: Option<String>,
}

/// Who raised a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RaisedBy {
    /// The recorder: it is a link of its chain.
    Recorder,
    /// An operator: it is an entry of the audit trail.
    Operator,
}

/// Which marks are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those not before this time, RFC 3339 UTC.
    from: Option<String>,
    /// Only those before this time.
    to: Option<String>,
    /// Only those of this category; also one that the site does not know.
    category: Option<String>,
    /// Only those on recorders of this department.
    department: Option<String>,
    /// Only those on this recorder.
    recorder: Option<String>,
    /// Only those that were raised so.
    #[param(inline)]
    raised_by: Option<RaisedBy>,
    /// `false`: only those that no other took the place of; `true`: only the others.
    corrected: Option<bool>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Most marks on the page, 1 to 1000; 100 if not given.
    limit: Option<usize>,
}

/// A page of marks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MarkPage {
    /// By time.
    marks: Vec<MarkDocument>,
    /// Cursor of the next page, if there is more to look through; a page may be short.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Marks footage. What belongs to the mark is kept for as long as its category says, also what comes later.
#[utoipa::path(post, operation_id = "raise_mark", path = "/v1/recorders/{id}/marks", tag = "marks",
    params(("id" = String, Path, description = "Recorder")), request_body = NewMarkDocument,
    responses((status = 201, description = "It is durable, audited and in the feed", body = MarkDocument),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn raise(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromJson(new): FromJson<NewMarkDocument>,
) -> Result<Response, Problem> {
    let recorder = recorder_id(&id)?;
    let category = state
        .categories
        .named(&new.category)
        .cloned()
        .ok_or_else(|| Problem::invalid("category must be one of those that GET /v1/marks/categories names"))?;
    let (at, range) = span(&new, &category)?;
    let note = new.note.filter(|note| !note.trim().is_empty());
    let note = note.map_or(Ok(String::new()), |note| request::words("note", note, TEXT_BYTES_MAX))?;
    if note.len() > TEXT_BYTES_MAX {
        return Err(Problem::invalid(format!("note may have {TEXT_BYTES_MAX} bytes")));
    }
    let corrects = new.corrects.as_deref().map(place_of).transpose()?;
    let now = state.clock.now();
    let permit = viewer.of::<Mark>(recorder).await?;
    let (from, to) = (time::format(range.from), time::format(range.to));
    let action = format!("mark as {} from {from} to {to}", category.name);
    let entry = viewer.entry(Event::Mark, action).about(recorder.to_string()).because(note.clone());
    let until_day = (category.days > 0).then(|| day_of(now).saturating_add(category.days));
    let (range, by) = (range.from..range.to, viewer.actor().to_owned());
    let new = NewMark { recorder, at, range, category: category.name, note, by, corrects, until_day };
    let entry = crate::store::records::AuditRecord { at: now, ..entry };
    let mark = permit.evidence().ask(move |store| store.raise_mark(now, new, entry)).await?;
    let document = document(mark, permit.record().department.clone(), None, &state.categories);
    let place = [(header::LOCATION, format!("/v1/marks?recorder={recorder}&from={}", document.at))];
    Ok((StatusCode::CREATED, place, Json(document)).into_response())
}

/// Marks that recorders and operators raised, a page at a time.
#[utoipa::path(get, operation_id = "list_marks", path = "/v1/marks", tag = "marks", params(ListQuery),
    responses((status = 200, body = MarkPage), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromQuery(query): FromQuery<ListQuery>,
) -> Result<Json<MarkPage>, Problem> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::invalid(format!("limit must be from 1 to {PAGE_MAX}")));
    }
    let from = query.from.as_deref().map_or(Ok(0), |from| time::parse("from", from))?;
    let to = query.to.as_deref().map_or(Ok(Micros::MAX), |to| time::parse("to", to))?;
    let recorder = query.recorder.as_deref().map(recorder_id).transpose()?;
    let after = query.cursor.as_deref().map(place_of).transpose()?;
    let scope = viewer.over::<Find>().await?;
    let evidence = scope.evidence().clone();
    let page = evidence.ask(move |store| {
        let mut glance = scope.glance();
        let mut shown = |mark: MarkRecord| {
            let wanted = recorder.is_none_or(|recorder| recorder == mark.place.recorder)
                && query.category.as_ref().is_none_or(|category| *category == mark.category)
                && query.raised_by.is_none_or(|raised_by| raised_by == raised(mark.place));
            if !wanted {
                return Ok(None);
            }
            let department = department_of(store, mark.place.recorder)?;
            if query.department.as_ref().is_some_and(|wanted| *wanted != department) {
                return Ok(None);
            }
            let corrected_by = store.corrected_by(mark.place)?;
            let is_wanted = query.corrected.is_none_or(|corrected| corrected == corrected_by.is_some());
            Ok(is_wanted.then(|| document(mark, department, corrected_by, &state.categories)))
        };
        let mut sees = |recorder| glance.sees(store, recorder);
        Page { store, limit, scanned_max: SCANNED_MAX }.of(from..to, after, &mut sees, &mut shown)
    });
    Ok(Json(page.await?))
}

/// How a page is made.
struct Page<'a> {
    store: &'a Store,
    limit: usize,
    scanned_max: usize,
}

impl Page<'_> {
    /// The marks of a range behind a place, of recorders that are seen, as far as they are shown. The cursor names a mark only if that
    /// is of a recorder which is seen.
    fn of(
        &self,
        range: Range<Micros>,
        after: Option<MarkPlace>,
        sees: &mut dyn FnMut(RecorderId) -> Result<bool>,
        shown: &mut dyn FnMut(MarkRecord) -> Result<Option<MarkDocument>>,
    ) -> Result<MarkPage> {
        let mut marks = Vec::new();
        let mut last = None;
        for (scanned, mark) in self.store.marks(range, after).enumerate() {
            if let Some((place, is_seen)) = last
                && (marks.len() == self.limit || scanned >= self.scanned_max)
            {
                let end = if is_seen { place } else { self.behind_unseen(place, sees)? };
                return Ok(MarkPage { marks, next: Some(name(end)) });
            }
            let mark = mark?;
            let is_seen = sees(mark.place.recorder)?;
            last = Some((mark.place, is_seen));
            if is_seen {
                marks.extend(shown(mark)?);
            }
        }
        Ok(MarkPage { marks, next: None })
    }

    /// A place that names nobody, behind a mark of a recorder that is not seen and before the next one of a recorder that is: right before
    /// that, if it is of the same moment, and else the end of the moment. Goes to each recorder of the moment once at most.
    fn behind_unseen(&self, unseen: MarkPlace, sees: &mut dyn FnMut(RecorderId) -> Result<bool>) -> Result<MarkPlace> {
        let at = unseen.at;
        let end_of = |recorder| MarkPlace { at, recorder, raiser: Raiser::Operator(u64::MAX) };
        let mut end = end_of(unseen.recorder);
        while let Some(next) = self.store.marks(at..at.saturating_add(1), Some(end)).next().transpose()? {
            let recorder = next.place.recorder;
            if sees(recorder)? {
                let before = u128::from_be_bytes(recorder.0).saturating_sub(1);
                return Ok(end_of(RecorderId(before.to_be_bytes())));
            }
            end = end_of(recorder);
        }
        Ok(end_of(RecorderId([0xff; 16])))
    }
}

/// What an operator says belongs to a mark, and the moment under which it is found.
fn span(new: &NewMarkDocument, category: &Category) -> Result<(Micros, TimeRange)> {
    match (&new.at, &new.from, &new.to) {
        (Some(at), None, None) => {
            let at = time::parse("at", at)?;
            Ok((at, around(at, category)))
        }
        (None, Some(from), Some(to)) => TimeRange::parse(from, to, DAYS_MAX).map(|range| (range.from, range)),
        _ => Err(Error::new(Kind::Invalid, "a mark needs either at, or from and to")),
    }
}

fn around(at: Micros, category: &Category) -> TimeRange {
    let seconds = |seconds: u16| u64::from(seconds) * 1_000_000;
    let to = at.saturating_add(seconds(category.after_s)).saturating_add(1);
    TimeRange { from: at.saturating_sub(seconds(category.before_s)), to }
}

fn raised(place: MarkPlace) -> RaisedBy {
    match place.raiser {
        Raiser::Recorder(_) => RaisedBy::Recorder,
        Raiser::Operator(_) => RaisedBy::Operator,
    }
}

/// The name of a mark: that of its recorder, a hyphen, its time in microseconds, a hyphen, and `r` with its sequence or `o` with a number.
pub(super) fn name(place: MarkPlace) -> String {
    let MarkPlace { at, recorder, raiser } = place;
    match raiser {
        Raiser::Recorder(sequence) => format!("{recorder}-{at}-r{sequence}"),
        Raiser::Operator(number) => format!("{recorder}-{at}-o{number}"),
    }
}

/// Reads what [`name`] made.
///
/// # Errors
/// [`Kind::NotFound`] for anything else.
pub(super) fn place_of(text: &str) -> Result<MarkPlace> {
    let read = || {
        let mut parts = text.split('-');
        let (recorder, at, raiser) = (parts.next()?, parts.next()?, parts.next()?);
        let recorder: RecorderId = recorder_id(recorder).ok()?;
        let at = at.parse().ok()?;
        let raiser = match raiser.split_at_checked(1)? {
            ("r", sequence) => Raiser::Recorder(sequence.parse().ok()?),
            ("o", number) => Raiser::Operator(number.parse().ok()?),
            _ => return None,
        };
        let place = MarkPlace { at, recorder, raiser };
        (name(place) == text).then_some(place)
    };
    read().ok_or_else(|| Error::new(Kind::NotFound, ABSENT))
}

fn department_of(store: &Store, recorder: RecorderId) -> Result<String> {
    Ok(store.recorder(recorder)?.map(|record| record.department).unwrap_or_default())
}

/// A mark as it is shown.
pub(super) fn document(
    mark: MarkRecord,
    department: String,
    corrected_by: Option<MarkPlace>,
    categories: &Categories,
) -> MarkDocument {
    let MarkRecord { place, category, note, from, to, recorded_at, by, corrects } = mark;
    let (mut from, mut to) = (from, to);
    // What a recorder says belongs to its mark may be less than what the site wants.
    if let (RaisedBy::Recorder, Some(known)) = (raised(place), categories.named(&category)) {
        let wanted = around(place.at, known);
        (from, to) = (from.min(wanted.from), to.max(wanted.to));
    }
    let sequence = match place.raiser {
        Raiser::Recorder(sequence) => Some(sequence),
        Raiser::Operator(_) => None,
    };
    MarkDocument {
        id: name(place),
        at: time::format(place.at),
        from: time::format(from),
        to: time::format(to),
        recorder: place.recorder.to_string(),
        department,
        urgent: categories.is_urgent(&category),
        category,
        note,
        raised_by: raised(place),
        sequence,
        by,
        recorded_at: time::format(recorded_at),
        corrects: corrects.map(name),
        corrected_by: corrected_by.map(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::AuditRecord;

    #[test]
    fn a_name_reads_back_as_the_place_and_nothing_else_does() {
        let recorder = RecorderId([7; 16]);
        for raiser in [Raiser::Recorder(0), Raiser::Operator(u64::MAX)] {
            let place = MarkPlace { at: 1_768_641_240_000_000, recorder, raiser };
            assert_eq!(place_of(&name(place)).unwrap(), place);
        }
        for wrong in ["", "x-1-r1", &format!("{recorder}-1"), &format!("{recorder}-01-r1"), &format!("{recorder}-1-é")]
        {
            assert_eq!(place_of(wrong).unwrap_err().kind(), Kind::NotFound, "{wrong}");
        }
        assert!(place_of(&format!("{recorder}-1-x1")).is_err() && place_of(&format!("{recorder}-1-r1-2")).is_err());
    }

    #[test]
    fn a_page_that_ends_among_what_is_not_seen_names_none_of_it_and_the_next_goes_on_behind() {
        let store = Store::memory();
        let one = |at, of: u8| {
            let (recorder, range) = (RecorderId([of; 16]), at..at + 1);
            let (category, note, by) = ("insult".to_owned(), String::new(), "account:anna".to_owned());
            let new = NewMark { recorder, at, range, category, note, by, corrects: None, until_day: None };
            store.raise_mark(1, new, AuditRecord::new(1, Event::Mark, "account:anna", "::1", "mark")).unwrap();
        };
        // Of two moments more than are looked through for a page; recorder 5 is seen alone.
        for of in [1, 1, 1, 2, 2, 2, 3, 3, 5, 5, 7, 7, 7, 8] {
            one(100, of);
        }
        for of in [1, 1, 1, 1, 6, 5, 9] {
            one(200, of);
        }
        for scanned_max in 1..9 {
            let page = Page { store: &store, limit: 1, scanned_max };
            let (mut told, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let made = page
                    .of(0..300, after, &mut |recorder| Ok(recorder.0[0] == 5), &mut |mark| {
                        Ok(Some(document(mark, String::new(), None, &Categories::default())))
                    })
                    .unwrap();
                told.extend(made.marks.into_iter().map(|mark| mark.id));
                pages += 1;
                assert!(pages < 100, "it goes on for ever");
                let Some(next) = made.next else { break };
                let named = place_of(&next).unwrap().recorder.0;
                assert!([[5; 16], [0xff; 16]].contains(&named) || named[15] == 4, "{next} names what is not seen");
                after = Some(place_of(&next).unwrap());
            }
            let of_five =
                |at, number| name(MarkPlace { at, recorder: RecorderId([5; 16]), raiser: Raiser::Operator(number) });
            assert_eq!(told, [of_five(100, 1), of_five(100, 2), of_five(200, 1)], "{scanned_max} for a page");
        }
    }
}
