//! `/v1/sessions`: who is signed in, and the end of it. `/v1/accounts`: who can be. Everybody sees and ends their own sessions;
//! whoever administers the whole site those of all.

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::State;
use super::problem::Problem;
use super::request::FromPath;
use super::time;
use super::viewer::{Administer, Viewer};
use crate::access::{Role, Session};
use crate::error::{Error, Kind, Result};
use crate::store::records::{AccountRecord, Event, Grant};

/// What is said of a session that is not there, or not for the one who asks.
const ABSENT: &str = "there is no such session";

/// A role and where it holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GrantDocument {
    /// What.
    role: Role,
    /// In which departments; null for all.
    departments: Option<Vec<String>>,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionDocument {
    /// Its name.
    id: String,
    /// Whose.
    actor: String,
    /// From where they signed in.
    source: String,
    /// What they may be.
    roles: Vec<GrantDocument>,
    /// When it began, RFC 3339 UTC.
    began_at: String,
    /// When it was used last.
    seen_at: String,
    /// When it ends at the latest.
    ends_at: String,
    /// Whether this is the one that asks.
    current: bool,
}

/// Sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionList {
    /// The newest first.
    sessions: Vec<SessionDocument>,
}

/// Somebody who can sign in with a password or a secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccountDocument {
    /// As the audit trail names them: `account:NAME` for a person, `client:NAME` for a service.
    actor: String,
    /// What they may be.
    roles: Vec<GrantDocument>,
    /// Whether it is for emergencies.
    break_glass: bool,
    /// When it was made or changed, RFC 3339 UTC.
    changed_at: String,
}

/// Accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccountList {
    /// By actor.
    accounts: Vec<AccountDocument>,
}

/// One's own sessions; for whoever administers the site, all.
#[utoipa::path(get, operation_id = "list_sessions", path = "/v1/sessions", tag = "access",
    responses((status = 200, body = SessionList), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(viewer: Viewer, Shared(state): Shared<State>) -> Result<Json<SessionList>, Problem> {
    let own = viewer.own().await?;
    let of = (!own.administers).then(|| viewer.actor());
    let sessions = state.access.sessions(of).into_iter().map(|session| document(session, own.session.as_deref()));
    Ok(Json(SessionList { sessions: sessions.collect() }))
}

/// Ends a session: its token opens nothing any more.
#[utoipa::path(delete, operation_id = "end_session", path = "/v1/sessions/{id}", tag = "access",
    params(("id" = String, Path, description = "Session")),
    responses((status = 204, description = "It is over"), (status = 404, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn end(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
) -> Result<StatusCode, Problem> {
    let session = state.access.sessions(None).into_iter().find(|session| session.id == id);
    let Some(session) = session else {
        viewer.own().await?;
        return Err(Error::new(Kind::NotFound, ABSENT).into());
    };
    if session.record.actor != viewer.actor() && !viewer.administers() {
        return Err(viewer.absent(ABSENT).await);
    }
    viewer.own().await?;
    let entry = viewer.entry(Event::SignOut, format!("end a session of {}", session.record.actor));
    state.trail.write(entry.about(id.clone())).await?;
    state.access.end(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who can sign in with a password or a secret, and with which roles.
#[utoipa::path(get, operation_id = "list_accounts", path = "/v1/accounts", tag = "access",
    responses((status = 200, body = AccountList), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn accounts(viewer: Viewer, Shared(state): Shared<State>) -> Result<Json<AccountList>, Problem> {
    viewer.whole::<Administer>().await?;
    let shown = |account: AccountRecord| AccountDocument {
        actor: account.actor,
        roles: roles(account.grants),
        break_glass: account.break_glass,
        changed_at: time::format(account.changed_at),
    };
    Ok(Json(AccountList { accounts: state.access.accounts().into_iter().map(shown).collect() }))
}

fn document(session: Session, current: Option<&str>) -> SessionDocument {
    let Session { id, record, seen_at } = session;
    SessionDocument {
        current: current == Some(id.as_str()),
        id,
        actor: record.actor,
        source: record.source,
        roles: roles(record.grants),
        began_at: time::format(record.began_at),
        seen_at: time::format(seen_at),
        ends_at: time::format(record.ends_at),
    }
}

fn roles(grants: Vec<Grant>) -> Vec<GrantDocument> {
    grants.into_iter().map(|Grant { role, departments }| GrantDocument { role, departments }).collect()
}
