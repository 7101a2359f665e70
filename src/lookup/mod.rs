//! HTTP out: what a control centre asks, and what it gets.
//!
//! A look-up is `guard → viewer → recorders | recordings | coverage | play | live | clip | exports | marks | pulls | assignments | reports | statistics | checks → store → media`; one file per resource,
//! its handlers extract, ask the evidence and render. The log and the API's own document are public; everything else
//! passes through [`viewer::Viewer`], which has `audit` write the entry first.
//!
//! Promises: a refusal is a problem document, never a bare status; footage leaves as the bytes that were recorded or
//! not at all; a range with holes is 200 with what is there; what was there and is gone is 410 with the statement that says so. This room
//! never writes anything but audit entries, the marks of operators, counts that were not made here and what is checked of people,
//! has `fleet` write what recorders are asked for and who has them and `export` make bundles, and never sees `ingest`.

mod again;
mod asked;
mod assignments;
mod categories;
mod checks;
mod class;
mod clip;
mod content;
mod coverage;
mod csv;
mod dark;
mod deletions;
mod destructions;
mod events;
mod exact;
mod explain;
mod exports;
mod footage;
mod gone;
mod guard;
mod holds;
mod incidents;
mod live;
mod log;
mod marks;
mod metrics;
mod openapi;
mod ops;
mod path;
mod play;
pub mod problem;
mod proof;
mod provider;
mod pulls;
mod recorders;
mod recordings;
mod reports;
mod request;
mod revocation;
mod scrub;
mod sessions;
mod sign_in;
mod span;
mod state;
mod statistics;
pub mod time;
mod trail;
pub mod viewer;
mod watch;
mod webhooks;

pub use categories::{Category, Names};
pub use events::renderer;
pub use exports::holes;
pub use metrics::Metrics;
pub use ops::{Readiness, ops_router};
pub use state::State;
pub use watch::{EVERY as WATCH_EVERY, count_dark, watch};

use axum::middleware;

/// Every route of the API.
pub fn router(state: State) -> axum::Router {
    openapi::routes()
        .fallback(guard::not_found)
        .method_not_allowed_fallback(guard::method_not_allowed)
        .layer(middleware::from_fn_with_state(state.clone(), again::answer))
        .layer(middleware::from_fn_with_state(state.metrics.clone(), guard::guard))
        .with_state(state)
}
