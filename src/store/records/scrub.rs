//! What is kept of the scrub: where it stands and what it has found.

use aigaq_proto::Micros;
use serde::{Deserialize, Serialize};

use crate::store::Place;

/// Where the scrub stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubRecord {
    /// Everything that was stored before was read again since then, or arrived later: when the last whole pass began.
    pub verified_since: Micros,
    /// When the newest pass began.
    pub began: Micros,
    /// The last body that it has read; `None` once the pass is over.
    pub place: Option<Place>,
    /// What it has found damaged.
    pub found: Found,
    /// What the last whole pass had found.
    pub found_before: Found,
}

/// Damaged bodies.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Found {
    /// How many.
    pub bodies: u64,
    /// The first of them, at most [`Found::PLACES_MAX`].
    pub places: Vec<Place>,
}

impl Found {
    /// Places that are kept.
    pub const PLACES_MAX: usize = 1_000;

    /// One more.
    pub fn add(&mut self, place: Place) {
        self.bodies = self.bodies.saturating_add(1);
        if self.places.len() < Self::PLACES_MAX {
            self.places.push(place);
        }
    }
}
