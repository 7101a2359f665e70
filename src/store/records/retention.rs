//! What is kept of how long footage is kept: what expires on a day, what lengthens it, who holds it, and what became of a day.

use aigaq_proto::{Digest, Micros, RecorderId, Sequence};
use serde::{Deserialize, Serialize};

use super::FootageKey;
use crate::store::policy::Rule;

/// Whose body expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A link of the chain.
    Link(Sequence),
    /// The other side of a fork.
    Fork(Sequence, Digest),
    /// A link in quarantine: the commit that stored it and its place therein.
    Quarantined(u64, u32),
}

/// What lies in the footage of a day and belongs to one owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpiryRecord {
    /// Its body, kept until the end of the day.
    Kept {
        /// Why until then.
        rule: Rule,
        /// Length of the body, bytes.
        bytes: u32,
        /// Device clock at its first sample; 0 for one in quarantine.
        captured_at: Micros,
    },
    /// A copy that nobody owns any more: the body was moved to a later day.
    Moved {
        /// Where the copy lies.
        from: FootageKey,
    },
}

/// Somebody did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Server clock.
    pub at: Micros,
    /// Who.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
}

/// Footage of a range that nothing deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// Its number, greater than that of every hold before it.
    pub id: u64,
    /// Whose footage.
    pub recorder: RecorderId,
    /// Beginning of the range, device clock.
    pub from: Micros,
    /// End, exclusive.
    pub to: Micros,
    /// Who placed it.
    pub placed: Act,
    /// What expired before this day was gone when it was placed.
    pub gone_before: u32,
    /// Who asked for its release.
    pub asked: Option<Act>,
    /// Who else confirmed that.
    pub released: Option<Act>,
    /// The number of the incident that placed it, if one did.
    pub incident: Option<u64>,
}

impl HoldRecord {
    /// Whether it stands: also while its release is only asked for.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.released.is_none()
    }
}

/// Footage of a range that is kept until a day, whatever its own day is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionRecord {
    /// Beginning of the range, device clock.
    pub from: Micros,
    /// End, exclusive.
    pub to: Micros,
    /// The last day on which it is kept.
    pub until_day: u32,
    /// Why.
    pub cause: Cause,
}

/// Why footage is kept longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A mark with a longer policy: of the range, what belongs to the recording around it.
    Mark {
        /// When, device clock.
        at: Micros,
        /// Its category.
        category: String,
        /// What the mark itself says belongs to it before `at`, seconds.
        before_s: u16,
        /// The same after it.
        after_s: u16,
    },
    /// An incident.
    Incident {
        /// Its name.
        name: String,
    },
    /// A deletion was undone.
    Undo(Act),
    /// A mark of an operator: the range that it names.
    OperatorMark {
        /// Its category.
        category: String,
    },
}

impl Cause {
    /// The rule that footage is kept by for this cause.
    #[must_use]
    pub fn rule(&self) -> Rule {
        match self {
            Self::Mark { category, .. } | Self::OperatorMark { category } => Rule::Mark { category: category.clone() },
            Self::Incident { name } => Rule::Incident { name: name.clone() },
            Self::Undo(_) => Rule::Undo,
        }
    }
}

/// What became of the footage whose day is over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DayRecord {
    /// Since when it is hidden.
    pub hidden_at: Micros,
    /// When its bytes may go.
    pub due_at: Micros,
    /// When the last of its bytes had gone.
    pub gone_at: Option<Micros>,
    /// Bodies that went.
    pub links: u64,
    /// Their length, bytes.
    pub bytes: u64,
}

/// The destruction of a key of a recorder and footage day that somebody asked for. Another person has to confirm it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WishRecord {
    /// Who asked, and why.
    pub asked: Act,
    /// Who confirmed it, or took it back.
    pub ended: Option<Act>,
}

/// The key of a recorder and footage day was destroyed before the day was over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestructionRecord {
    /// Who wanted it, and why.
    pub act: Act,
    /// Commits before this one lost what they brought; later ones may have a new key.
    pub before_commit: u64,
    /// Whether the key is gone: what a crash left is done at the next start.
    pub done: bool,
}
