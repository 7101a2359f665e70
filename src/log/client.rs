//! HTTP to a witness or an authority for time stamps: one question, one short answer, a deadline for both.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
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

/// One question.
pub(super) struct Question {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Bytes,
    /// Largest answer that is read, bytes.
    pub(super) answer_bytes_max: usize,
}

/// Asks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    tls: Option<TlsConnector>,
}

impl Client {
    /// Believes HTTPS servers with certificates of the CAs in this file; the setting that names it is for errors.
    pub(super) fn new(ca: Option<(&Path, &'static str)>) -> Result<Self> {
        let Some((ca, setting)) = ca else { return Ok(Self { tls: None }) };
        let unreadable = || format!("cannot read {} ({setting})", ca.display());
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).context(Kind::Invalid, unreadable())? {
            let certificate = certificate.context(Kind::Invalid, unreadable())?;
            roots.add(certificate).context(Kind::Invalid, unreadable())?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context(Kind::Internal, "TLS 1.3 is not to be had")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// Whether it can speak with a server at this address.
    pub(super) fn can(&self, url: &Url) -> bool {
        match url.scheme() {
            "http" => true,
            "https" => self.tls.is_some(),
            _ => false,
        }
    }

    /// Asks whoever is at `url`: status and body of the answer.
    pub(super) async fn ask(&self, url: &Url, question: Question) -> Result<(u16, Bytes)> {
        let late = |_| Error::new(Kind::Busy, format!("no answer from {url}"));
        tokio::time::timeout(ANSWER_MAX, self.exchange(url, question)).await.map_err(late)?
    }

    async fn exchange(&self, url: &Url, question: Question) -> Result<(u16, Bytes)> {
        let unreachable = || format!("cannot reach {url}");
        let invalid = || Error::new(Kind::Invalid, format!("{url} is no address of a server"));
        let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or_else(invalid)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut request = Request::builder()
            .method(question.method)
            .uri(question.target)
            .header(header::HOST, format!("{host}:{port}"));
        if let Some(content_type) = question.content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(Full::new(question.body)).context(Kind::Invalid, "the question cannot be asked")?;
        let bytes_max = question.answer_bytes_max;
        let stream = TcpStream::connect((bare.as_str(), port)).await.context(Kind::Busy, unreachable())?;
        match &self.tls {
            Some(tls) if url.scheme() == "https" => {
                let name = ServerName::try_from(bare).map_err(|_| invalid())?;
                let stream = tls.connect(name, stream).await.context(Kind::Busy, unreachable())?;
                speak(stream, request, bytes_max).await
            }
            _ => speak(stream, request, bytes_max).await,
        }
        .context(Kind::Busy, unreachable())
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn speak<S>(stream: S, request: Request<Full<Bytes>>, bytes_max: usize) -> Result<(u16, Bytes), Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), bytes_max).collect().await?;
        Ok((status, body.to_bytes()))
    };
    let answered = answered.await;
    connection.abort();
    answered
}
