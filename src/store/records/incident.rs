//! What is kept of incidents: what came in, where each stands and how it came there, what was found, and what was noted.

use aigaq_proto::{Micros, RecorderId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Act, MarkPlace};

/// Where an incident comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentSource {
    /// A dispatch system.
    Dispatch,
    /// A call to the hotline 1402.
    Hotline,
    /// A report of an officer.
    Report,
    /// An operator.
    Operator,
}

impl IncidentSource {
    /// As it is written everywhere.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::Hotline => "hotline",
            Self::Report => "report",
            Self::Operator => "operator",
        }
    }
}

/// Where an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentState {
    /// It came in.
    Open,
    /// Somebody found that it is so.
    Confirmed,
    /// Somebody found that it is not so.
    False,
    /// What had to be done was done.
    Resolved,
    /// Nothing is looked for or held because of it any more.
    Closed,
}

impl IncidentState {
    /// As it is written everywhere.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Confirmed => "confirmed",
            Self::False => "false",
            Self::Resolved => "resolved",
            Self::Closed => "closed",
        }
    }
}

/// A way from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transition {
    /// It is so.
    Confirm,
    /// It is not so.
    Dismiss,
    /// What had to be done was done.
    Resolve,
    /// Nothing is to be looked for any more, and what it holds may be released.
    Close,
    /// It is to be dealt with again.
    Reopen,
}

impl Transition {
    /// Every transition.
    pub const ALL: [Self; 5] = [Self::Confirm, Self::Dismiss, Self::Resolve, Self::Close, Self::Reopen];

    /// As it is written everywhere.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Dismiss => "dismiss",
            Self::Resolve => "resolve",
            Self::Close => "close",
            Self::Reopen => "reopen",
        }
    }
}

/// A circle on the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// Latitude of its middle, ten-millionths of a degree, WGS 84.
    pub latitude_e7: i32,
    /// Longitude.
    pub longitude_e7: i32,
    /// Its radius, metres.
    pub metres: u32,
}

/// What came in of an incident; it never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentCall {
    /// Which department deals with it.
    pub department: String,
    /// Where it comes from.
    pub source: IncidentSource,
    /// What it is called there; empty if nothing.
    pub reference: String,
    /// What is said of it.
    pub text: String,
    /// What kinds of things it is.
    pub categories: Vec<String>,
    /// Where.
    pub place: Option<PlaceRecord>,
    /// When it begins, server clock.
    pub from: Micros,
    /// When it ends, exclusive.
    pub to: Micros,
    /// Who has to do with it, as assignments name them.
    pub badges: Vec<String>,
}

/// A step of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Which way.
    pub transition: Transition,
    /// Where it stood.
    pub from: IncidentState,
    /// Where it stands then.
    pub to: IncidentState,
    /// Who, when and why.
    pub act: Act,
}

/// A recorder that has to do with an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRecord {
    /// Which.
    pub recorder: RecorderId,
    /// Whoever of the incident had it, if that is how it was found.
    pub badge: Option<String>,
    /// How near it came, metres, if that is how it was found.
    pub metres: Option<u32>,
    /// When it was found, server clock.
    pub found_at: Micros,
    /// Number of the hold on its footage.
    pub hold: Option<u64>,
    /// Number of the request for it.
    pub pull: Option<u64>,
}

/// An incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentRecord {
    /// Its number, greater than that of every incident before it.
    pub number: u64,
    /// What came in.
    pub call: IncidentCall,
    /// Who brought it in, and when.
    pub opened: Act,
    /// Where it stands.
    pub state: IncidentState,
    /// How it came there, oldest first.
    pub history: Vec<StepRecord>,
    /// What was found, in that order.
    pub found: Vec<FoundRecord>,
    /// When it was first looked for everywhere; none before.
    pub searched_at: Option<Micros>,
    /// How many notes there are.
    pub notes: u64,
}

impl IncidentRecord {
    /// What the trail and the API call the incident with a number.
    #[must_use]
    pub fn object(number: u64) -> String {
        format!("incident-{number}")
    }
}

/// Something that was noted with an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteRecord {
    /// Its place among those of the incident, from 1.
    pub number: u64,
    /// When, server clock.
    pub at: Micros,
    /// Who.
    pub by: String,
    /// What; may be empty beside a mark or an export.
    pub text: String,
    /// A mark that belongs to the incident.
    pub mark: Option<MarkPlace>,
    /// An export that belongs to it.
    pub export: Option<String>,
}
