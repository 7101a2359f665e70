//! The API over real HTTP, against a store in memory that can be damaged.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "api/access.rs"]
mod access;
#[path = "api/again.rs"]
mod again;
#[path = "support/chain.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod chain;
#[path = "api/checks.rs"]
mod checks;
#[path = "api/class.rs"]
mod class;
#[path = "api/contract.rs"]
mod contract;
#[path = "api/document.rs"]
mod document;
#[path = "api/events.rs"]
mod events;
#[path = "api/exports.rs"]
mod exports;
#[path = "api/field.rs"]
mod field;
#[path = "api/footage.rs"]
mod footage;
#[path = "api/incidents.rs"]
mod incidents;
#[path = "api/lies.rs"]
mod lies;
#[path = "api/listener.rs"]
mod listener;
#[path = "api/log.rs"]
mod log;
#[path = "api/marks.rs"]
mod marks;
#[path = "api/matrix.rs"]
mod matrix;
#[path = "api/playback.rs"]
mod playback;
#[path = "api/problems.rs"]
mod problems;
#[path = "api/proof.rs"]
mod proof;
#[path = "api/recorders.rs"]
mod recorders;
#[path = "api/recordings.rs"]
mod recordings;
#[path = "api/retention.rs"]
mod retention;
#[path = "api/rig.rs"]
mod rig;
#[path = "support/second.rs"]
mod second;
#[path = "api/sign_in.rs"]
mod sign_in;
#[path = "api/slow.rs"]
mod slow;
#[path = "api/statistics.rs"]
mod statistics;
#[path = "api/trail.rs"]
mod trail;
#[path = "api/webhooks.rs"]
mod webhooks;
