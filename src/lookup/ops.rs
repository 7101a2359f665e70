//! What operations ask on a listener of their own: `/metrics`, `/healthz`, `/readyz`. Nothing of the footage, no
//! identifiers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use prometheus::{Encoder as _, Registry, TextEncoder};

use super::guard::{method_not_allowed, not_found};
use super::problem::Problem;
use crate::error::{Context as _, Kind};

/// Whether the server takes work. Begins as not ready; ends before the listeners do. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether it does.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether it does.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Clone)]
struct Operations {
    registry: Registry,
    readiness: Readiness,
}

/// The routes for operations.
pub fn ops_router(registry: Registry, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Operations { registry, readiness })
}

async fn metrics(State(operations): State<Operations>) -> Result<Response, Problem> {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    encoder
        .encode(&operations.registry.gather(), &mut text)
        .context(Kind::Internal, "the metrics could not be written")?;
    Ok(([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response())
}

async fn ready(State(operations): State<Operations>) -> (StatusCode, &'static str) {
    if operations.readiness.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}
