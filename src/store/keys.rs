//! Every key of the ledger and of the footage: encoded here and nowhere else, big-endian, so that the order of the bytes
//! is the order of the values. A decoder takes exactly what its encoder makes and calls anything else damaged.
//!
//! ```text
//! links       | recorder 16 | sequence 8 |
//! forks       | recorder 16 | sequence 8 | digest 32 |
//! quarantine  | recorder 16 | commit 8 | index 4 |
//! heads       | recorder 16 |
//! timeline    | recorder 16 | captured-at 8 | sequence 8 |
//! recorders   | recorder 16 |
//! announcements | recorder 16 |
//! requests    | recorder 16 | id 8 |
//! assignments | recorder 16 | from 8 |
//! losses      | recorder 16 | first 8 | sequence 8 |
//! certificates | recorder 16 | SHA-256 of the leaf 32 |
//! revocation_lists | SHA-256 of the list 32 |
//! audit       | number 8 |
//! leaves      | number of the audit entry 8 |
//! tiles       | level 1 | first 8 |
//! footage     | expiry day 4 | commit 8 | index 4 |
//! expiry      | expiry day 4 | recorder 16 | owner: 0 1, sequence 8; 1 1, sequence 8, digest 32; 2 1, commit 8, index 4 |
//! extensions  | recorder 16 | cause 1 | number 8 |
//! holds       | recorder 16 | number 8 |
//! days        | expiry day 4 |
//! deleted     | recorder 16 |
//! accounts    | actor, ASCII |
//! sessions    | slot 4 |
//! classes     | recorder 16 |
//! feed        | slot 8 |
//! marks       | at 8 | recorder 16 | raiser: 0 1, sequence 8; 1 1, number 8 |
//! incidents   | number 8 |
//! incident_names | digest of department, source and reference 32 |
//! incident_notes | number of the incident 8 | number 8 |
//! webhooks    | name, ASCII |
//! answers     | digest of who asked, what for, and the idempotency key 32 |
//! corrections | key of the corrected mark 33 | key of the correcting mark 33 |
//! slots       | ten minutes 4 | recorder 16 |
//! runs        | recorder 16 | ten minutes 4 |
//! presence    | cell 8 | ten minutes 4 | recorder 16 | sequences, by 512 8 |
//! marked      | recorder 16 | key of the mark 33 |
//! categories  | category, UTF-8 | 0 1 | key of the mark 33 |
//! assignees   | name, UTF-8 | 0 1 | from 8 | recorder 16 |
//! destroyed, wishes | expiry day 4 | recorder 16 |
//! counted     | key of the mark 33 |
//! reported    | first day 4 | day after the last 4 | number of the audit entry 8 | index 4 |
//! cases       | SHA-256 of the canonical text 32 |
//! draws       | made at 8, random 8 |
//! checks      | made at 8, random 8 |
//! meta        | name, ASCII |
//! ```

use std::ops::Range;

use aigaq_proto::{Digest, Micros, RecorderId, Sequence};

use super::records::{Cause, CheckId, FootageKey, MarkPlace, Owner, Raiser};
use super::statistics::ReportedKey;
use crate::error::{Error, Kind, Result};

/// Version of everything on disk; value: u32 big-endian.
pub const META_FORMAT: &[u8] = b"format";
/// Number of the last durable commit; value: u64 big-endian.
pub const META_LAST_COMMIT: &[u8] = b"last_commit";
/// Size of the log's tree after it; value: u64 big-endian.
pub const META_LOG_SIZE: &[u8] = b"log_size";
/// Digest of the configuration that was written down last; value: 32 bytes.
pub const META_CONFIGURATION: &[u8] = b"configuration";
/// First expiry day whose footage is not hidden; value: u32 big-endian.
pub const META_FOOTAGE_FLOOR: &[u8] = b"footage_floor";
/// First expiry day whose footage may not be dropped; value: u32 big-endian.
pub const META_DROPPED_FLOOR: &[u8] = b"dropped_floor";
/// The last number of the feed; value: u64 big-endian.
pub const META_FEED: &[u8] = b"feed";
/// That footage was sealed under the keys beside the store; value: empty.
pub const META_SEALED: &[u8] = b"sealed";
/// Where the scrub stands; value: a record.
pub const META_SCRUB: &[u8] = b"scrub";
/// When the newest backup was begun that is whole; value: u64 big-endian, microseconds.
pub const META_LAST_BACKUP: &[u8] = b"last_backup";
/// From which copy the store was made; value: a record.
pub const META_RESTORED: &[u8] = b"restored";
/// First expiry day whose keys were not destroyed before the store was put back; value: u32 big-endian.
pub const META_KEYS_FLOOR: &[u8] = b"keys_floor";

/// Length of a footage key, bytes.
pub const FOOTAGE_BYTES: usize = 16;

fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    let mut rest = key.as_mut_slice();
    for part in parts {
        let (head, tail) = rest.split_at_mut(part.len());
        head.copy_from_slice(part);
        rest = tail;
    }
    debug_assert!(rest.is_empty(), "the parts of a key fill it");
    key
}

/// Cuts a key into its fields, front to back.
struct Fields<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    fn of(key: &'a [u8], what: &'static str) -> Self {
        Self { rest: key, what }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(*field)
    }

    fn u64(&mut self) -> Result<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn recorder(&mut self) -> Result<RecorderId> {
        self.take().map(RecorderId)
    }

    fn mark(&mut self) -> Result<MarkPlace> {
        let (at, recorder, [raiser]) = (self.u64()?, self.recorder()?, self.take()?);
        let raiser = match raiser {
            0 => Raiser::Recorder(self.u64()?),
            1 => Raiser::Operator(self.u64()?),
            _ => return Err(self.damaged()),
        };
        Ok(MarkPlace { at, recorder, raiser })
    }

    fn end(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged()) }
    }

    fn damaged(&self) -> Error {
        Error::new(Kind::Damaged, format!("a key of {} has the wrong length", self.what))
    }
}

/// Every key that begins with `prefix`. A prefix of nothing but 0xff bytes has no end and is not asked for.
#[must_use]
pub fn all_under(prefix: &[u8]) -> Range<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    if end.is_empty() {
        end = vec![u8::MAX; 64];
    }
    prefix.to_vec()..end
}

/// Every key of a family: no key is as long as the end.
#[must_use]
pub fn everything() -> Range<Vec<u8>> {
    Vec::new()..vec![u8::MAX; 64]
}

/// Key of a link.
#[must_use]
pub fn link(recorder: RecorderId, sequence: Sequence) -> [u8; 24] {
    join(&[&recorder.0, &sequence.to_be_bytes()])
}

/// Reads what [`link`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_link(key: &[u8]) -> Result<(RecorderId, Sequence)> {
    let mut fields = Fields::of(key, "links");
    let read = (fields.recorder()?, fields.u64()?);
    fields.end().map(|()| read)
}

/// Key of the other side of a fork.
#[must_use]
pub fn fork(recorder: RecorderId, sequence: Sequence, digest: Digest) -> [u8; 56] {
    join(&[&recorder.0, &sequence.to_be_bytes(), &digest.0])
}

/// Reads what [`fork`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_fork(key: &[u8]) -> Result<(RecorderId, Sequence, Digest)> {
    let mut fields = Fields::of(key, "forks");
    let read = (fields.recorder()?, fields.u64()?, Digest(fields.take()?));
    fields.end().map(|()| read)
}

/// Key of a quarantined link: the commit that stored it and its place therein.
#[must_use]
pub fn quarantine(recorder: RecorderId, commit: u64, index: u32) -> [u8; 28] {
    join(&[&recorder.0, &commit.to_be_bytes(), &index.to_be_bytes()])
}

/// Reads what [`quarantine`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_quarantine(key: &[u8]) -> Result<(RecorderId, u64, u32)> {
    let mut fields = Fields::of(key, "quarantine");
    let read = (fields.recorder()?, fields.u64()?, fields.u32()?);
    fields.end().map(|()| read)
}

/// Key of a recorder, in the families `heads`, `recorders`, `announcements`, `deleted` and `classes`.
#[must_use]
pub fn recorder(recorder: RecorderId) -> [u8; 16] {
    recorder.0
}

/// Reads what [`recorder`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_recorder(key: &[u8]) -> Result<RecorderId> {
    let mut fields = Fields::of(key, "recorders");
    let read = fields.recorder()?;
    fields.end().map(|()| read)
}

/// Key of a link's place in time.
#[must_use]
pub fn timeline(recorder: RecorderId, captured_at: Micros, sequence: Sequence) -> [u8; 32] {
    join(&[&recorder.0, &captured_at.to_be_bytes(), &sequence.to_be_bytes()])
}

/// Reads what [`timeline`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_timeline(key: &[u8]) -> Result<(RecorderId, Micros, Sequence)> {
    let mut fields = Fields::of(key, "timeline");
    let read = (fields.recorder()?, fields.u64()?, fields.u64()?);
    fields.end().map(|()| read)
}

/// Key of a request.
#[must_use]
pub fn request(recorder: RecorderId, id: u64) -> [u8; 24] {
    join(&[&recorder.0, &id.to_be_bytes()])
}

/// Reads what [`request`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_request(key: &[u8]) -> Result<(RecorderId, u64)> {
    let mut fields = Fields::of(key, "requests");
    let read = (fields.recorder()?, fields.u64()?);
    fields.end().map(|()| read)
}

/// Key of an assignment.
#[must_use]
pub fn assignment(recorder: RecorderId, from: Micros) -> [u8; 24] {
    join(&[&recorder.0, &from.to_be_bytes()])
}

/// Reads what [`assignment`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_assignment(key: &[u8]) -> Result<(RecorderId, Micros)> {
    let mut fields = Fields::of(key, "assignments");
    let read = (fields.recorder()?, fields.u64()?);
    fields.end().map(|()| read)
}

/// Key of what the `Lost` link with this sequence says.
#[must_use]
pub fn loss(recorder: RecorderId, first: Sequence, sequence: Sequence) -> [u8; 32] {
    join(&[&recorder.0, &first.to_be_bytes(), &sequence.to_be_bytes()])
}

/// Reads what [`loss`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_loss(key: &[u8]) -> Result<(RecorderId, Sequence, Sequence)> {
    let mut fields = Fields::of(key, "losses");
    let read = (fields.recorder()?, fields.u64()?, fields.u64()?);
    fields.end().map(|()| read)
}

/// Key of an audit entry, and of what is said of its place in the log.
#[must_use]
pub fn audit(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Reads what [`audit`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_audit(key: &[u8]) -> Result<u64> {
    let mut fields = Fields::of(key, "audit");
    let read = fields.u64()?;
    fields.end().map(|()| read)
}

/// Key of a slot of the feed.
#[must_use]
pub fn feed(slot: u64) -> [u8; 8] {
    slot.to_be_bytes()
}

/// Key of a mark.
#[must_use]
pub fn mark(place: MarkPlace) -> [u8; 33] {
    let (raiser, number) = match place.raiser {
        Raiser::Recorder(sequence) => (0, sequence),
        Raiser::Operator(number) => (1, number),
    };
    join(&[&place.at.to_be_bytes(), &place.recorder.0, &[raiser], &number.to_be_bytes()])
}

/// Reads what [`mark`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_mark(key: &[u8]) -> Result<MarkPlace> {
    let mut fields = Fields::of(key, "marks");
    let read = fields.mark()?;
    fields.end().map(|()| read)
}

/// Where the keys of marks begin that are not before this time.
#[must_use]
pub fn marks_from(at: Micros) -> Vec<u8> {
    at.to_be_bytes().to_vec()
}

/// Every key of a mark that an operator raised on a recorder at this time.
#[must_use]
pub fn marks_of_operators(at: Micros, recorder: RecorderId) -> Range<Vec<u8>> {
    all_under(&[&at.to_be_bytes()[..], &recorder.0, &[1]].concat())
}

/// Key of that a mark takes the place of another.
#[must_use]
pub fn correction(corrected: MarkPlace, by: MarkPlace) -> [u8; 66] {
    join(&[&mark(corrected), &mark(by)])
}

/// Reads what [`correction`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_correction(key: &[u8]) -> Result<(MarkPlace, MarkPlace)> {
    let mut fields = Fields::of(key, "corrections");
    let read = (fields.mark()?, fields.mark()?);
    fields.end().map(|()| read)
}

/// Key of an incident.
#[must_use]
pub fn incident(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Reads what [`incident`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_incident(key: &[u8]) -> Result<u64> {
    read_u64(key, "incidents")
}

/// Key of what a source calls an incident.
#[must_use]
pub fn incident_name(name: Digest) -> [u8; 32] {
    name.0
}

/// Reads what [`incident_name`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_incident_name(key: &[u8]) -> Result<Digest> {
    let mut fields = Fields::of(key, "incident_names");
    let read = Digest(fields.take()?);
    fields.end().map(|()| read)
}

/// Key of a count that was reported.
#[must_use]
pub fn reported(key: ReportedKey) -> [u8; 20] {
    let ReportedKey { from, to, entry, index } = key;
    join(&[&from.to_be_bytes(), &to.to_be_bytes(), &entry.to_be_bytes(), &index.to_be_bytes()])
}

/// Reads what [`reported`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_reported(key: &[u8]) -> Result<ReportedKey> {
    let mut fields = Fields::of(key, "reported");
    let read = ReportedKey { from: fields.u32()?, to: fields.u32()?, entry: fields.u64()?, index: fields.u32()? };
    fields.end().map(|()| read)
}

/// Key of a version of a case.
#[must_use]
pub fn case(digest: Digest) -> [u8; 32] {
    digest.0
}

/// Reads what [`case`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_case(key: &[u8]) -> Result<Digest> {
    let mut fields = Fields::of(key, "cases");
    let read = Digest(fields.take()?);
    fields.end().map(|()| read)
}

/// Key of a note.
#[must_use]
pub fn incident_note(incident: u64, number: u64) -> [u8; 16] {
    join(&[&incident.to_be_bytes(), &number.to_be_bytes()])
}

/// Reads what [`incident_note`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_incident_note(key: &[u8]) -> Result<(u64, u64)> {
    let mut fields = Fields::of(key, "incident_notes");
    let read = (fields.u64()?, fields.u64()?);
    fields.end().map(|()| read)
}

/// Key of a check, and of a draw.
#[must_use]
pub fn check(id: CheckId) -> [u8; 16] {
    id.0
}

/// Reads what [`check`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_check(key: &[u8]) -> Result<CheckId> {
    let mut fields = Fields::of(key, "checks");
    let read = CheckId(fields.take()?);
    fields.end().map(|()| read)
}

/// Every key after this one, or every key of the family.
#[must_use]
pub fn after(key: Option<&[u8]>) -> Range<Vec<u8>> {
    // No key lies between one and the same with a zero behind it.
    key.map_or_else(everything, |key| [key, &[0]].concat()..everything().end)
}

/// Key of a row of the log: its level and the index of its first item.
#[must_use]
pub fn tile(level: u8, first: u64) -> [u8; 9] {
    join(&[&[level], &first.to_be_bytes()])
}

/// Reads what [`tile`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_tile(key: &[u8]) -> Result<(u8, u64)> {
    let mut fields = Fields::of(key, "tiles");
    let [level] = fields.take()?;
    let read = (level, fields.u64()?);
    fields.end().map(|()| read)
}

/// Key of a body.
#[must_use]
pub fn footage(key: FootageKey) -> [u8; FOOTAGE_BYTES] {
    join(&[&key.day.to_be_bytes(), &key.commit.to_be_bytes(), &key.index.to_be_bytes()])
}

/// Reads what [`footage`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_footage(key: &[u8]) -> Result<FootageKey> {
    let mut fields = Fields::of(key, "footage");
    let read = FootageKey { day: fields.u32()?, commit: fields.u64()?, index: fields.u32()? };
    fields.end().map(|()| read)
}

/// Key of what is said of an owner's body on the day on which it expires.
#[must_use]
pub fn expiry(day: u32, recorder: RecorderId, owner: Owner) -> Vec<u8> {
    let mut key = [&day.to_be_bytes()[..], &recorder.0].concat();
    match owner {
        Owner::Link(sequence) => {
            key.push(0);
            key.extend(sequence.to_be_bytes());
        }
        Owner::Fork(sequence, digest) => {
            key.push(1);
            key.extend(sequence.to_be_bytes());
            key.extend(digest.0);
        }
        Owner::Quarantined(commit, index) => {
            key.push(2);
            key.extend(commit.to_be_bytes());
            key.extend(index.to_be_bytes());
        }
    }
    key
}

/// Reads what [`expiry`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_expiry(key: &[u8]) -> Result<(u32, RecorderId, Owner)> {
    let mut fields = Fields::of(key, "expiry");
    let (day, recorder, [kind]) = (fields.u32()?, fields.recorder()?, fields.take()?);
    let owner = match kind {
        0 => Owner::Link(fields.u64()?),
        1 => Owner::Fork(fields.u64()?, Digest(fields.take()?)),
        2 => Owner::Quarantined(fields.u64()?, fields.u32()?),
        _ => return Err(fields.damaged()),
    };
    fields.end().map(|()| (day, recorder, owner))
}

/// Key of an extension. What has the same recorder, cause and number is the same one.
#[must_use]
pub fn extension(recorder: RecorderId, cause: &Cause, number: u64) -> [u8; 25] {
    let cause = match cause {
        Cause::Mark { .. } => 0,
        Cause::Incident { .. } => 1,
        Cause::Undo(_) => 2,
        Cause::OperatorMark { .. } => 3,
    };
    join(&[&recorder.0, &[cause], &number.to_be_bytes()])
}

/// Reads the recorder and the number of what [`extension`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_extension(key: &[u8]) -> Result<(RecorderId, u64)> {
    let mut fields = Fields::of(key, "extensions");
    let recorder = fields.recorder()?;
    let [0..=3] = fields.take()? else { return Err(fields.damaged()) };
    let read = (recorder, fields.u64()?);
    fields.end().map(|()| read)
}

/// Key of a hold.
#[must_use]
pub fn hold(recorder: RecorderId, id: u64) -> [u8; 24] {
    join(&[&recorder.0, &id.to_be_bytes()])
}

/// Reads what [`hold`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_hold(key: &[u8]) -> Result<(RecorderId, u64)> {
    let mut fields = Fields::of(key, "holds");
    let read = (fields.recorder()?, fields.u64()?);
    fields.end().map(|()| read)
}

/// Key of an account.
#[must_use]
pub fn account(actor: &str) -> Vec<u8> {
    actor.as_bytes().to_vec()
}

/// Key of a session: its slot, which another one gets when it is over.
#[must_use]
pub fn session(slot: u32) -> [u8; 4] {
    slot.to_be_bytes()
}

/// Reads what [`session`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_session(key: &[u8]) -> Result<u32> {
    read_u32(key, "sessions")
}

/// Key of a webhook.
#[must_use]
pub fn webhook(name: &str) -> Vec<u8> {
    name.as_bytes().to_vec()
}

/// Key of an answer.
#[must_use]
pub fn answer(name: Digest) -> [u8; 32] {
    name.0
}

/// Reads what [`answer`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_answer(key: &[u8]) -> Result<Digest> {
    let mut fields = Fields::of(key, "answers");
    let read = Digest(fields.take()?);
    fields.end().map(|()| read)
}

/// Key of what became of a day.
#[must_use]
pub fn day(day: u32) -> [u8; 4] {
    day.to_be_bytes()
}

/// Reads what [`day`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_day(key: &[u8]) -> Result<u32> {
    read_u32(key, "days")
}

/// Key of the destruction of a recorder's key of a footage day.
#[must_use]
pub fn destroyed(day: u32, recorder: RecorderId) -> [u8; 20] {
    join(&[&day.to_be_bytes(), &recorder.0])
}

/// Reads what [`destroyed`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_destroyed(key: &[u8]) -> Result<(u32, RecorderId)> {
    let mut fields = Fields::of(key, "destroyed");
    let read = (fields.u32()?, fields.recorder()?);
    fields.end().map(|()| read)
}

/// Key of a recorder's place in ten minutes.
#[must_use]
pub fn slot(slot: u32, recorder: RecorderId) -> [u8; 20] {
    join(&[&slot.to_be_bytes(), &recorder.0])
}

/// Reads what [`slot`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_slot(key: &[u8]) -> Result<(u32, RecorderId)> {
    let mut fields = Fields::of(key, "slots");
    let read = (fields.u32()?, fields.recorder()?);
    fields.end().map(|()| read)
}

/// Key of what a recorder recorded in ten minutes.
#[must_use]
pub fn runs(recorder: RecorderId, slot: u32) -> [u8; 20] {
    join(&[&recorder.0, &slot.to_be_bytes()])
}

/// Reads what [`runs`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_runs(key: &[u8]) -> Result<(RecorderId, u32)> {
    let mut fields = Fields::of(key, "runs");
    let read = (fields.recorder()?, fields.u32()?);
    fields.end().map(|()| read)
}

/// Key of where a recorder was in a cell and ten minutes, as segments of one block of sequences say.
#[must_use]
pub fn presence(cell: u64, slot: u32, recorder: RecorderId, block: u64) -> [u8; 36] {
    join(&[&cell.to_be_bytes(), &slot.to_be_bytes(), &recorder.0, &block.to_be_bytes()])
}

/// The keys of a cell in the half-open range of ten minutes.
#[must_use]
pub fn presence_in(cell: u64, slots: Range<u32>) -> Range<Vec<u8>> {
    let bound = |slot: u32| [&cell.to_be_bytes()[..], &slot.to_be_bytes()].concat();
    bound(slots.start)..bound(slots.end)
}

/// Reads what [`presence`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_presence(key: &[u8]) -> Result<(u64, u32, RecorderId, u64)> {
    let mut fields = Fields::of(key, "presence");
    let read = (fields.u64()?, fields.u32()?, fields.recorder()?, fields.u64()?);
    fields.end().map(|()| read)
}

/// Key of a mark among those of its recorder.
#[must_use]
pub fn marked(place: MarkPlace) -> [u8; 49] {
    join(&[&place.recorder.0, &mark(place)])
}

/// The marks of a recorder in a half-open range of time.
#[must_use]
pub fn marked_in(recorder: RecorderId, at: Range<Micros>) -> Range<Vec<u8>> {
    let bound = |at: Micros| [&recorder.0[..], &at.to_be_bytes()].concat();
    bound(at.start)..bound(at.end)
}

/// Reads what [`marked`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_marked(key: &[u8]) -> Result<MarkPlace> {
    let mut fields = Fields::of(key, "marked");
    let (recorder, place) = (fields.recorder()?, fields.mark()?);
    if recorder != place.recorder {
        return Err(fields.damaged());
    }
    fields.end().map(|()| place)
}

/// Key of a mark among those of its category, which holds no character 0.
#[must_use]
pub fn category(category: &str, place: MarkPlace) -> Vec<u8> {
    [category.as_bytes(), &[0], &mark(place)].concat()
}

/// The marks of a category in a half-open range of time.
#[must_use]
pub fn category_in(category: &str, at: Range<Micros>) -> Range<Vec<u8>> {
    let bound = |at: Micros| [category.as_bytes(), &[0], &at.to_be_bytes()].concat();
    bound(at.start)..bound(at.end)
}

/// Reads what [`category`] made, the category left out.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_category(key: &[u8]) -> Result<MarkPlace> {
    let mut fields = Fields::of(after_text(key, "categories")?.1, "categories");
    let read = fields.mark()?;
    fields.end().map(|()| read)
}

/// Key of an assignment under a name that it ever had, which holds no character 0.
#[must_use]
pub fn assignee(name: &str, from: Micros, recorder: RecorderId) -> Vec<u8> {
    [name.as_bytes(), &[0], &from.to_be_bytes(), &recorder.0].concat()
}

/// Reads what [`assignee`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_assignee(key: &[u8]) -> Result<(&str, Micros, RecorderId)> {
    let (name, rest) = after_text(key, "assignees")?;
    let mut fields = Fields::of(rest, "assignees");
    let read = (name, fields.u64()?, fields.recorder()?);
    fields.end().map(|()| read)
}

/// A text that ends with a 0, and what comes after it.
fn after_text<'a>(key: &'a [u8], what: &'static str) -> Result<(&'a str, &'a [u8])> {
    let damaged = || Fields::of(key, what).damaged();
    let end = key.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
    let (text, rest) = key.split_at(end);
    Ok((std::str::from_utf8(text).map_err(|_| damaged())?, rest.get(1..).unwrap_or_default()))
}

/// Reads a number of `meta`, big-endian.
///
/// # Errors
/// [`Kind::Damaged`] for another length.
pub fn read_u64(value: &[u8], what: &'static str) -> Result<u64> {
    let mut fields = Fields::of(value, what);
    let read = fields.u64()?;
    fields.end().map(|()| read)
}

/// Reads a number of `meta`, big-endian.
///
/// # Errors
/// [`Kind::Damaged`] for another length.
pub fn read_u32(value: &[u8], what: &'static str) -> Result<u32> {
    let mut fields = Fields::of(value, what);
    let read = fields.u32()?;
    fields.end().map(|()| read)
}

/// Key of a certificate that a recorder has shown.
#[must_use]
pub fn certificate(recorder: RecorderId, fingerprint: Digest) -> [u8; 48] {
    join(&[&recorder.0, &fingerprint.0])
}

/// Reads what [`certificate`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_certificate(key: &[u8]) -> Result<(RecorderId, Digest)> {
    let mut fields = Fields::of(key, "certificates");
    let read = (fields.recorder()?, Digest(fields.take()?));
    fields.end().map(|()| read)
}

/// Key of a revocation list.
#[must_use]
pub fn revocation_list(digest: Digest) -> [u8; 32] {
    digest.0
}

/// Reads what [`revocation_list`] made.
///
/// # Errors
/// [`Kind::Damaged`] for any other bytes.
pub fn read_revocation_list(key: &[u8]) -> Result<Digest> {
    let mut fields = Fields::of(key, "revocation lists");
    let read = Digest(fields.take()?);
    fields.end().map(|()| read)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_key_reads_back_as_what_it_was_made_from(
            id: [u8; 16], digest: [u8; 32], a: u64, b: u64, day: u32, index: u32, level: u8,
        ) {
            let id = RecorderId(id);
            prop_assert_eq!(read_link(&link(id, a)).unwrap(), (id, a));
            prop_assert_eq!(read_fork(&fork(id, a, Digest(digest))).unwrap(), (id, a, Digest(digest)));
            prop_assert_eq!(read_quarantine(&quarantine(id, a, index)).unwrap(), (id, a, index));
            prop_assert_eq!(read_recorder(&recorder(id)).unwrap(), id);
            prop_assert_eq!(read_timeline(&timeline(id, a, b)).unwrap(), (id, a, b));
            prop_assert_eq!(read_request(&request(id, a)).unwrap(), (id, a));
            prop_assert_eq!(read_assignment(&assignment(id, a)).unwrap(), (id, a));
            prop_assert_eq!(read_loss(&loss(id, a, b)).unwrap(), (id, a, b));
            prop_assert_eq!(read_audit(&audit(a)).unwrap(), a);
            prop_assert_eq!(read_certificate(&certificate(id, Digest(digest))).unwrap(), (id, Digest(digest)));
            prop_assert_eq!(read_revocation_list(&revocation_list(Digest(digest))).unwrap(), Digest(digest));
            prop_assert_eq!(read_tile(&tile(level, a)).unwrap(), (level, a));
            let key = FootageKey { day, commit: a, index };
            prop_assert_eq!(read_footage(&footage(key)).unwrap(), key);
            for owner in [Owner::Link(a), Owner::Fork(a, Digest(digest)), Owner::Quarantined(b, index)] {
                prop_assert_eq!(read_expiry(&expiry(day, id, owner)).unwrap(), (day, id, owner));
            }
            prop_assert_eq!(read_extension(&extension(id, &Cause::Incident { name: String::new() }, a)).unwrap(), (id, a));
            prop_assert_eq!(read_hold(&hold(id, a)).unwrap(), (id, a));
            let key = ReportedKey { from: day, to: index, entry: a, index: day };
            prop_assert_eq!(read_reported(&reported(key)).unwrap(), key);
            prop_assert_eq!(read_day(&super::day(day)).unwrap(), day);
            prop_assert_eq!(read_case(&case(Digest(digest))).unwrap(), Digest(digest));
            prop_assert_eq!(read_check(&check(CheckId(id.0))).unwrap(), CheckId(id.0));
            prop_assert!(!after(Some(&id.0)).contains(&id.0.to_vec()));
            prop_assert_eq!(read_session(&session(index)).unwrap(), index);
            prop_assert_eq!(read_incident(&incident(a)).unwrap(), a);
            prop_assert_eq!(read_answer(&answer(Digest(digest))).unwrap(), Digest(digest));
            prop_assert_eq!(read_incident_note(&incident_note(a, b)).unwrap(), (a, b));
            prop_assert_eq!(read_incident_name(&incident_name(Digest(digest))).unwrap(), Digest(digest));
            for raiser in [Raiser::Recorder(b), Raiser::Operator(b)] {
                let place = MarkPlace { at: a, recorder: id, raiser };
                prop_assert_eq!(read_mark(&mark(place)).unwrap(), place);
                prop_assert_eq!(read_marked(&marked(place)).unwrap(), place);
                prop_assert_eq!(read_category(&category("speeding", place)).unwrap(), place);
                let by = MarkPlace { at: b, ..place };
                prop_assert_eq!(read_correction(&correction(place, by)).unwrap(), (place, by));
            }
            prop_assert_eq!(read_slot(&slot(index, id)).unwrap(), (index, id));
            prop_assert_eq!(read_runs(&runs(id, index)).unwrap(), (id, index));
            prop_assert_eq!(read_presence(&presence(a, index, id, b)).unwrap(), (a, index, id, b));
            prop_assert!(presence_in(a, index..index.saturating_add(1)).contains(&presence(a, index, id, b).to_vec()) || index == u32::MAX);
            let named = assignee("Айгүл", a, id);
            prop_assert_eq!(read_assignee(&named).unwrap(), ("Айгүл", a, id));
        }

        #[test]
        fn the_order_of_the_bytes_is_the_order_of_the_values(
            id: [u8; 16], a: (u64, u64), b: (u64, u64), x: (u32, u64, u32), y: (u32, u64, u32), levels: (u8, u8),
        ) {
            let id = RecorderId(id);
            prop_assert_eq!(timeline(id, a.0, a.1).cmp(&timeline(id, b.0, b.1)), a.cmp(&b));
            prop_assert_eq!(audit(a.0).cmp(&audit(b.0)), a.0.cmp(&b.0));
            prop_assert_eq!(link(id, a.0).cmp(&link(id, b.0)), a.0.cmp(&b.0));
            prop_assert_eq!(tile(levels.0, a.0).cmp(&tile(levels.1, b.0)), (levels.0, a.0).cmp(&(levels.1, b.0)));
            let key = |(day, commit, index)| FootageKey { day, commit, index };
            prop_assert_eq!(footage(key(x)).cmp(&footage(key(y))), key(x).cmp(&key(y)));
        }

        #[test]
        fn a_range_under_a_prefix_holds_exactly_the_keys_that_begin_with_it(prefix: [u8; 3], key: [u8; 5]) {
            let range = all_under(&prefix);
            prop_assert_eq!(range.contains(&key.to_vec()), key.starts_with(&prefix));
        }
    }

    #[test]
    fn a_key_of_another_length_is_damaged() {
        let key = link(RecorderId([7; 16]), 1);
        for wrong in [&key[..23], &[&key[..], &[0]].concat()[..], &[]] {
            assert_eq!(read_link(wrong).unwrap_err().kind(), Kind::Damaged);
        }
    }
}
