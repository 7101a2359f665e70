//! The listener that devices enrol on: EST (RFC 7030) and one resource more. SPEC.md section 15 is its document.
//!
//! | who | what |
//! |---|---|
//! | anybody | `cacerts`, `csrattrs` |
//! | who holds a code | `simpleenroll`, with the code as the password of HTTP Basic |
//! | an enrolled recorder, by its certificate | `simplereenroll`, `/v1/recorder` |
//!
//! Promises: whoever gets a certificate is enrolled, durably, before it leaves; a request is looked at before the code that comes with
//! it, so that a bad one burns none; what is wrong with a code is never told. Refusals are one line of text, because those who read
//! them look at a device's log. Bodies, time and rate are bounded.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aigaq_proto::RecorderId;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::codes::Codes;
use super::registry::Newcomer;
use super::{Authority, Metrics, Registry, SERVER_NAME, Serving, Trust, csr};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::est::{self, About, Secret, pkcs7};
use crate::http::{Certificates, Rate, Rates, Source, network};
use crate::store::records::RecorderRecord;

/// Largest request, bytes.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// What is read of a body that is too large, and thrown away, so that its sender comes to hear of it: a client of HTTP/2 whose stream
/// is reset while it still sends tells its user that, and not the answer.
const DRAINED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Requests of one source, so that a site behind one address still enrols a shelf of recorders, and of all.
const SOURCE: Rate = Rate { burst: 60.0, per_s: 2.0 };
const ALL: Rate = Rate { burst: 400.0, per_s: 100.0 };
/// Time for a request and its answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// How often what the command line left is taken in.
const WORDS_EVERY: Duration = Duration::from_secs(1);
/// Every so many times expired codes are removed and the revocation list is looked at.
const CHORES_EVERY: u32 = 5;
/// What a request should hold (RFC 7030 section 4.5.2), DER: an EC key on P-256 signed with ECDSA and SHA-256, or Ed25519.
const ATTRIBUTES: [u8; 40] = [
    0x30, 0x26, 0x30, 0x15, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x31, 0x0a, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02, 0x06, 0x03, 0x2b,
    0x65, 0x70,
];

/// What a [`Desk`] works with.
pub struct Office {
    /// Who issues.
    pub authority: Arc<Authority>,
    /// What the server's listeners show.
    pub serving: Serving,
    /// Where chains lead.
    pub trust: Arc<Trust>,
    /// Who is enrolled.
    pub registry: Arc<Registry>,
    /// The `vkey` of the server's log.
    pub log_key: String,
    /// How long a recorder's certificate is good.
    pub certificate_life: Duration,
    /// The server's time.
    pub clock: Clock,
    /// Its counters.
    pub metrics: Metrics,
}

/// Where identities are given: all that the listener and its chores need.
pub struct Desk {
    office: Office,
    codes: Codes,
    rates: Rates<IpAddr>,
}

impl Desk {
    /// A desk over the data directory `data`, which then says what CA issues there.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the directory cannot be written.
    pub fn open(data: &Path, office: Office) -> Result<Self> {
        office.authority.announce(data)?;
        Ok(Self { office, codes: Codes::of(data), rates: Rates::new(SOURCE, Some(ALL), Instant::now()) })
    }

    /// What the server's listeners show.
    #[must_use]
    pub fn certificate(&self) -> Arc<crate::http::Certificate> {
        self.office.serving.certificate()
    }

    /// Where refused certificates are counted.
    #[must_use]
    pub fn refusals(&self) -> prometheus::IntCounterVec {
        self.office.metrics.results.clone()
    }

    /// Takes in what the command line leaves until `shutdown`: enrolments and revocations within a second, a new revocation list
    /// within five; and renews the certificate of the server when it is time. When it returns, nothing of it is under way.
    ///
    /// # Errors
    /// None: what fails is logged and tried again.
    pub async fn keep(self: Arc<Self>, shutdown: CancellationToken) -> Result<()> {
        let mut tick = tokio::time::interval(WORDS_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut round = 0_u32;
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            round = round.wrapping_add(1);
            let (desk, chores) = (Arc::clone(&self), round.is_multiple_of(CHORES_EVERY));
            let done = tokio::task::spawn_blocking(move || {
                if chores {
                    desk.office.trust.refresh();
                    desk.codes.sweep(desk.office.clock.now());
                }
                desk.office.serving.renew(&desk.office.authority, &desk.office.clock);
                desk.office.registry.import()
            });
            if let Ok(Err(error)) = done.await {
                tracing::error!(%error, "what the command line left cannot be taken in");
            }
        }
        Ok(())
    }

    /// A first certificate. Blocks.
    fn enrol(&self, secret: &Secret, request: &[u8]) -> Result<Vec<u8>, Refusal> {
        let spki = csr::key(request)?;
        let id = RecorderId::of_spki(&spki);
        let (code, certificate) = self.codes.redeem(secret, &spki, self.office.clock.now(), || {
            self.office.registry.may_enrol(&spki)?;
            let id = self.office.registry.owner(&spki).unwrap_or(id);
            self.office
                .authority
                .recorder(&id.to_string(), &spki, self.office.certificate_life, &self.office.clock)
                .map(|(certificate, _)| certificate)
        })?;
        let not_after = Some(end(&certificate)?);
        let (kind, department, label) = (code.kind, code.department, code.label);
        self.office.registry.enrol(Newcomer { kind, department, label, spki, not_after })?;
        self.office.metrics.count("enrolled");
        Ok(pkcs7::encode(&[certificate]))
    }

    /// The next certificate. Blocks.
    fn renew(&self, record: &RecorderRecord, request: &[u8]) -> Result<Vec<u8>, Refusal> {
        let spki = csr::key(request)?;
        let (certificate, end) = self.office.authority.recorder(
            &record.id.to_string(),
            &spki,
            self.office.certificate_life,
            &self.office.clock,
        )?;
        self.office.registry.renew(record.id, &spki, end)?;
        self.office.metrics.count("renewed");
        Ok(pkcs7::encode(&[certificate]))
    }

    /// The recorder at the other end, by the certificate that TLS has verified.
    fn recorder(&self, parts: &http::request::Parts) -> Result<Arc<RecorderRecord>, Refusal> {
        let none = || Refusal::new(StatusCode::FORBIDDEN, "connect with the certificate of an enrolled recorder");
        let shown = parts.extensions.get::<Certificates>().ok_or_else(none)?;
        let leaf = shown.0.first().ok_or_else(none)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| none())?;
        let revoked = || {
            self.office.metrics.count("revoked");
            Refusal::new(StatusCode::FORBIDDEN, "this identity is not good any more: enrol again")
        };
        if self.office.trust.is_listed(&shown.0, self.office.clock.now()) {
            return Err(revoked());
        }
        self.office.registry.entry(parsed.public_key().raw).map_err(|_| revoked())
    }
}

/// When a certificate ends.
fn end(certificate: &[u8]) -> Result<aigaq_proto::Micros> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| Error::new(Kind::Internal, "the certificate that was issued does not read"))?;
    Ok(u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0).saturating_mul(1_000_000))
}

/// What devices can ask for.
pub fn router(desk: Arc<Desk>) -> axum::Router {
    axum::Router::new()
        .route(est::CACERTS, get(cacerts))
        .route(est::CSRATTRS, get(csrattrs))
        .route(est::SIMPLEENROLL, post(simpleenroll))
        .route(est::SIMPLEREENROLL, post(simplereenroll))
        .route(est::RECORDER, get(recorder))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "there is no such path: see SPEC.md section 15") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "the path has another method: see SPEC.md section 15")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&desk), guard))
        .with_state(desk)
}

/// Bounds rate and time, and says the server's time: a device may have no other.
async fn guard(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let source = request.extensions().get::<Source>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |source| source.0);
    let mut response = if desk.rates.admit(Some(network(source)), Instant::now()) {
        let late = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long").into_response();
        tokio::time::timeout(ANSWER_MAX, next.run(request)).await.unwrap_or_else(|_| late())
    } else {
        desk.office.metrics.count("limited");
        let _ = tokio::time::timeout(ANSWER_MAX, read(request.into_body())).await;
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many requests: try again later").into_response()
    };
    let now = i64::try_from(desk.office.clock.now()).ok().and_then(|now| jiff::Timestamp::from_microsecond(now).ok());
    let date = now.and_then(|now| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok());
    if let Some(date) = date.and_then(|date| HeaderValue::from_str(&date).ok()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn cacerts(State(desk): State<Arc<Desk>>) -> Response {
    body("application/pkcs7-mime", &pkcs7::encode(desk.office.authority.chain()))
}

async fn csrattrs() -> Response {
    body("application/csrattrs", &ATTRIBUTES)
}

async fn simpleenroll(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Refusal> {
    let (parts, sent) = request.into_parts();
    let request = certificate_request(&parts.headers, sent).await;
    let answer = async {
        let request = request?;
        let secret = Secret::of_password(&password(&parts.headers)?)?;
        let desk = Arc::clone(&desk);
        blocking(move || desk.enrol(&secret, &request)).await
    };
    answer.await.map(issued).inspect_err(|refusal| desk.office.metrics.count(refusal.label()))
}

async fn simplereenroll(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Refusal> {
    let (parts, sent) = request.into_parts();
    let request = certificate_request(&parts.headers, sent).await;
    let record = desk.recorder(&parts)?;
    let answer = async {
        let request = request?;
        let desk = Arc::clone(&desk);
        blocking(move || desk.renew(&record, &request)).await
    };
    answer.await.map(issued).inspect_err(|refusal| desk.office.metrics.count(refusal.label()))
}

async fn recorder(State(desk): State<Arc<Desk>>, request: Request) -> Result<axum::Json<About>, Refusal> {
    let record = desk.recorder(&request.into_parts().0)?;
    Ok(axum::Json(About {
        id: record.id.to_string(),
        server_name: SERVER_NAME.to_owned(),
        log_key: desk.office.log_key.clone(),
        kind: record.kind.name().to_owned(),
        department: record.department.clone(),
        label: record.label.clone(),
    }))
}

/// The request in a body, DER. The body is read before it is judged: clients of HTTP/2 take it badly when they are refused while they
/// still send.
async fn certificate_request(headers: &HeaderMap, sent: Body) -> Result<Vec<u8>, Refusal> {
    let sent = read(sent).await?;
    let said = headers.get(header::CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
    if !said.split(';').next().is_some_and(|said| said.trim().eq_ignore_ascii_case(est::PKCS10)) {
        let text = "send a certificate request with Content-Type: application/pkcs10";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let sent = sent.ok_or_else(|| {
        let text = format!("a request has at most {REQUEST_BYTES_MAX} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    })?;
    Ok(est::from_base64(&sent)?)
}

/// A body; `None` if it is too large. What is too much is read on, as long as it is not far too much, and not kept.
async fn read(mut sent: Body) -> Result<Option<Vec<u8>>, Refusal> {
    let (mut kept, mut seen) = (Vec::new(), 0_usize);
    while let Some(frame) = sent.frame().await {
        let cut = |_| Refusal::new(StatusCode::BAD_REQUEST, "the body ends before its end");
        let Ok(data) = frame.map_err(cut)?.into_data() else { continue };
        seen = seen.saturating_add(data.len());
        if seen <= REQUEST_BYTES_MAX {
            kept.extend_from_slice(&data);
        } else if seen > DRAINED_BYTES_MAX {
            break;
        }
    }
    Ok((seen <= REQUEST_BYTES_MAX).then_some(kept))
}

/// The password of HTTP Basic (RFC 7617); whatever the name.
fn password(headers: &HeaderMap) -> Result<String, Refusal> {
    let missing = || {
        Refusal::from(Error::new(
            Kind::Unauthorised,
            "send the enrolment code as the password of HTTP Basic authentication",
        ))
    };
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (scheme, credentials) =
        all.next().and_then(|value| value.to_str().ok()?.split_once(' ')).ok_or_else(missing)?;
    if all.next().is_some() || !scheme.eq_ignore_ascii_case("basic") {
        return Err(missing());
    }
    let decoded = BASE64.decode(credentials.trim().as_bytes()).map_err(|_| missing())?;
    let text = String::from_utf8(decoded).map_err(|_| missing())?;
    text.split_once(':').map(|(_, password)| password.to_owned()).ok_or_else(missing)
}

/// Runs what waits for the disk on a thread that may; not cancelled when the device goes away.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let died = |error| Refusal::from(Error::new(Kind::Internal, "an enrolment died").because(error));
    tokio::task::spawn_blocking(work).await.map_err(died)?
}

fn issued(message: Vec<u8>) -> Response {
    body("application/pkcs7-mime; smime-type=certs-only", &message)
}

fn body(content_type: &'static str, der: &[u8]) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::HeaderName::from_static("content-transfer-encoding"), HeaderValue::from_static("base64")),
    ];
    (headers, est::to_base64(der)).into_response()
}

/// A refusal: a status and one line of text.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    text: String,
}

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// The label in `aigaq_enrolments_total`.
    fn label(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "code",
            StatusCode::FORBIDDEN => "revoked",
            status if status.is_client_error() => "request",
            _ => "failed",
        }
    }
}

impl From<Error> for Refusal {
    /// Consumes the error: this is where it is logged, once.
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(error.kind().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::error!(%error, "an enrolment failed");
            return Self::new(status, "the server cannot enrol anybody now: try again later");
        }
        tracing::debug!(%error, "an enrolment was refused");
        Self::new(status, error.context())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("{}\n", self.text);
        let mut response =
            (self.status, [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))], text)
                .into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"aigaq enrolment\""));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}
