//! The only door to the evidence: who asks, from where, for what, written down before anything is shown.
//!
//! A handler that takes a [`Viewer`] runs only for somebody who has shown who they are. The evidence it gets from a
//! `Permit` or a `Scope` alone, and those only for a verb and a recorder that were granted, when the audit entry that
//! says so is durable. A request of nobody gets 401 and leaves an entry too, as long as those are few. A token is never
//! logged and has no `Debug`.

mod permit;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use aigaq_proto::receipt::ENTRY_BYTES;
use aigaq_proto::{RecorderId, Sequence, link, receipt};

use super::metrics::Metrics;
use super::problem::Problem;
use super::state::Import;
use super::{State, asked, checks};
use crate::access::{self, Access, Class, Identity};
use crate::audit::Trail;
use crate::error::{Error, Kind, Result};
use crate::log::Reader;
use crate::store::Store;
use crate::store::records::{AuditRecord, Event, LinkRecord};

pub(super) use permit::{
    Administer, Assign, Audit, Check, Classify, Count, Export, Fetch, Find, Glance, Hold, Incident, Leave, Mark,
    Permit, Pull, Release, Report, Revoke, Scope, Undo, Verb, Watch,
};

/// Questions that may be with the store at once; others wait their turn.
const QUESTIONS_MAX: usize = 64;
/// What an entry of something that was refused ends with.
const DENIED: &str = "denied";
/// The header in which an inspector says for which check they look.
const CHECK: &str = "x-aigaq-check";
/// Bodies that may be in memory on their way out, KiB.
const BODIES_KIB_MAX: u32 = 256 * 1024;
/// What can be asked of the store by those who may see it. Cheap to clone.
#[derive(Clone)]
pub struct Evidence {
    store: Store,
    metrics: Metrics,
    questions: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

impl Evidence {
    fn new(store: Store, metrics: Metrics) -> Self {
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

/// The evidence with the door shut: what no person asks for.
#[derive(Clone)]
pub(super) struct Behind(Evidence);

impl Behind {
    pub(super) fn new(store: Store, metrics: Metrics) -> Self {
        Self(Evidence::new(store, metrics))
    }

    /// What the log says, which is public: digests and times.
    pub(super) async fn log<T: Send + 'static>(
        &self,
        log: &Arc<Reader>,
        question: impl FnOnce(&Reader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let log = Arc::clone(log);
        self.0.ask(move |_| question(&log)).await
    }

    /// The entry of a link in the log, and its index.
    pub(super) async fn logged(&self, id: RecorderId, sequence: Sequence) -> Result<Option<([u8; ENTRY_BYTES], u64)>> {
        let entry = |link: LinkRecord| (receipt::entry(&link::digest(&link.header), link.received_at), link.log_index);
        self.0.ask(move |store| Ok(store.link(id, sequence)?.map(entry))).await
    }

    /// What the metrics count, and what else tells nobody anything of the evidence.
    pub(super) async fn count<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.0.ask(question).await
    }
}

/// Somebody who has shown who they are, and what they ask.
pub struct Viewer {
    evidence: Evidence,
    trail: Arc<Trail>,
    access: Access,
    import: Import,
    who: Identity,
    /// What the trail will say of the request.
    asked: AuditRecord,
}

impl Viewer {
    /// Who they are, as the audit trail names them.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.who.actor
    }

    /// The beginning of an entry of what they do.
    #[must_use]
    pub fn entry(&self, event: Event, action: String) -> AuditRecord {
        AuditRecord::new(0, event, &self.who.actor, &self.asked.source, action)
    }

    /// From where they ask, as the audit trail has it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.asked.source
    }
}

/// Why there is no [`Viewer`].
pub enum Denied {
    /// No token, or a wrong one.
    Unauthorised {
        /// Whether one was presented.
        presented: bool,
    },
    /// More requests than one may make.
    TooOften,
    /// It could not be found out, or not be written down.
    Failed(Problem),
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let presented = match self {
            Self::Unauthorised { presented } => presented,
            Self::TooOften => return Problem::too_often().into_response(),
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
        let who = match &presented {
            Some(token) => state.access.identify(token).await.map_err(|error| Denied::Failed(error.into()))?,
            None => None,
        };
        let entry = asked::entry(parts, state, who.as_ref().map_or("anonymous", |who| &who.actor)).await;
        let Some(who) = who else {
            state.trail.write_denial(AuditRecord { event: Event::Denial, ..entry }).await;
            return Err(Denied::Unauthorised { presented: presented.is_some() });
        };
        if !state.access.may_ask(&who) {
            state.trail.write_denial(denial(&who, entry)).await;
            return Err(Denied::TooOften);
        }
        let entry = under_check(parts, state, &who, entry).await?;
        let (trail, access) = (Arc::clone(&state.trail), state.access.clone());
        let (evidence, import) = (state.behind.0.clone(), Arc::clone(&state.import));
        Ok(Self { evidence, trail, access, import, who, asked: entry })
    }
}

/// The entry of something that was denied. Of an inspector who asks about integrity checks it is one of those, so that nobody else
/// learns that there may be one.
pub(super) fn denial(who: &Identity, entry: AuditRecord) -> AuditRecord {
    let of_check = entry.event == Event::Check && who.grants.allow_somewhere(access::Verb::Check);
    let event = if of_check { Event::Check } else { Event::Denial };
    AuditRecord { event, ..entry }.ended(DENIED)
}

/// What an inspector sees for a check is an entry about the check, which others are not shown. Only of the recorder that it is about: for
/// anything else it is not there.
async fn under_check(parts: &Parts, state: &State, who: &Identity, entry: AuditRecord) -> Result<AuditRecord, Denied> {
    let Some(named) = parts.headers.get(CHECK) else { return Ok(entry) };
    let failed = |error: Error| Denied::Failed(error.into());
    let named = named.to_str().map_err(|_| failed(Error::new(Kind::Invalid, "x-aigaq-check names a check")))?;
    let id = checks::check_id(named).map_err(failed)?;
    let (grants, about) = (who.grants.clone(), entry.object.clone());
    let looks = matches!(entry.event, Event::LookUp | Event::View);
    let theirs = state.behind.0.ask(move |store| {
        let check = store.check(id)?.filter(|check| check.recorder.to_string() == about);
        Ok(looks && check.is_some_and(|check| grants.allow(access::Verb::Check, &check.department, Class::Sealed)))
    });
    if theirs.await.map_err(failed)? {
        return Ok(AuditRecord { event: Event::Check, object: checks::id_text(id), ..entry });
    }
    let denied = denial(who, AuditRecord { event: Event::Check, ..entry });
    state.trail.write(denied).await.map_err(failed)?;
    Err(failed(Error::new(Kind::NotFound, checks::ABSENT)))
}

/// The token of the `Authorization` header (RFC 6750 section 2.1); none if there are two headers.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (scheme, token) = all.next()?.to_str().ok()?.split_once(' ')?;
    (all.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}
