//! Is everything that was acknowledged there, and is it what was received? The offline check of a data directory.
//!
//! [`check`] reads every family to its end with checksums on, walks every chain, verifies every signature under the enrolled key,
//! opens every key and every sealed body and hashes it, computes the log's tree anew from its entries and holds it against the stored tiles and the newest
//! checkpoint. What belongs together is compared from both sides: no footage without an owner, no link without
//! its footage, no log entry without its link or audit entry.
//!
//! It changes not one byte. It never stops at the first problem, and it never calls damage anything that a crash may leave. What
//! cannot be read is one problem, said once; the walk goes on behind it, and what could only be told with it counts as not checked.

mod chains;
mod expiry;
mod footage;
mod index;
mod integrity;
#[cfg(test)]
mod tests;
mod trail;
mod tree;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use aigaq_proto::{Digest, Micros, RecorderId};
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};
use crate::log::Identity;
use crate::seal;
use crate::store::engine::{Entry, Family};
use crate::store::records::{
    self, AccountRecord, AnnouncementRecord, AnswerRecord, CertificateRecord, ClassRecord, DayRecord,
    DestructionRecord, ExtensionRecord, FeedRecord, HoldRecord, IncidentRecord, NoteRecord, RecorderRecord,
    ReportedRecord, RequestRecord, RevocationListRecord, SessionRecord, WebhookRecord, WishRecord,
};
use crate::store::{self, Settings, Store, keys};
use walk::{Hole, Walk};

/// Problems of one kind that are shown; the others are only counted.
const SHOWN_MAX: u64 = 100;
/// The kind of problem that is not in what was read.
const UNREAD: &str = "unread";

/// What was counted, and how many problems were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Enrolled recorders.
    pub recorders: u64,
    /// Links in chains.
    pub links: u64,
    /// Sequences missing before the newest link of their chain: visible, so no problem of the store.
    pub gaps: u64,
    /// Places where a link names another predecessor than the one that is stored: evidence, no problem of the store.
    pub breaks: u64,
    /// Other sides of forks.
    pub forks: u64,
    /// Links in quarantine.
    pub quarantined: u64,
    /// Bodies in the footage that were hashed.
    pub bodies: u64,
    /// Their bytes.
    pub body_bytes: u64,
    /// Bodies that are gone because their time is over.
    pub expired: u64,
    /// Bodies that are hidden because their time is over, and can be brought back.
    pub hidden: u64,
    /// Bodies that are gone because their key was destroyed.
    pub destroyed: u64,
    /// Copies that were left on a day that is over when the body was moved to a later one.
    pub moved: u64,
    /// Bodies of a commit that was never finished; the next start removes them.
    pub unfinished: u64,
    /// Sealed bodies that were read and not opened, because there are no keys.
    pub unopened: u64,
    /// Keys of the footage.
    pub keys: seal::Counts,
    /// Audit entries.
    pub audit_entries: u64,
    /// Entries of the transparency log.
    pub log_entries: u64,
    /// Size of the tree of the newest checkpoint, if there is one.
    pub checkpoint: Option<u64>,
    /// Time stamps over its checkpoints.
    pub timestamps: u64,
    /// Logs that ended before it.
    pub successions: u64,
    /// What could not be checked, by its kind, because something that it depends on could not be read.
    pub not_checked: BTreeMap<&'static str, u64>,
    /// What does not hold.
    pub problems: u64,
}

impl Report {
    /// Whether all holds.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "recorders     {}", self.recorders)?;
        writeln!(f, "links         {} ({} missing, {} breaks)", self.links, self.gaps, self.breaks)?;
        writeln!(f, "forks         {}", self.forks)?;
        writeln!(f, "quarantined   {}", self.quarantined)?;
        let Self { bodies, body_bytes, expired, hidden, moved, destroyed, .. } = self;
        let destroyed = if *destroyed > 0 { format!(", {destroyed} destroyed") } else { String::new() };
        writeln!(
            f,
            "bodies        {bodies} ({body_bytes} bytes; {hidden} hidden, {moved} moved, {expired} expired{destroyed})"
        )?;
        if self.unfinished > 0 {
            writeln!(
                f,
                "unfinished    {} bodies that nobody was promised; the next start removes them",
                self.unfinished
            )?;
        }
        if self.unopened > 0 {
            writeln!(f, "unopened      {} sealed bodies: their keys were not given", self.unopened)?;
        }
        let seal::Counts { days, keys, unfinished } = self.keys;
        let unfinished = if unfinished > 0 { format!(", {unfinished} never finished") } else { String::new() };
        writeln!(f, "keys          {keys} of {days} days{unfinished}")?;
        writeln!(f, "audit entries {}", self.audit_entries)?;
        match self.checkpoint {
            Some(size) => writeln!(f, "log           {} entries, checkpoint at {size}", self.log_entries)?,
            None => writeln!(f, "log           {} entries, no checkpoint file", self.log_entries)?,
        }
        if self.successions > 0 {
            writeln!(f, "successions   {}", self.successions)?;
        }
        if self.timestamps > 0 {
            writeln!(f, "time stamps   {}", self.timestamps)?;
        }
        for (what, count) in &self.not_checked {
            writeln!(f, "not checked   {count} {what}")?;
        }
        write!(f, "problems      {}", self.problems)
    }
}

/// Collects what is found on the way.
struct Findings<'a> {
    report: Report,
    on_problem: &'a mut dyn FnMut(&str),
    kinds: BTreeMap<&'static str, u64>,
    holes: Vec<Hole>,
}

impl<'a> Findings<'a> {
    fn new(on_problem: &'a mut dyn FnMut(&str)) -> Self {
        Self { report: Report::default(), on_problem, kinds: BTreeMap::new(), holes: Vec::new() }
    }

    /// Counts a problem, and shows it unless there were many of its kind.
    fn problem(&mut self, kind: &'static str, line: impl AsRef<str>) {
        self.report.problems += 1;
        let of_kind = self.kinds.entry(kind).or_default();
        *of_kind += 1;
        if *of_kind <= SHOWN_MAX {
            (self.on_problem)(line.as_ref());
        }
    }

    /// The value, or nothing and a problem that names the place.
    fn keep<T>(&mut self, kind: &'static str, place: impl fmt::Display, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.problem(kind, format!("{place}: {error}"))).ok()
    }

    /// Notes what could not be checked, because of something else that is a problem already.
    fn not_checked(&mut self, what: &'static str, count: u64) {
        if count > 0 {
            *self.report.not_checked.entry(what).or_default() += count;
        }
    }

    /// The entry, or nothing, one problem and a hole.
    fn read(&mut self, entry: Result<Entry, (Hole, Error)>) -> Option<Entry> {
        let (hole, error) = match entry {
            Ok(entry) => return Some(entry),
            Err(unread) => unread,
        };
        let after = if hole.after.is_empty() { "the beginning".to_owned() } else { place_of(hole.family, &hole.after) };
        let before = hole.before.as_ref().map_or("the end".to_owned(), |key| place_of(hole.family, key));
        let family = hole.family.name();
        self.problem(UNREAD, format!("{family}: {error}; nothing was read between {after} and {before}"));
        self.holes.push(hole);
        None
    }

    /// Whether something of these families could not be read.
    fn has_hole(&self, families: &[Family]) -> bool {
        self.holes.iter().any(|hole| families.contains(&hole.family))
    }

    /// Whether something of these families that may belong to a recorder could not be read.
    fn has_hole_of(&self, families: &[Family], recorder: RecorderId) -> bool {
        self.holes.iter().any(|hole| families.contains(&hole.family) && hole.touches(&recorder.0))
    }

    /// The report. What was not checked without anything that did not read is a problem of its own.
    fn finish(mut self) -> Report {
        if self.report.problems == 0 && !self.report.not_checked.is_empty() {
            self.problem(UNREAD, "something did not read the first time that reads now; check again");
        }
        for (kind, count) in &self.kinds {
            if *count > SHOWN_MAX {
                (self.on_problem)(&format!("{} more of the kind {kind}", count - SHOWN_MAX));
            }
        }
        self.report
    }
}

/// How a key is named in a problem.
fn place_of(family: Family, key: &[u8]) -> String {
    match family {
        Family::Links => keys::read_link(key).map(|(recorder, sequence)| format!("{recorder}/{sequence}")),
        Family::Forks => keys::read_fork(key).map(|(recorder, sequence, _)| format!("{recorder}/{sequence} fork")),
        Family::Quarantine => keys::read_quarantine(key).map(|(recorder, ..)| format!("{recorder} quarantine")),
        Family::Timeline => keys::read_timeline(key).map(|(recorder, _, sequence)| format!("{recorder}/{sequence}")),
        Family::Heads | Family::Recorders | Family::Announcements | Family::Deleted | Family::Classes => {
            keys::read_recorder(key).map(|recorder| recorder.to_string())
        }
        Family::Tiles => keys::read_tile(key).map(|(level, first)| format!("item {first} of level {level}")),
        Family::Audit | Family::Leaves => keys::read_audit(key).map(|number| format!("audit entry {number}")),
        Family::Requests => keys::read_request(key).map(|(recorder, id)| format!("{recorder} request {id}")),
        Family::Assignments => keys::read_assignment(key).map(|(recorder, from)| format!("{recorder} from {from} µs")),
        Family::Losses => keys::read_loss(key).map(|(recorder, _, sequence)| format!("{recorder}/{sequence} lost")),
        Family::Certificates => {
            keys::read_certificate(key).map(|(recorder, leaf)| format!("{recorder} certificate {leaf}"))
        }
        Family::RevocationLists => keys::read_revocation_list(key).map(|digest| format!("revocation list {digest}")),
        Family::Expiry => {
            keys::read_expiry(key).map(|(day, recorder, owner)| format!("{recorder} {owner:?} of day {day}"))
        }
        Family::Extensions => {
            keys::read_extension(key).map(|(recorder, number)| format!("{recorder} extension {number}"))
        }
        Family::Holds => keys::read_hold(key).map(|(recorder, id)| format!("{recorder} hold {id}")),
        Family::Accounts => Ok(String::from_utf8_lossy(key).into_owned()),
        Family::Sessions => keys::read_session(key).map(|slot| format!("session {slot}")),
        Family::Days => keys::read_day(key).map(|day| format!("day {day}")),
        Family::Counted => {
            keys::read_mark(key).map(|place| format!("{} counted mark at {} µs", place.recorder, place.at))
        }
        Family::Cases => keys::read_case(key).map(|digest| format!("case {digest}")),
        Family::Draws => keys::read_check(key).map(|id| format!("draw {:032x}", u128::from_be_bytes(id.0))),
        Family::Checks => keys::read_check(key).map(|id| format!("check {:032x}", u128::from_be_bytes(id.0))),
        Family::Reported => {
            keys::read_reported(key).map(|key| format!("count {} of audit entry {}", key.index, key.entry))
        }
        Family::Feed => keys::read_u64(key, "feed").map(|slot| format!("slot {slot} of the feed")),
        Family::Destroyed => {
            keys::read_destroyed(key).map(|(day, recorder)| format!("{recorder} destroyed key of day {day}"))
        }
        Family::Marks => keys::read_mark(key).map(|place| format!("{} mark at {} µs", place.recorder, place.at)),
        Family::Corrections => {
            keys::read_correction(key).map(|(place, _)| format!("{} correction of a mark", place.recorder))
        }
        Family::Slots => keys::read_slot(key).map(|(slot, recorder)| format!("{recorder} in the ten minutes {slot}")),
        Family::Runs => {
            keys::read_runs(key).map(|(recorder, slot)| format!("{recorder} runs of the ten minutes {slot}"))
        }
        Family::Presence => keys::read_presence(key)
            .map(|(cell, slot, recorder, _)| format!("{recorder} in cell {cell:x} in the ten minutes {slot}")),
        Family::Marked => keys::read_marked(key).map(|place| format!("{} marked at {} µs", place.recorder, place.at)),
        Family::Categories => {
            keys::read_category(key).map(|place| format!("{} marked at {} µs, by category", place.recorder, place.at))
        }
        Family::Assignees => {
            keys::read_assignee(key).map(|(_, from, recorder)| format!("{recorder} from {from} µs by name"))
        }
        Family::Wishes => {
            keys::read_destroyed(key).map(|(day, recorder)| format!("{recorder} wanted destruction of day {day}"))
        }
        Family::Incidents => keys::read_incident(key).map(|number| format!("incident {number}")),
        Family::IncidentNames => keys::read_incident_name(key).map(|name| format!("name {name} of an incident")),
        Family::IncidentNotes => {
            keys::read_incident_note(key).map(|(incident, number)| format!("note {number} of incident {incident}"))
        }
        Family::Webhooks => Ok(format!("webhook {}", String::from_utf8_lossy(key))),
        Family::Answers => keys::read_answer(key).map(|name| format!("answer {name}")),
        Family::Meta => Ok(String::from_utf8_lossy(key).into_owned()),
    }
    .unwrap_or_else(|_| family.name().to_owned())
}

/// Checks the data directory `dir`; its server must be stopped. `on_problem` is given each problem as one line.
///
/// # Errors
/// [`Kind::NotFound`] when there is no store or no key of its log, [`Kind::Busy`] when a server has it open, [`Kind::Damaged`] when it cannot even be opened.
pub fn check(dir: &Path, on_problem: &mut dyn FnMut(&str)) -> Result<Report> {
    check_with(dir, &seal::Settings::default(), on_problem)
}

/// The same where the master key lies elsewhere.
///
/// # Errors
/// As [`check`]; [`Kind::Invalid`] for a master key that others may read or that is none.
pub fn check_with(dir: &Path, seal: &seal::Settings, on_problem: &mut dyn FnMut(&str)) -> Result<Report> {
    let settings = Settings { seal: seal.clone(), ..Settings::default() };
    let store = Store::open_read_only(&dir.join(store::DIR), &settings)?;
    let identity = Identity::load(dir)?.ok_or_else(|| Error::new(Kind::NotFound, "there is no log.key"))?;
    check_store(&store, identity, dir, on_problem)
}

/// The same for a copy of a data directory that nobody uses, which may lie on what cannot be written. Its keys are where `seal` says; without
/// them what is sealed is read and not opened.
///
/// # Errors
/// As [`check_with`].
pub fn check_copy(dir: &Path, seal: &seal::Settings, on_problem: &mut dyn FnMut(&str)) -> Result<Report> {
    let settings = Settings { seal: seal.clone(), ..Settings::default() };
    let store = Store::open_copy(&dir.join(store::DIR), &settings)?;
    let identity = Identity::load(dir)?.ok_or_else(|| Error::new(Kind::NotFound, "there is no log.key"))?;
    check_store(&store, identity, dir, on_problem)
}

/// The same for a store that is open.
fn check_store(store: &Store, log: Identity, dir: &Path, on_problem: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut findings = Findings::new(on_problem);
    let mut log = tree::check(store, log, dir, &mut findings)?;
    let bodies = chains::check(store, &mut log, &mut findings);
    let told = trail::check(store, &mut log, &mut findings);
    integrity::check(store, &log, told, &mut findings);
    log.check_owners(&mut findings);
    let moved = expiry::check(store, &bodies, &mut findings);
    keys_of(store, &mut findings);
    footage::check(store, bodies, &moved, &mut findings);
    rest(store, &mut findings);
    Ok(findings.finish())
}

/// Every key of the footage opens.
fn keys_of(store: &Store, findings: &mut Findings<'_>) {
    let checked = store.check_keys(&mut |problem| findings.problem("keys", problem));
    if let Some(counts) = findings.keep("keys", "keys", checked) {
        findings.report.keys = counts;
    }
}

/// The families that stand for themselves.
fn rest(store: &Store, findings: &mut Findings<'_>) {
    for (key, value) in walk(store, Family::Recorders, findings) {
        let recorder = records::decode::<RecorderRecord>(&value, "recorders");
        let place = place_of(Family::Recorders, &key);
        findings.report.recorders += findings.keep("recorders", place, recorder).map_or(0, |_| 1);
    }
    walk(store, Family::Meta, findings);
    shown(store, findings);
    of_the_field::<AnnouncementRecord>(
        store,
        Family::Announcements,
        |key| keys::read_recorder(key).map(|_| ()),
        findings,
    );
    of_the_field::<RequestRecord>(store, Family::Requests, |key| keys::read_request(key).map(|_| ()), findings);
    index::assignees(store, findings);
    of_the_field::<ExtensionRecord>(store, Family::Extensions, |key| keys::read_extension(key).map(|_| ()), findings);
    of_the_field::<HoldRecord>(store, Family::Holds, |key| keys::read_hold(key).map(|_| ()), findings);
    of_the_field::<u64>(store, Family::Deleted, |key| keys::read_recorder(key).map(|_| ()), findings);
    of_the_field::<FeedRecord>(store, Family::Feed, |key| keys::read_u64(key, "feed").map(|_| ()), findings);
    of_the_field::<DestructionRecord>(store, Family::Destroyed, |key| keys::read_destroyed(key).map(|_| ()), findings);
    index::marks(store, findings);
    of_the_field::<Micros>(store, Family::Corrections, |key| keys::read_correction(key).map(|_| ()), findings);
    of_the_field::<WishRecord>(store, Family::Wishes, |key| keys::read_destroyed(key).map(|_| ()), findings);
    incidents(store, findings);
    of_the_field::<AnswerRecord>(store, Family::Answers, |key| keys::read_answer(key).map(|_| ()), findings);
    of_the_field::<WebhookRecord>(store, Family::Webhooks, |_| Ok(()), findings);
    of_the_field::<ReportedRecord>(store, Family::Reported, |key| keys::read_reported(key).map(|_| ()), findings);
    of_the_field::<DayRecord>(store, Family::Days, |key| keys::read_day(key).map(|_| ()), findings);
    of_the_field::<AccountRecord>(store, Family::Accounts, |_| Ok(()), findings);
    of_the_field::<SessionRecord>(store, Family::Sessions, |key| keys::read_session(key).map(|_| ()), findings);
    of_the_field::<ClassRecord>(store, Family::Classes, |key| keys::read_recorder(key).map(|_| ()), findings);
}

/// Every incident reads, and each name and note is one of an incident that is there.
fn incidents(store: &Store, findings: &mut Findings<'_>) {
    of_the_field::<IncidentRecord>(store, Family::Incidents, |key| keys::read_incident(key).map(|_| ()), findings);
    let is_there = |number: u64| match store.incident(number)? {
        Some(_) => Ok(()),
        None => Err(Error::new(Kind::Damaged, format!("there is no incident {number}"))),
    };
    for (key, value) in walk(store, Family::IncidentNames, findings) {
        let number = keys::read_incident_name(&key).and_then(|_| records::decode(&value, "incident_names"));
        findings.keep("incidents", place_of(Family::IncidentNames, &key), number.and_then(is_there));
    }
    for (key, value) in walk(store, Family::IncidentNotes, findings) {
        let read = keys::read_incident_note(&key).and_then(|(number, _)| {
            records::decode::<NoteRecord>(&value, "incident_notes")?;
            is_there(number)
        });
        findings.keep("incidents", place_of(Family::IncidentNotes, &key), read);
    }
}

/// Certificates and revocation lists are those that their keys name.
fn shown(store: &Store, findings: &mut Findings<'_>) {
    let same = |named: Digest, bytes: &[u8]| {
        if Digest::of(bytes) == named { Ok(()) } else { Err(Error::new(Kind::Damaged, "it is not what its key names")) }
    };
    for (key, value) in walk(store, Family::Certificates, findings) {
        let read = keys::read_certificate(&key).and_then(|(_, leaf)| {
            let record: CertificateRecord = records::decode(&value, "certificates")?;
            same(leaf, record.chain.first().map_or(&[], |leaf| leaf.as_slice()))
        });
        findings.keep("certificates", place_of(Family::Certificates, &key), read);
    }
    for (key, value) in walk(store, Family::RevocationLists, findings) {
        let read = keys::read_revocation_list(&key).and_then(|digest| {
            let record: RevocationListRecord = records::decode(&value, "revocation lists")?;
            same(digest, &record.der)
        });
        findings.keep("revocation_lists", place_of(Family::RevocationLists, &key), read);
    }
}

/// Every entry of a family decodes, key and value.
fn of_the_field<T: DeserializeOwned>(
    store: &Store,
    family: Family,
    key_of: fn(&[u8]) -> Result<()>,
    findings: &mut Findings<'_>,
) {
    for entry in Walk::new(store.engine(), family) {
        let Some((key, value)) = findings.read(entry) else { continue };
        let read = key_of(&key).and_then(|()| records::decode::<T>(&value, family.name()));
        findings.keep(family.name(), place_of(family, &key), read);
    }
}

/// Every entry of a small family that reads.
fn walk(store: &Store, family: Family, findings: &mut Findings<'_>) -> Vec<Entry> {
    Walk::new(store.engine(), family).filter_map(|entry| findings.read(entry)).collect()
}
