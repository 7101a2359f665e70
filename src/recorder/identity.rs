//! Who the recorder is: the files that `aigaq enrol` left, parsed and fitted together.
//!
//! A loaded identity is whole: the key signs links, the TLS configuration presents the certificate and trusts the server's
//! CA alone, the log key verifies receipts. It has no `Debug`, so that the key cannot reach a log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use aigaq_proto::RecorderId;
use aigaq_proto::frame::ALPN;
use aigaq_proto::receipt::LogKey;
use aigaq_proto::signature::SigningKey;

use super::trust::{Dates, DeviceTime, Verifier};
use crate::clock::Clock;
use crate::error::{Context, Error, Kind, Result};

/// Interval of keep-alives: below the shortest life of a mapping in mobile networks.
const KEEP_ALIVE: Duration = Duration::from_secs(6);
/// Silence after which a connection is given up.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Who the recorder is, as `aigaq enrol` left it in a directory.
pub struct Identity {
    /// The recorder.
    pub id: RecorderId,
    /// `HOST:PORT` of the server; several, separated by commas, are tried in turn.
    pub server: String,
    /// The name that the server's certificate must have.
    pub(super) server_name: String,
    /// Who signs the receipts.
    pub(super) log_key: LogKey,
    /// What signs the links.
    pub(super) key: SigningKey,
    /// When its certificate is valid.
    pub(super) dates: Dates,
    tls: rustls::ClientConfig,
}

/// What of `recorder.toml` a recorder needs; the rest is for people.
#[derive(Deserialize)]
struct File {
    id: String,
    server: String,
    server_name: String,
    log_key: String,
}

impl Identity {
    /// Reads `cert.pem`, `key.pem`, `ca.pem` and `recorder.toml` in `dir`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with one line that says which file is wrong.
    pub fn load(dir: &Path) -> Result<Self> {
        let file: File = toml::from_str(&read(dir, "recorder.toml")?)
            .map_err(|error| wrong(dir, "recorder.toml", error.message()))?;
        let id = file.id.parse().map_err(|_| wrong(dir, "recorder.toml", "id is not a recorder id"))?;
        let log_key =
            LogKey::parse(&file.log_key).map_err(|_| wrong(dir, "recorder.toml", "log_key is not a log key"))?;
        let chain = certificates(dir, "cert.pem")?;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates(dir, "ca.pem")? {
            roots.add(certificate).map_err(|error| wrong(dir, "ca.pem", &error.to_string()))?;
        }
        let private = PrivateKeyDer::from_pem_slice(read(dir, "key.pem")?.as_bytes())
            .map_err(|error| wrong(dir, "key.pem", &error.to_string()))?;
        let key =
            SigningKey::from_pkcs8(private.secret_der()).map_err(|error| wrong(dir, "key.pem", &error.to_string()))?;
        let dates = chain.first().and_then(Dates::of).ok_or_else(|| wrong(dir, "cert.pem", "it cannot be parsed"))?;
        let tls = tls(roots, chain, private, dates).map_err(|error| wrong(dir, "cert.pem", &error.to_string()))?;
        Ok(Self { id, server: file.server, server_name: file.server_name, log_key, key, dates, tls })
    }

    /// How to connect, by the device's clock.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if QUIC cannot use the identity.
    pub(super) fn client(&self, clock: Clock) -> Result<quinn::ClientConfig> {
        let mut tls = self.tls.clone();
        tls.time_provider = Arc::new(DeviceTime(clock));
        let quic = QuicClientConfig::try_from(tls).context(Kind::Invalid, "the identity cannot be used for QUIC")?;
        let mut transport = quinn::TransportConfig::default();
        transport
            .keep_alive_interval(Some(KEEP_ALIVE))
            .max_idle_timeout(IDLE_MAX.try_into().ok())
            .max_concurrent_bidi_streams(0u8.into())
            .max_concurrent_uni_streams(0u8.into())
            // The sender makes the order: what was written first goes first.
            .send_fairness(false)
            .datagram_receive_buffer_size(None)
            .allow_spin(false);
        let mut client = quinn::ClientConfig::new(Arc::new(quic));
        client.transport_config(Arc::new(transport));
        Ok(client)
    }
}

fn read(dir: &Path, name: &str) -> Result<String> {
    let path = dir.join(name);
    std::fs::read_to_string(&path).context(Kind::Invalid, format!("cannot read {}", path.display()))
}

fn wrong(dir: &Path, name: &str, why: &str) -> Error {
    Error::new(Kind::Invalid, format!("{} is wrong: {why}", dir.join(name).display()))
}

fn certificates(dir: &Path, name: &str) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(dir, name)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error: rustls_pki_types::pem::Error| wrong(dir, name, &error.to_string()))?;
    if certificates.is_empty() { Err(wrong(dir, name, "it has no certificate")) } else { Ok(certificates) }
}

/// Mutual TLS 1.3, no resumption, no early data.
fn tls(
    roots: rustls::RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    own: Dates,
) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier::new(roots, own, &provider)?;
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    Ok(tls)
}
