//! Questions to the server's enrolment listener (EST, RFC 7030), each on a connection of its own: they are asked once in weeks.
//!
//! Time and answers are bounded. [`Kind::Busy`] says that the same question may work later, every other kind that it will not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use aigaq_proto::signature::SigningKey;

use crate::error::{Context as _, Error, Kind, Result};
use crate::est::{self, About, pkcs7};

/// Time for one question and its answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// The server's words that are passed on, characters.
const WORDS_MAX: usize = 200;

/// The way to ask.
pub(super) struct Desk {
    server: String,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Desk {
    /// Asks the server at `HOST:PORT`, whose certificate must have this name.
    pub(super) fn new(server: &str, name: &str, tls: rustls::ClientConfig) -> Result<Self> {
        let name = ServerName::try_from(name.to_owned()).context(Kind::Invalid, "not the name of a server")?;
        Ok(Self { server: server.to_owned(), name, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// The CA certificates.
    pub(super) async fn cacerts(&self) -> Result<Vec<CertificateDer<'static>>> {
        pkcs7::decode(&est::from_base64(&self.ask(Method::GET, est::CACERTS, None, Bytes::new()).await?)?)
    }

    /// A first certificate, for a code.
    pub(super) async fn enrol(&self, code: &str, request: &[u8]) -> Result<CertificateDer<'static>> {
        let credentials = data_encoding::BASE64.encode(format!(":{code}").as_bytes());
        let body = Bytes::from(est::to_base64(request));
        issued(&self.ask(Method::POST, est::SIMPLEENROLL, Some(format!("Basic {credentials}")), body).await?)
    }

    /// The next certificate, for the one that the connection shows.
    pub(super) async fn renew(&self, request: &[u8]) -> Result<CertificateDer<'static>> {
        issued(&self.ask(Method::POST, est::SIMPLEREENROLL, None, Bytes::from(est::to_base64(request))).await?)
    }

    /// What the server knows of the recorder.
    pub(super) async fn about(&self) -> Result<About> {
        let body = self.ask(Method::GET, est::RECORDER, None, Bytes::new()).await?;
        serde_json::from_slice(&body).context(Kind::Invalid, "the server says nothing that can be understood")
    }

    async fn ask(&self, method: Method, path: &str, authorization: Option<String>, body: Bytes) -> Result<Bytes> {
        let late = |_| Error::new(Kind::Busy, format!("no answer from {}", self.server));
        tokio::time::timeout(ANSWER_MAX, self.exchange(method, path, authorization, body)).await.map_err(late)?
    }

    async fn exchange(&self, method: Method, path: &str, authorization: Option<String>, body: Bytes) -> Result<Bytes> {
        let unreachable = || format!("cannot reach {}", self.server);
        let stream = TcpStream::connect(&self.server).await.context(Kind::Busy, unreachable())?;
        let stream = self.tls.connect(self.name.clone(), stream).await.map_err(|error| self.failed(error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.failed(error))?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.server);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, est::PKCS10);
        }
        let request = request.body(Full::new(body)).context(Kind::Invalid, "the question cannot be asked")?;
        let answered = async {
            let answer = sender.send_request(request).await.map_err(|error| self.failed(error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), est::BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|error| Error::new(Kind::Busy, unreachable()).because(error))?.to_bytes();
            if status.is_success() { Ok(body) } else { Err(refused(status.as_u16(), &body)) }
        };
        let answered = answered.await;
        connection.abort();
        answered
    }

    /// What a failure to talk means: trust that is missing on either side does not come by trying again.
    fn failed(&self, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        match about_trust(&error) {
            Some(rustls::Error::InvalidCertificate(_)) => Error::new(
                Kind::Unauthorised,
                format!("{} is not the server that the code or identity names", self.server),
            )
            .because(error),
            Some(rustls::Error::AlertReceived(_)) => {
                Error::new(Kind::Unauthorised, format!("{} refuses the certificate", self.server)).because(error)
            }
            _ => Error::new(Kind::Busy, format!("cannot talk to {}", self.server)).because(error),
        }
    }
}

/// The error of TLS within an error.
fn about_trust<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn refused(status: u16, body: &[u8]) -> Error {
    let words: String =
        String::from_utf8_lossy(body).trim().chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
    let kind = match status {
        401 | 403 => Kind::Unauthorised,
        429 | 500..=599 => Kind::Busy,
        _ => Kind::Invalid,
    };
    Error::new(kind, format!("the server says: {words} ({status})"))
}

/// The one certificate of an answer.
fn issued(body: &[u8]) -> Result<CertificateDer<'static>> {
    let certificates = pkcs7::decode(&est::from_base64(body)?)?;
    let first = certificates.into_iter().next();
    first.ok_or_else(|| Error::new(Kind::Invalid, "the server sent no certificate"))
}

/// A request for a certificate for this key, PKCS #10, DER. Its subject is empty: the key says who asks.
pub(super) fn request(private: &PrivateKeyDer<'_>) -> Result<Vec<u8>> {
    let unusable = "the key cannot sign a certificate request";
    let algorithm = match SigningKey::from_pkcs8(private.secret_der()).context(Kind::Invalid, unusable)? {
        SigningKey::Ed25519(_) => &rcgen::PKCS_ED25519,
        SigningKey::P256(_) => &rcgen::PKCS_ECDSA_P256_SHA256,
    };
    let der = PrivatePkcs8KeyDer::from(private.secret_der());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, algorithm).context(Kind::Invalid, unusable)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).context(Kind::Internal, unusable)?;
    Ok(request.der().to_vec())
}

/// Fails unless the certificate is for this key.
pub(super) fn check_key(certificate: &[u8], private: &PrivateKeyDer<'_>) -> Result<()> {
    let own = SigningKey::from_pkcs8(private.secret_der()).and_then(|key| key.public_key()).map(|key| key.to_spki());
    let own = own.context(Kind::Invalid, "the key cannot be used")?;
    let is_own = X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.public_key().raw == own);
    if is_own { Ok(()) } else { Err(Error::new(Kind::Invalid, "the server sent the certificate of another key")) }
}
