//! TLS of every HTTP listener: version 1.3 alone, one crypto provider, no tickets, no early data (settings.md of the design).

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Context as _, Error, Kind, Result};

/// What is offered by ALPN, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Reads a certificate chain and its private key, both PEM. Clients show no certificate.
///
/// # Errors
/// [`Kind::Invalid`] when a file cannot be read or the two do not belong together.
pub fn from_files(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let unreadable = |path: &Path| format!("cannot read {}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .context(Kind::Invalid, unreadable(certificate))?;
    if chain.is_empty() {
        return Err(Error::new(Kind::Invalid, format!("{} holds no certificate", certificate.display())));
    }
    let private = PrivateKeyDer::from_pem_file(key).context(Kind::Invalid, unreadable(key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context(Kind::Internal, "TLS 1.3 is not to be had")?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .context(Kind::Invalid, format!("{} and {} do not go together", certificate.display(), key.display()))?;
    Ok(Arc::new(without_resumption(config)))
}

/// TLS for clients that may show a certificate, judged by `verifier` at the time of `time`.
///
/// # Errors
/// [`Kind::Invalid`] when the certificate and the key do not belong together.
pub fn with_clients(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    verifier: Arc<dyn ClientCertVerifier>,
    time: Arc<dyn TimeProvider>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>> {
    let config = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context(Kind::Internal, "TLS 1.3 is not to be had")?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .context(Kind::Invalid, "the server's certificate cannot be used")?;
    Ok(Arc::new(without_resumption(config)))
}

/// A resumed session would skip the check of the certificate.
fn without_resumption(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config
}
