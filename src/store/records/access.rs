//! The values of who may see what: roles, classes and what somebody was given. What they allow, the room of access decides.

use aigaq_proto::{Digest, Micros, RecorderId};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::Act;

/// What somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Works in the control centre.
    Operator,
    /// Answers for a department.
    Supervisor,
    /// Internal security.
    Inspector,
    /// Looks at what others did.
    Auditor,
    /// Keeps recorders, people and sessions in order.
    Administrator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Operator, Self::Supervisor, Self::Inspector, Self::Auditor, Self::Administrator];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Supervisor => "supervisor",
            Self::Inspector => "inspector",
            Self::Auditor => "auditor",
            Self::Administrator => "administrator",
        }
    }

    /// The role with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// How much footage is kept from eyes; the greater one is for fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// For everybody who may watch footage of the department.
    Open,
    /// For fewer, and never without a reason.
    Restricted,
    /// For inspectors alone, who need a reason; others do not learn that it is there.
    Sealed,
}

impl Class {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Restricted => "restricted",
            Self::Sealed => "sealed",
        }
    }
}

/// A role, and where it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// What somebody is.
    pub role: Role,
    /// In which departments; `None` for all, also those that come.
    pub departments: Option<Vec<String>>,
}

/// What somebody shows to sign in, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Secret {
    /// The argon2id hash of a password, in the PHC string format.
    Password(String),
    /// SHA-256 of a secret of 256 random bits.
    Digest(Digest),
}

/// Somebody who may sign in here: a person with a password, or a service with a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// As the audit trail names them: `account:NAME` or `client:NAME`.
    pub actor: String,
    /// What they show.
    pub secret: Secret,
    /// What they were given.
    pub grants: Vec<Grant>,
    /// Whether it is for the case that nobody else can act: each use of it is an alarm.
    pub break_glass: bool,
    /// When it was made, changed or removed, server clock.
    pub changed_at: Micros,
    /// Whether it is there no more. Its name stays, since the audit trail has it.
    pub removed: bool,
}

/// Somebody who has signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// SHA-256 of its bearer token.
    pub token: Digest,
    /// Who.
    pub actor: String,
    /// From where they signed in.
    pub source: String,
    /// What they had been given then.
    pub grants: Vec<Grant>,
    /// When it began, server clock.
    pub began_at: Micros,
    /// When it ends at the latest.
    pub ends_at: Micros,
    /// It ends after so long without a request, microseconds; 0 for never.
    pub idle_us: Micros,
    /// Whether it was ended.
    pub ended: bool,
    /// When it was used last, as far as that was written down; 0 in what was written without it.
    #[serde(deserialize_with = "last_or_none")]
    pub seen_at: Micros,
}

/// The last number of a record; 0 where the record ends before it.
fn last_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
    Ok(Micros::deserialize(deserializer).unwrap_or(0))
}

/// How much somebody has said that the footage of a recorder is kept from eyes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassRecord {
    /// The recorder.
    pub recorder: RecorderId,
    /// How much; what the configuration says holds where that is more.
    pub class: Class,
    /// Who said so, when and why.
    pub said: Act,
}
