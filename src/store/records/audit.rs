//! The values of the audit trail: what was done, and where the log has it.

use aigaq_proto::{Digest, Micros};
use serde::{Deserialize, Serialize};

/// What kind of thing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// Facts were asked for.
    LookUp,
    /// Footage was asked for.
    View,
    /// Something was asked to be done; what came of it is an entry of its own where it concerns evidence.
    Request,
    /// An export was ordered or handed over.
    Export,
    /// Somebody was refused.
    Denial,
    /// Footage was held.
    Hold,
    /// A hold was released, or its release was asked for.
    Release,
    /// Footage was hidden, brought back or deleted.
    Deletion,
    /// A key was destroyed.
    KeyDestruction,
    /// The identity of a recorder was taken back.
    Revocation,
    /// A server started with another configuration.
    Configuration,
    /// An account or a client was made, changed or removed.
    Account,
    /// A copy of the store was taken.
    Backup,
    /// A store was made from a copy.
    Restore,
    /// Somebody signed in.
    SignIn,
    /// A session was ended.
    SignOut,
    /// It was said how much footage is kept from eyes.
    Class,
    /// A mark was raised by an operator.
    Mark,
    /// An incident was opened, changed, or acted by itself.
    Incident,
    /// Counts were brought in that were not made here.
    Figures,
    /// Something was asked or done about an integrity check: for inspectors alone.
    Check,
}

impl Event {
    /// Every kind.
    pub const ALL: [Self; 21] = [
        Self::LookUp,
        Self::View,
        Self::Request,
        Self::Export,
        Self::Denial,
        Self::Hold,
        Self::Release,
        Self::Deletion,
        Self::KeyDestruction,
        Self::Revocation,
        Self::Configuration,
        Self::Account,
        Self::Backup,
        Self::Restore,
        Self::SignIn,
        Self::SignOut,
        Self::Class,
        Self::Mark,
        Self::Incident,
        Self::Figures,
        Self::Check,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LookUp => "look-up",
            Self::View => "view",
            Self::Request => "request",
            Self::Export => "export",
            Self::Denial => "denial",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Deletion => "deletion",
            Self::KeyDestruction => "key-destruction",
            Self::Revocation => "revocation",
            Self::Configuration => "configuration",
            Self::Account => "account",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::SignIn => "sign-in",
            Self::SignOut => "sign-out",
            Self::Class => "class",
            Self::Mark => "mark",
            Self::Incident => "incident",
            Self::Figures => "figures",
            Self::Check => "check",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// An entry of the audit trail: who did what, when, from where, why, and what came of it. What is hashed for the log is exactly
/// its stored form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its place in the trail, from 1 without gaps; filled in by the store.
    pub number: u64,
    /// Server clock; the store never lets it be earlier than that of the entry before.
    pub at: Micros,
    /// What kind of thing.
    pub event: Event,
    /// Who, such as `account:anna`.
    pub actor: String,
    /// From where: source address without the port, `local` or `server`.
    pub source: String,
    /// To what, such as the id of a recorder; may be empty.
    pub object: String,
    /// What: method and path, or words.
    pub action: String,
    /// Why, in the words of the actor; may be empty.
    pub reason: String,
    /// SHA-256 of what the entry speaks of, where that is a whole, such as a configuration.
    pub content: Option<Digest>,
    /// What came of it, such as `granted` or `denied`.
    pub outcome: String,
}

impl AuditRecord {
    /// An entry that was granted, with the rest to be said.
    #[must_use]
    pub fn new(at: Micros, event: Event, actor: &str, source: &str, action: impl Into<String>) -> Self {
        Self {
            number: 0,
            at,
            event,
            actor: actor.to_owned(),
            source: source.to_owned(),
            object: String::new(),
            action: action.into(),
            reason: String::new(),
            content: None,
            outcome: "granted".to_owned(),
        }
    }

    /// The same about `object`.
    #[must_use]
    pub fn about(self, object: impl Into<String>) -> Self {
        Self { object: object.into(), ..self }
    }

    /// The same with the reason.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    /// The same with another outcome.
    #[must_use]
    pub fn ended(self, outcome: impl Into<String>) -> Self {
        Self { outcome: outcome.into(), ..self }
    }
}

/// Where the log has an entry of the trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafRecord {
    /// Index in the log.
    pub log_index: u64,
    /// Size of the log's tree after the commit that brought it there.
    pub tree_size: u64,
}
