//! One question over HTTP or HTTPS, one short answer, a deadline for both: for services that a site trusts.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::error::{Context as _, Error, Kind, Result};

/// A question and its answer may take so long.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Largest answer that is read, bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Asks. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    tls: Option<TlsConnector>,
}

impl Client {
    /// Believes HTTPS servers with certificates of the CAs in the PEM file `ca`, without one none; `key` is the setting that an
    /// error names.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a file that cannot be read.
    pub fn new(ca: Option<&Path>, key: &str) -> Result<Self> {
        let Some(ca) = ca else { return Ok(Self { tls: None }) };
        let unreadable = || format!("cannot read {} ({key})", ca.display());
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).context(Kind::Invalid, unreadable())? {
            // A file of many CAs may hold one that is of no use here.
            let certificate = certificate.context(Kind::Invalid, unreadable())?;
            roots.add_parsable_certificates([certificate]);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context(Kind::Internal, "TLS 1.3 is not to be had")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// Asks `url`, which `request` is for: status and body of the answer.
    ///
    /// # Errors
    /// [`Kind::Busy`] without an answer, [`Kind::Invalid`] for an address that cannot be asked.
    pub async fn ask(
        &self,
        url: &Url,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> Result<(u16, Bytes)> {
        let late = |_| Error::new(Kind::Busy, format!("no answer from {}", origin(url)));
        tokio::time::timeout(ANSWER_MAX, self.exchange(None, url, request, body.into())).await.map_err(late)?
    }

    /// The same at the address that somebody found for the host of `url` and nowhere else.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn ask_at(
        &self,
        address: SocketAddr,
        url: &Url,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> Result<(u16, Bytes)> {
        let late = |_| Error::new(Kind::Busy, format!("no answer from {}", origin(url)));
        tokio::time::timeout(ANSWER_MAX, self.exchange(Some(address), url, request, body.into())).await.map_err(late)?
    }

    async fn exchange(
        &self,
        address: Option<SocketAddr>,
        url: &Url,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<(u16, Bytes)> {
        let unreachable = || format!("cannot reach {}", origin(url));
        let invalid = || Error::new(Kind::Invalid, format!("{} is no address that can be asked", origin(url)));
        let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or_else(invalid)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let request = request
            .uri(target)
            .header(header::HOST, format!("{host}:{port}"))
            .body(Full::new(body))
            .context(Kind::Invalid, "the question cannot be asked")?;
        let stream = match address {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((bare.as_str(), port)).await,
        };
        let stream = stream.context(Kind::Busy, unreachable())?;
        match (url.scheme(), &self.tls) {
            ("https", Some(tls)) => {
                let name = ServerName::try_from(bare).map_err(|_| invalid())?;
                let stream = tls.connect(name, stream).await.context(Kind::Busy, unreachable())?;
                speak(stream, request).await
            }
            ("http", _) => speak(stream, request).await,
            _ => return Err(invalid()),
        }
        .context(Kind::Busy, unreachable())
    }
}

/// What of an address may be told: its query may hold a secret.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn speak<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(u16, Bytes), Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await?;
        Ok((status, body.to_bytes()))
    };
    let answered = answered.await;
    connection.abort();
    answered
}
