//! The seam between the store and what keeps bytes: an ordered, durable ledger and a footage area.
//!
//! The verbs of the domain are written once, in [`Store`](super::Store), over this small contract. One conformance suite
//! (`tests/engine.rs`) runs against every engine.

pub mod memory;
pub mod rocks;
#[cfg(feature = "cluster")]
pub mod slate;

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::store::records::FootageKey;

/// The column families of the ledger. The names are those on disk; keys are encoded in `store/keys.rs` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Facts about the store itself: format version, last commit.
    Meta,
    /// Links by recorder and sequence.
    Links,
    /// The other sides of forks.
    Forks,
    /// Links that failed a check.
    Quarantine,
    /// Chain state by recorder.
    Heads,
    /// Links by recorder and captured-at.
    Timeline,
    /// Enrolled recorders.
    Recorders,
    /// What was done, by number.
    Audit,
    /// Where the log has what was done, by number.
    Leaves,
    /// The transparency log.
    Tiles,
    /// What each recorder announced last.
    Announcements,
    /// Ranges that recorders were asked for, by recorder and number.
    Requests,
    /// Who had a recorder, by recorder and begin.
    Assignments,
    /// Links that recorders said are lost, by recorder and first sequence.
    Losses,
    /// The certificates that recorders have shown, by recorder and fingerprint.
    Certificates,
    /// The revocation lists that were in use, by digest.
    RevocationLists,
    /// What the footage of each day holds, by expiry day and owner.
    Expiry,
    /// What keeps footage longer, by recorder.
    Extensions,
    /// Who holds footage, by recorder.
    Holds,
    /// What became of the days that are over.
    Days,
    /// Up to where footage was ever deleted, by recorder.
    Deleted,
    /// Who may sign in, by actor.
    Accounts,
    /// Who has signed in, by slot.
    Sessions,
    /// How much footage is kept from eyes, by recorder.
    Classes,
    /// What happened, by slot of the ring.
    Feed,
    /// Keys that were destroyed before their day was over, by day and recorder.
    Destroyed,
    /// Marks, by time.
    Marks,
    /// Which mark took the place of which.
    Corrections,
    /// Who recorded when, by ten minutes and recorder.
    Slots,
    /// What each recorder recorded in ten minutes.
    Runs,
    /// Where footage was taken, by cell, ten minutes and recorder. The one family whose values are appended to.
    Presence,
    /// Marks, by recorder and time.
    Marked,
    /// Marks, by category and time.
    Categories,
    /// Who had a recorder, by the name of who had it.
    Assignees,
    /// Destructions of keys that somebody asked for, by day and recorder.
    Wishes,
    /// Incidents, by number.
    Incidents,
    /// Incidents by what their source calls them.
    IncidentNames,
    /// What was noted with incidents, by incident and number.
    IncidentNotes,
    /// Where events are sent, by name.
    Webhooks,
    /// Answers that may be asked for again, by digest.
    Answers,
    /// Marks as they are counted, by time.
    Counted,
    /// Counts that were not made here, by period.
    Reported,
    /// Versions of situational cases, by digest.
    Cases,
    /// Draws of who is checked.
    Draws,
    /// Integrity checks.
    Checks,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 45] = [
        Self::Meta,
        Self::Links,
        Self::Forks,
        Self::Quarantine,
        Self::Heads,
        Self::Timeline,
        Self::Recorders,
        Self::Audit,
        Self::Leaves,
        Self::Tiles,
        Self::Announcements,
        Self::Requests,
        Self::Assignments,
        Self::Losses,
        Self::Certificates,
        Self::RevocationLists,
        Self::Expiry,
        Self::Extensions,
        Self::Holds,
        Self::Days,
        Self::Deleted,
        Self::Accounts,
        Self::Sessions,
        Self::Classes,
        Self::Feed,
        Self::Destroyed,
        Self::Marks,
        Self::Corrections,
        Self::Slots,
        Self::Runs,
        Self::Presence,
        Self::Marked,
        Self::Categories,
        Self::Assignees,
        Self::Wishes,
        Self::Incidents,
        Self::IncidentNames,
        Self::IncidentNotes,
        Self::Webhooks,
        Self::Answers,
        Self::Counted,
        Self::Reported,
        Self::Cases,
        Self::Draws,
        Self::Checks,
    ];

    /// The name on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Links => "links",
            Self::Forks => "forks",
            Self::Quarantine => "quarantine",
            Self::Heads => "heads",
            Self::Timeline => "timeline",
            Self::Recorders => "recorders",
            Self::Audit => "audit",
            Self::Leaves => "leaves",
            Self::Tiles => "tiles",
            Self::Announcements => "announcements",
            Self::Requests => "requests",
            Self::Assignments => "assignments",
            Self::Losses => "losses",
            Self::Expiry => "expiry",
            Self::Extensions => "extensions",
            Self::Holds => "holds",
            Self::Days => "days",
            Self::Deleted => "deleted",
            Self::Accounts => "accounts",
            Self::Sessions => "sessions",
            Self::Classes => "classes",
            Self::Feed => "feed",
            Self::Destroyed => "destroyed",
            Self::Marks => "marks",
            Self::Corrections => "corrections",
            Self::Wishes => "wishes",
            Self::Incidents => "incidents",
            Self::IncidentNames => "incident_names",
            Self::IncidentNotes => "incident_notes",
            Self::Webhooks => "webhooks",
            Self::Answers => "answers",
            Self::Counted => "counted",
            Self::Reported => "reported",
            Self::Cases => "cases",
            Self::Draws => "draws",
            Self::Checks => "checks",
            Self::Certificates => "certificates",
            Self::RevocationLists => "revocation_lists",
            Self::Slots => "slots",
            Self::Runs => "runs",
            Self::Presence => "presence",
            Self::Marked => "marked",
            Self::Categories => "categories",
            Self::Assignees => "assignees",
        }
    }

    /// Whether values of the family are [appended](Batch::append) to.
    #[must_use]
    pub const fn is_appended(self) -> bool {
        matches!(self, Self::Presence)
    }
}

/// Puts and appends that become durable together.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    /// Family, key, value, in order; a later put of the same key wins.
    pub puts: Vec<(Family, Vec<u8>, Vec<u8>)>,
    /// Family, key, and what is added at the end of its value, in order; after the puts.
    pub appends: Vec<(Family, Vec<u8>, Vec<u8>)>,
}

impl Batch {
    /// Adds a put.
    pub fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.puts.push((family, key.into(), value.into()));
    }

    /// Adds bytes at the end of the value under a key, which is empty where there is none; nothing is read for it. For families that
    /// are [appended to](Family::is_appended).
    pub fn append(&mut self, family: Family, key: impl Into<Vec<u8>>, bytes: impl Into<Vec<u8>>) {
        debug_assert!(family.is_appended(), "the values of {} are put", family.name());
        self.appends.push((family, key.into(), bytes.into()));
    }
}

/// A body on its way into the footage.
#[derive(Debug, Clone)]
pub struct NewBody {
    /// Where it will lie. Keys of one commit share the commit number; commits never share one.
    pub key: FootageKey,
    /// The bytes.
    pub bytes: Bytes,
}

/// Which way a scan runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest key.
    Forward,
    /// From the highest key.
    Backward,
}

/// A key and its value.
pub type Entry = (Box<[u8]>, Box<[u8]>);

/// Free and total bytes of the place where an engine keeps things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be written.
    pub free: u64,
    /// All bytes.
    pub total: u64,
}

/// What keeps bytes. All methods block; call them from the writer's thread or a blocking task.
pub trait Engine: Send + Sync + 'static {
    /// Makes the bodies and then the batch durable; when it returns `Ok`, all are. The batch is atomic; bodies without a
    /// batch may be left behind by a crash and are swept at open.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when anything could not be made durable: the caller must never
    /// acknowledge again; [`Kind::StorageFull`] when it was refused before anything was written.
    fn commit(&self, bodies: &[NewBody], batch: &Batch) -> Result<()>;

    /// The same for bodies that are moved away from a day whose time is over: they may use half of the room that is kept free, so
    /// that a full disk does not stand in the way of the deletion that will end it.
    ///
    /// # Errors
    /// As [`Engine::commit`].
    fn relocate(&self, bodies: &[NewBody], batch: &Batch) -> Result<()> {
        self.commit(bodies, batch)
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the engine's own checksum fails.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The entries with keys in `range` (half-open), as of one moment, in the direction.
    fn scan<'a>(
        &'a self,
        family: Family,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Entry>> + 'a>;

    /// The body under `key`.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the engine's own checksum fails.
    fn body(&self, key: FootageKey) -> Result<Option<Bytes>>;

    /// Every body with its key, in order of the keys. Ends after the first error.
    fn bodies<'a>(&'a self) -> Box<dyn Iterator<Item = Result<(FootageKey, Bytes)>> + 'a>;

    /// Removes every body of a commit greater than `last`: what a crash left behind. Costs a few seeks a day of footage,
    /// not a walk over it. Returns whether there was any.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when the removal could not be made durable.
    fn sweep_after(&self, last: u64) -> Result<bool>;

    /// Takes away rows of a family of which nobody needs to know any more; durable on return, all or nothing. No evidence is kept that way:
    /// a commit only ever adds.
    ///
    /// # Errors
    /// As [`Engine::commit`].
    fn forget(&self, family: Family, keys: &[Vec<u8>]) -> Result<()>;

    /// Removes every body that expires before `day` (exclusive), returning their room, and then what the family `expiry` says of
    /// them.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when the removal could not be made durable.
    fn drop_days_before(&self, day: u32) -> Result<()>;

    /// Room left.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it cannot be told.
    fn space(&self) -> Result<Space>;

    /// Fails if the engine has met a background error since it was opened.
    ///
    /// # Errors
    /// [`Kind::Fatal`] then.
    fn healthy(&self) -> Result<()>;

    /// Writes out what waits in memory, so that a snapshot right after it is quick.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when it could not.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Puts everything that is durable into a directory of its own, in files that nobody changes any more, and tells where that is; the
    /// one before goes. No commit with bodies may be under way, or its batch may be there without them.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an engine without files; as [`Engine::commit`].
    fn snapshot(&self) -> Result<PathBuf> {
        Err(Error::new(Kind::Invalid, "this engine has no files to take a snapshot of"))
    }

    /// Takes the snapshot away.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it stays; the next snapshot and the next start try again.
    fn drop_snapshot(&self) -> Result<()> {
        Ok(())
    }

    /// Writes out what a clean stop should leave tidy. Correctness never needs it.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when it could not.
    fn close(&self) -> Result<()>;
}
