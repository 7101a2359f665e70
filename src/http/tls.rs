//! TLS of every HTTP listener: version 1.3 alone, one crypto provider, no tickets, no early data (settings.md of the design).

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::time_provider::TimeProvider;

use crate::error::{Context as _, Kind, Result};

/// What is offered by ALPN, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS for clients that show no certificate.
///
/// # Errors
/// [`Kind::Internal`] without TLS 1.3.
pub fn without_clients(certificate: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context(Kind::Internal, "TLS 1.3 is not to be had")?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    Ok(Arc::new(without_resumption(config)))
}

/// TLS for clients that may show a certificate, judged by `verifier` at the time of `time`.
///
/// # Errors
/// [`Kind::Internal`] without TLS 1.3.
pub fn with_clients(
    certificate: Arc<dyn ResolvesServerCert>,
    verifier: Arc<dyn ClientCertVerifier>,
    time: Arc<dyn TimeProvider>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>> {
    let config = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context(Kind::Internal, "TLS 1.3 is not to be had")?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
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
