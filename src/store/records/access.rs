//! The values of who may see what: roles, classes and what somebody was given. What they allow, the room of access decides.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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

/// A role, and where it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// What somebody is.
    pub role: Role,
    /// In which departments; `None` for all, also those that come.
    pub departments: Option<Vec<String>>,
}
