//! The only door to the evidence: who asks, from where, for what, written down before anything is shown.
//!
//! A handler that takes a [`Viewer`] runs only after the bearer token was compared in constant time and the audit
//! entry of the request is durable; from the [`Viewer`] it gets its [`Evidence`], and from nowhere else. A request
//! that may not see anything gets 401 and leaves an entry too, as long as denials are few. The token is never logged
//! and has no `Debug`.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use subtle::ConstantTimeEq as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use aigaq_proto::Digest;

use super::metrics::Metrics;
use super::problem::Problem;
use super::{State, asked};
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::store::records::{AuditRecord, Event};

/// Questions that may be with the store at once; others wait their turn.
const QUESTIONS_MAX: usize = 64;
/// Bodies that may be in memory on their way out, KiB.
const BODIES_KIB_MAX: u32 = 256 * 1024;
/// Who the token of the first start stands for.
pub(super) const ACTOR: &str = "token:first-start";

/// The bearer token, kept as its digest so that comparing takes the same time for every guess.
#[derive(Clone)]
pub(super) struct Token(Digest);

impl Token {
    /// A token of at least 16 characters without spaces.
    pub(super) fn new(text: &str) -> Result<Self> {
        if text.len() < 16 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::new(
                Kind::Invalid,
                "the API token needs at least 16 printable characters without spaces",
            ));
        }
        Ok(Self(Digest::of(text.as_bytes())))
    }

    pub(super) fn is(&self, presented: &str) -> bool {
        self.0.0.ct_eq(&Digest::of(presented.as_bytes()).0).into()
    }
}

/// What can be asked of the store by those who may see it. Cheap to clone.
#[derive(Clone)]
pub struct Evidence {
    store: Store,
    metrics: Metrics,
    questions: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

impl Evidence {
    pub(super) fn new(store: Store, metrics: Metrics) -> Self {
        Self {
            store,
            metrics,
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            bodies: Arc::new(Semaphore::new(BODIES_KIB_MAX as usize)),
        }
    }

    /// Puts a question to the store, on a thread that may block. Cancel-safe: an answer nobody waits for is dropped.
    ///
    /// # Errors
    /// Those of the question; [`Kind::Damaged`] is counted here, once for all look-ups.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = permit(&self.questions, 1).await?;
        let store = self.store.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            question(&store)
        });
        let answer = answer.await.map_err(|error| Error::new(Kind::Internal, "a question failed").because(error))?;
        if answer.as_ref().is_err_and(|error| error.kind() == Kind::Damaged) {
            self.metrics.damaged.inc();
        }
        answer
    }

    /// Room in memory for a body of this length; held until the body has gone out.
    ///
    /// # Errors
    /// [`Kind::Internal`] only when the server is being taken apart.
    pub async fn room(&self, bytes: u64) -> Result<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(BODIES_KIB_MAX).clamp(1, BODIES_KIB_MAX);
        permit(&self.bodies, kib).await
    }
}

async fn permit(permits: &Arc<Semaphore>, count: u32) -> Result<OwnedSemaphorePermit> {
    let permit = Arc::clone(permits).acquire_many_owned(count).await;
    permit.map_err(|error| Error::new(Kind::Internal, "no permits are given any more").because(error))
}

/// Somebody who may see what was asked for, with the audit entry that says so durable.
pub struct Viewer {
    evidence: Evidence,
    actor: String,
    source: String,
}

impl Viewer {
    /// What they may ask.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Who they are, as the audit trail names them.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// The beginning of an entry of what they do.
    #[must_use]
    pub fn entry(&self, event: Event, action: String) -> AuditRecord {
        AuditRecord::new(0, event, &self.actor, &self.source, action)
    }

    /// From where they ask, as the audit trail has it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Why there is no [`Viewer`].
pub enum Denied {
    /// No token, or a wrong one.
    Unauthorised {
        /// Whether one was presented.
        presented: bool,
    },
    /// The audit entry could not be written.
    Failed(Problem),
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let presented = match self {
            Self::Unauthorised { presented } => presented,
            Self::Failed(problem) => return problem.into_response(),
        };
        let (detail, challenge) = if presented {
            ("the bearer token is wrong", r#"Bearer realm="aigaq", error="invalid_token""#)
        } else {
            ("send the header Authorization: Bearer with the token", r#"Bearer realm="aigaq""#)
        };
        let mut response = Problem::from(Error::new(Kind::Unauthorised, detail)).into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        response
    }
}

impl FromRequestParts<State> for Viewer {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Denied> {
        let presented = bearer(&parts.headers).map(str::to_owned);
        let actor = match &presented {
            Some(token) => state.who(token).await,
            None => None,
        };
        let entry = asked::entry(parts, state, actor.as_deref().unwrap_or("anonymous")).await;
        if actor.is_none() {
            state.trail.write_denial(AuditRecord { event: Event::Denial, ..entry }).await;
            return Err(Denied::Unauthorised { presented: presented.is_some() });
        }
        let (actor, source) = (entry.actor.clone(), entry.source.clone());
        state.trail.write(entry).await.map_err(|error| Denied::Failed(error.into()))?;
        Ok(Self { evidence: state.evidence.clone(), actor, source })
    }
}

/// The token of the `Authorization` header (RFC 6750 section 2.1); none if there are two headers.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (scheme, token) = all.next()?.to_str().ok()?.split_once(' ')?;
    (all.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}
