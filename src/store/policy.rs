//! How long footage is kept: the policy, pure, and the words for why something is kept until a day.
//!
//! A department has a number of days, or else the default counts; a mark of a category lengthens what lies around it, and the
//! longest wins. The day is written with each link when it is committed, so that a change of the policy concerns what arrives
//! from then on. It never shortens what is stored.

use std::collections::BTreeMap;

use aigaq_proto::Micros;
use serde::{Deserialize, Serialize};

/// Microseconds in a day.
pub const DAY_US: u64 = 86_400_000_000;

/// The day of a moment, days since the Unix epoch, UTC.
#[must_use]
pub fn day_of(at: Micros) -> u32 {
    u32::try_from(at / DAY_US).unwrap_or(u32::MAX)
}

/// For how many days after its arrival footage is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Where nothing else is said. Default 90.
    pub default_days: u32,
    /// By department, in the place of the default.
    pub departments: BTreeMap<String, u32>,
    /// By category of a mark: its recording is kept for so long after the mark arrived, if that is longer.
    pub categories: BTreeMap<String, u32>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { default_days: 90, departments: BTreeMap::new(), categories: BTreeMap::new() }
    }
}

impl Policy {
    /// What holds for a department; `None` for a recorder that is not enrolled.
    #[must_use]
    pub fn of(&self, department: Option<&str>) -> Rule {
        let days = department.and_then(|department| self.departments.get(department));
        days.map_or(Rule::Default { days: self.default_days }, |days| Rule::Department { days: *days })
    }
}

/// Why footage is kept until its day, and so what deletes it after that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rule {
    /// The default policy.
    Default {
        /// Days after arrival.
        days: u32,
    },
    /// The policy of its department.
    Department {
        /// Days after arrival.
        days: u32,
    },
    /// A mark of this category.
    Mark {
        /// As the recorder named it.
        category: String,
    },
    /// An incident.
    Incident {
        /// Its name.
        name: String,
    },
    /// A deletion was undone.
    Undo,
    /// A hold stood when its day came.
    Hold {
        /// Its number.
        id: u64,
    },
}

impl Rule {
    /// The label in metrics: one of a closed set.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Default { .. } => "default",
            Self::Department { .. } => "department",
            Self::Mark { .. } => "mark",
            Self::Incident { .. } => "incident",
            Self::Undo => "undo",
            Self::Hold { .. } => "hold",
        }
    }

    /// The days after arrival that a policy grants; 0 for what has a day of its own.
    #[must_use]
    pub const fn days(&self) -> u32 {
        match self {
            Self::Default { days } | Self::Department { days } => *days,
            Self::Mark { .. } | Self::Incident { .. } | Self::Undo | Self::Hold { .. } => 0,
        }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default { days } => write!(f, "default policy of {days} days"),
            Self::Department { days } => write!(f, "policy of the department of {days} days"),
            Self::Mark { category } => write!(f, "mark of the category {category:?}"),
            Self::Incident { name } => write!(f, "incident {name}"),
            Self::Undo => write!(f, "undo of a deletion"),
            Self::Hold { id } => write!(f, "hold {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_department_without_a_policy_of_its_own_has_the_default() {
        let policy = Policy { departments: BTreeMap::from([("Traffic".to_owned(), 30)]), ..Policy::default() };
        assert_eq!(policy.of(Some("Traffic")), Rule::Department { days: 30 });
        assert_eq!(policy.of(Some("Patrol")), Rule::Default { days: 90 });
        assert_eq!(policy.of(None), Rule::Default { days: 90 });
    }
}
