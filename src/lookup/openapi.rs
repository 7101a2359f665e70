//! Every route of the API in one place, and the OpenAPI 3.1 document that is generated from the same list.
//!
//! A route that is not in the document does not exist; the document is public, as the source of this file is.

use axum::Extension;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ClientCredentials, Flow, HttpAuthScheme, HttpBuilder, OAuth2, Scopes, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::{
    State, assignments, categories, checks, class, clip, coverage, deletions, destructions, events, exports, holds,
    incidents, live, log, marks, path, play, proof, provider, pulls, recorders, recordings, reports, revocation, scrub,
    sessions, sign_in, statistics, trail, webhooks,
};

/// What the document says of the whole.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Aigaq",
        description = "Footage that can be proven. Times are RFC 3339 in UTC, ranges half-open, refusals RFC 9457 problems."
    ),
    tags(
        (name = "access", description = "Who may come in"),
        (name = "recorders", description = "Who records"),
        (name = "footage", description = "What was recorded; each request leaves an audit entry"),
        (name = "audit", description = "What was done with all of it, by whom and why"),
        (name = "assignments", description = "Who had a recorder when"),
        (name = "marks", description = "What recorders and operators found worth finding again"),
        (name = "incidents", description = "What came in, where it stands, whose footage it needs"),
        (name = "pulls", description = "Ranges that a recorder is asked to send now"),
        (name = "exports", description = "Footage with everything that proves it, as one file"),
        (name = "retention", description = "What is held, what is deleted and why, and what comes back"),
        (name = "events", description = "What happens, as it happens"),
        (name = "reports", description = "Sums over a day of the site"),
        (name = "statistics", description = "How many marks, of what, where and when, against the year before"),
        (name = "checks", description = "Integrity checks; for inspectors alone"),
        (name = "log", description = "C2SP tlog-tiles; public, digests and times alone"),
        (name = "api", description = "This document")
    ),
    components(schemas(Problem), responses(Problem))
)]
struct Whole;

/// The routes with their state still to come.
pub(super) fn routes() -> axum::Router<State> {
    let (router, documented) = OpenApiRouter::with_openapi(Whole::openapi())
        .routes(routes!(recorders::list))
        .routes(routes!(recorders::one))
        .routes(routes!(recordings::list))
        .routes(routes!(proof::verdict))
        .routes(routes!(proof::forks))
        .routes(routes!(proof::quarantine))
        .routes(routes!(proof::fork_payload))
        .routes(routes!(proof::quarantined_payload))
        .routes(routes!(revocation::revoke))
        .routes(routes!(class::class, class::classify))
        .routes(routes!(coverage::coverage))
        .routes(routes!(path::path))
        .routes(routes!(path::together))
        .routes(routes!(assignments::list, assignments::assign))
        .routes(routes!(assignments::correct, assignments::withdraw))
        .routes(routes!(assignments::who))
        .routes(routes!(pulls::list, pulls::create))
        .routes(routes!(pulls::one, pulls::cancel))
        .routes(routes!(exports::list, exports::create))
        .routes(routes!(exports::one, exports::cancel))
        .routes(routes!(exports::bundle))
        .routes(routes!(holds::list, holds::place))
        .routes(routes!(holds::confirm))
        .routes(routes!(scrub::scrub))
        .routes(routes!(holds::ask))
        .routes(routes!(deletions::preview))
        .routes(routes!(deletions::list))
        .routes(routes!(deletions::undo))
        .routes(routes!(categories::list))
        .routes(routes!(marks::list))
        .routes(routes!(marks::raise))
        .routes(routes!(destructions::list, destructions::ask))
        .routes(routes!(destructions::withdraw))
        .routes(routes!(destructions::confirm))
        .routes(routes!(incidents::list, incidents::open))
        .routes(routes!(incidents::one))
        .routes(routes!(incidents::step))
        .routes(routes!(incidents::release))
        .routes(routes!(incidents::notes, incidents::note))
        .routes(routes!(webhooks::list, webhooks::make))
        .routes(routes!(webhooks::remove))
        .routes(routes!(webhooks::replay))
        .routes(routes!(trail::list))
        .routes(routes!(trail::proof))
        .routes(routes!(events::follow))
        .routes(routes!(reports::dark))
        .routes(routes!(statistics::figures))
        .routes(routes!(statistics::rows))
        .routes(routes!(statistics::report))
        .routes(routes!(checks::check_figures))
        .routes(routes!(checks::list, checks::create))
        .routes(routes!(checks::list_cases, checks::add_case))
        .routes(routes!(checks::case))
        .routes(routes!(checks::list_draws, checks::commit_draw))
        .routes(routes!(checks::draw))
        .routes(routes!(checks::reveal_draw))
        .routes(routes!(checks::results))
        .routes(routes!(checks::one))
        .routes(routes!(checks::score))
        .routes(routes!(checks::name_third))
        .routes(routes!(play::index))
        .routes(routes!(play::file))
        .routes(routes!(live::index))
        .routes(routes!(live::file))
        .routes(routes!(clip::clip))
        .routes(routes!(sign_in::sign_in))
        .routes(routes!(sign_in::token))
        .routes(routes!(provider::begin))
        .routes(routes!(provider::finish))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::end))
        .routes(routes!(sessions::accounts))
        .routes(routes!(log::checkpoint))
        .routes(routes!(log::key))
        .routes(routes!(log::succession))
        .routes(routes!(log::proof))
        .routes(routes!(log::timestamp))
        .routes(routes!(document))
        .split_for_parts();
    // Strings and maps of strings always have a JSON form.
    let json = finished(documented).to_json().unwrap_or_default();
    router.route(TILE_ROUTE, get(log::tile)).layer(Extension(Document(json.into())))
}

/// Where tiles are served. The document names the same place as `{path}`: OpenAPI has no parameters that hold slashes.
const TILE_ROUTE: &str = "/v1/log/tile/{*path}";

fn finished(mut documented: OpenApi) -> OpenApi {
    documented.merge(OpenApiRouter::<State>::new().routes(routes!(log::tile)).into_openapi());
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "The token of POST /v1/sign-in, of GET /v1/sign-in/oidc or, for a service, of POST /v1/token.",
    ));
    let components = documented.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(bearer.build()));
    let client = Flow::ClientCredentials(ClientCredentials::new("/v1/token", Scopes::new()));
    components.add_security_scheme("client", SecurityScheme::OAuth2(OAuth2::new([client])));
    documented
}

/// The document as it is sent.
#[derive(Clone)]
struct Document(Bytes);

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "api",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
async fn document(Extension(Document(json)): Extension<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], json).into_response()
}
