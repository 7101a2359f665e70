//! Who the recorder is: the files that enrolling left, parsed and fitted together, and the time as the server tells it.
//!
//! A loaded identity is whole: the key signs links, connections present the certificate and trust the server's CA alone, the log key
//! verifies receipts. A renewed certificate takes the place of the old one for the next connection; the key stays. It has no `Debug`,
//! so that the key cannot reach a log.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use tokio::sync::Notify;

use aigaq_proto::frame::ALPN;
use aigaq_proto::receipt::LogKey;
use aigaq_proto::signature::SigningKey;
use aigaq_proto::{Micros, RecorderId, succession};

use super::files;
use super::trust::{Dates, DeviceTime, Verifier};
use crate::clock::Clock;
use crate::error::{Context, Error, Kind, Result};
use crate::est;

/// Who the recorder is, as enrolling left it in a directory.
pub struct Identity {
    /// The recorder.
    pub id: RecorderId,
    /// `HOST:PORT` of the server; several, separated by commas, are tried in turn.
    pub server: String,
    /// The name that the server's certificate must have.
    pub(super) server_name: String,
    /// Who signs the receipts.
    log_key: RwLock<LogKey>,
    /// What signs the links.
    pub(super) key: SigningKey,
    dir: PathBuf,
    roots: RootCertStore,
    private: PrivateKeyDer<'static>,
    chain: RwLock<Vec<CertificateDer<'static>>>,
    /// The server's clock minus the recorder's, microseconds, since the server has told it.
    offset: Mutex<Option<i128>>,
    /// Told when the server has said the time.
    pub(super) heard: Notify,
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
        let mut roots = RootCertStore::empty();
        for certificate in certificates(dir, "ca.pem")? {
            roots.add(certificate).map_err(|error| wrong(dir, "ca.pem", &error.to_string()))?;
        }
        let private = PrivateKeyDer::from_pem_slice(read(dir, "key.pem")?.as_bytes())
            .map_err(|error| wrong(dir, "key.pem", &error.to_string()))?;
        let key =
            SigningKey::from_pkcs8(private.secret_der()).map_err(|error| wrong(dir, "key.pem", &error.to_string()))?;
        let identity = Self {
            id,
            server: file.server,
            server_name: file.server_name,
            log_key: RwLock::new(log_key),
            key,
            dir: dir.to_owned(),
            roots,
            private,
            chain: RwLock::new(chain),
            offset: Mutex::new(None),
            heard: Notify::new(),
        };
        if identity.dates().end == 0 {
            return Err(wrong(dir, "cert.pem", "it cannot be parsed"));
        }
        identity.tls(&Clock::system()).map_err(|error| wrong(dir, "cert.pem", &error.to_string()))?;
        Ok(identity)
    }

    /// How to connect now, by this clock of the recorder.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a certificate and key that do not belong together.
    pub(super) fn client(&self, clock: &Clock, transport: Arc<quinn::TransportConfig>) -> Result<quinn::ClientConfig> {
        let mut tls = self.tls(clock)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let quic = QuicClientConfig::try_from(tls).context(Kind::Internal, "TLS cannot be used for QUIC")?;
        let mut client = quinn::ClientConfig::new(Arc::new(quic));
        client.transport_config(transport);
        Ok(client)
    }

    /// Mutual TLS 1.3, no resumption, no early data.
    pub(super) fn tls(&self, clock: &Clock) -> Result<rustls::ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Verifier::new(self.roots.clone(), self.dates(), &provider);
        let verifier = verifier.context(Kind::Invalid, "the CA cannot be used")?;
        let mut tls = rustls::ClientConfig::builder_with_details(provider, Arc::new(DeviceTime(clock.clone())))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context(Kind::Internal, "TLS 1.3 is not to be had")?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain(), self.private.clone_key())
            .context(Kind::Invalid, "the certificate cannot be used with the key")?;
        tls.resumption = Resumption::disabled();
        Ok(tls)
    }

    /// When its certificate is valid; never, if it cannot be parsed.
    pub(super) fn dates(&self) -> Dates {
        self.chain().first().and_then(Dates::of).unwrap_or(Dates { begin: 0, end: 0 })
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the next certificate: durable, then used for the next connection. Blocks.
    ///
    /// # Errors
    /// [`Kind::Internal`] if it cannot be written; the old one is then used on.
    pub(super) fn replace(&self, leaf: CertificateDer<'static>) -> Result<()> {
        files::write(&self.dir, "cert.pem", est::to_pem(&leaf).as_bytes(), files::PUBLIC)?;
        *self.chain.write().unwrap_or_else(PoisonError::into_inner) = vec![leaf];
        Ok(())
    }

    /// The key of the log that signs receipts.
    pub(super) fn log_key(&self) -> LogKey {
        self.log_key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server says that the log ended and another goes on: takes the newest key that the one it knows leads to, durably. Whether that
    /// is another one. Blocks.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when what it says does not hold, [`Kind::Internal`] if it cannot be written; the old one then counts on.
    pub(super) fn succeed(&self, notes: &str) -> Result<bool> {
        let known = self.log_key();
        let newest = succession::follow(notes, &known);
        let newest = newest.context(Kind::Invalid, "what the server says of the end of its log does not hold")?;
        if newest == known {
            return Ok(false);
        }
        let mut file: toml::Table = toml::from_str(&read(&self.dir, "recorder.toml")?)
            .map_err(|error| wrong(&self.dir, "recorder.toml", error.message()))?;
        file.insert("log_key".to_owned(), newest.as_str().into());
        let text = toml::to_string(&file).context(Kind::Internal, "recorder.toml cannot be written")?;
        files::write(&self.dir, "recorder.toml", text.as_bytes(), files::PUBLIC)?;
        *self.log_key.write().unwrap_or_else(PoisonError::into_inner) = newest;
        Ok(true)
    }

    /// The server has said its time; `own` is the recorder's at that moment.
    pub(super) fn hear(&self, server: Micros, own: Micros) {
        let offset = i128::from(server) - i128::from(own);
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner) = Some(offset);
        self.heard.notify_one();
    }

    /// The server's time, as far as it has told it.
    pub(super) fn server_now(&self, clock: &Clock) -> Option<Micros> {
        let offset = (*self.offset.lock().unwrap_or_else(PoisonError::into_inner))?;
        u64::try_from(i128::from(clock.now()) + offset).ok()
    }

    /// The private key, PKCS #8.
    pub(super) fn private(&self) -> &PrivateKeyDer<'static> {
        &self.private
    }
}

#[cfg(test)]
impl Identity {
    /// One that signs, and connects nowhere.
    pub(super) fn for_tests(id: RecorderId, key: SigningKey) -> Self {
        let log_key = "log.aigaq.example+65e8d1f3+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";
        Self {
            id,
            server: String::new(),
            server_name: String::new(),
            log_key: RwLock::new(LogKey::parse(log_key).unwrap()),
            key,
            dir: PathBuf::new(),
            roots: RootCertStore::empty(),
            private: PrivateKeyDer::Pkcs8(Vec::new().into()),
            chain: RwLock::new(Vec::new()),
            offset: Mutex::new(None),
            heard: Notify::new(),
        }
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
