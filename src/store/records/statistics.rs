//! The values that figures are made of: marks as they are counted, and counts that were not made here.
//!
//! Department and kind are those of the moment in which a mark became durable: a figure of a year ago stays what it was when a
//! recorder moves to another department.

use aigaq_proto::Micros;
use serde::{Deserialize, Serialize};

use super::RecorderKind;

/// With what a mark came into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entered {
    /// A link of a chain: its index in the log.
    Link(u64),
    /// An audit entry: its number, since the log takes it in later.
    Entry(u64),
}

/// A mark as it is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedRecord {
    /// Its category.
    pub category: String,
    /// The department that the recorder belonged to.
    pub department: String,
    /// What carried the recorder.
    pub kind: RecorderKind,
    /// With what it came into the log.
    pub entered: Entered,
}

/// A count that was not made here, such as a row of the table of a city.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedRecord {
    /// Where it comes from.
    pub source: String,
    /// The department.
    pub department: String,
    /// The category.
    pub category: String,
    /// What carried the recorders, where that is said.
    pub kind: Option<RecorderKind>,
    /// How many.
    pub count: u64,
    /// When it was brought in, server clock.
    pub at: Micros,
    /// By whom.
    pub by: String,
}
