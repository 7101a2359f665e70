//! A device gets its identity: it makes its key, and a code that a person gave it brings the certificate (SPEC.md section 15).
//!
//! Safe at any moment: the key is on disk before it is asked for, the server gives the same key the same answer again while the code
//! lives, and `recorder.toml` is written last, so that an identity is whole or not there. The same command again goes on where it
//! stopped, and does nothing once the code was used. A device that has an identity keeps its key, and so stays who it is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use rustls::client::Resumption;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use super::desk::{self, Desk};
use super::files;
use super::trust::{Dates, DeviceTime, Verifier};
use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};
use crate::est::{self, About, Code, Fingerprint};

/// The name that the server's certificate has, wherever it is.
const SERVER_NAME: &str = "gateway.aigaq";
/// The first delay before asking again, and the longest.
const DELAY_MIN: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_secs(30);

/// `recorder.toml` as enrolling writes it.
#[derive(Serialize, Deserialize)]
struct File {
    id: String,
    server: String,
    server_name: String,
    log_key: String,
    kind: String,
    department: String,
    label: String,
    /// Digest of the code that brought it; absent where it came otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enrolled_with: Option<String>,
}

/// Gets an identity into `dir` with `code` from the server at `HOST:PORT`, or at the first of several, separated by commas, that
/// answers. Asks again, and says so to `note`, while none does.
///
/// # Errors
/// [`Kind::Unauthorised`] for a code that is not good or a server that is not the one in the code, [`Kind::Invalid`] for what has to
/// be mended before, [`Kind::Internal`] when a file cannot be written.
pub async fn enrol(dir: &Path, code: &str, server: &str, clock: &Clock, note: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let code: Code = code.parse()?;
    files::make_dir(dir)?;
    let about: Option<File> = files::read(&dir.join("recorder.toml"))?.and_then(|text| toml::from_str(&text).ok());
    let used = code.secret.digest().to_string();
    if about.is_some_and(|about| about.enrolled_with.as_ref() == Some(&used)) {
        return Ok(());
    }
    let private = key(dir)?;
    let servers: Vec<&str> = server.split(',').map(str::trim).filter(|server| !server.is_empty()).collect();
    if servers.is_empty() {
        return Err(Error::new(Kind::Invalid, "enrolling needs a server, HOST:PORT"));
    }
    let mut delay = DELAY_MIN;
    for at in servers.iter().cycle() {
        match ask(at, &code, &private, clock).await {
            Ok(given) => return keep(dir, server, used, &given),
            Err(error) if error.kind() == Kind::Busy => {
                note(&format!("not enrolled yet: {error}; asking again in {} s", delay.as_secs()));
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(DELAY_MAX);
    }
    Ok(())
}

/// What enrolling brings.
struct Given {
    ca: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    about: About,
}

async fn ask(server: &str, code: &Code, private: &PrivateKeyDer<'static>, clock: &Clock) -> Result<Given> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let stranger = client(Verifier::announced(code.ca, &provider), None, clock)?;
    let desk = Desk::new(server, SERVER_NAME, stranger)?;
    let shown = desk.cacerts().await?;
    let ca = shown.into_iter().find(|shown| Fingerprint::of(shown) == code.ca);
    let ca = ca.ok_or_else(|| Error::new(Kind::Unauthorised, "the server has not the CA that the code names"))?;
    let certificate = desk.enrol(&code.secret.text(), &desk::request(private)?).await?;
    desk::check_key(&certificate, private)?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.clone()).context(Kind::Invalid, "the server's CA cannot be used")?;
    let dates = Dates::of(&certificate).ok_or_else(|| Error::new(Kind::Invalid, "the certificate cannot be parsed"))?;
    let verifier = Verifier::new(roots, dates, &provider).context(Kind::Invalid, "the server's CA cannot be used")?;
    let enrolled = client(verifier, Some((certificate.clone(), private.clone_key())), clock)?;
    let about = Desk::new(server, SERVER_NAME, enrolled)?.about().await?;
    Ok(Given { ca, certificate, about })
}

fn client(
    verifier: Verifier,
    own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    clock: &Clock,
) -> Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_details(provider, Arc::new(DeviceTime(clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context(Kind::Internal, "TLS 1.3 is not to be had")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut tls = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(vec![certificate], key)
            .context(Kind::Invalid, "the certificate cannot be used with the key")?,
    };
    tls.resumption = Resumption::disabled();
    Ok(tls)
}

/// The key of the device, made at the first call: Ed25519 in version 1 of PKCS #8, which every other tool reads.
fn key(dir: &Path) -> Result<PrivateKeyDer<'static>> {
    let path = dir.join("key.pem");
    if let Some(text) = files::read(&path)? {
        let wrong = format!("{} is not a private key", path.display());
        return PrivateKeyDer::from_pem_slice(text.as_bytes()).context(Kind::Invalid, wrong);
    }
    let made = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8v1());
    let der = made.map_err(|_| Error::new(Kind::Internal, "cannot make a key"))?;
    let body = data_encoding::BASE64.encode(der.as_ref());
    let text = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    files::write(dir, "key.pem", text.as_bytes(), files::SECRET)?;
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.as_ref().to_vec())))
}

fn keep(dir: &Path, server: &str, used: String, given: &Given) -> Result<()> {
    let About { id, server_name, log_key, kind, department, label } = given.about.clone();
    let server = server.to_owned();
    let file = File { id, server, server_name, log_key, kind, department, label, enrolled_with: Some(used) };
    let text = toml::to_string(&file).context(Kind::Internal, "cannot write TOML")?;
    files::write(dir, "ca.pem", est::to_pem(&given.ca).as_bytes(), files::PUBLIC)?;
    files::write(dir, "cert.pem", est::to_pem(&given.certificate).as_bytes(), files::PUBLIC)?;
    files::write(dir, "recorder.toml", text.as_bytes(), files::PUBLIC)
}
