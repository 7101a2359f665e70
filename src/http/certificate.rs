//! The certificate of a listener, which is replaced while the listener serves: new handshakes get the new one, connections that
//! stand keep what they have.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::error::{Context as _, Error, Kind, Result};

/// How often it is looked whether the files of a certificate have changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A certificate chain and its key, in use.
#[derive(Debug)]
pub struct Certificate(RwLock<Arc<CertifiedKey>>);

impl Certificate {
    /// One to begin with.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the certificate and the key do not belong together.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self(RwLock::new(certified(chain, key)?))))
    }

    /// Another one in its place.
    ///
    /// # Errors
    /// As [`Certificate::new`]; then the old one stays.
    pub fn replace(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<()> {
        let new = certified(chain, key)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<CertifiedKey>> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(chain, key, &provider);
    certified.map(Arc::new).context(Kind::Invalid, "the certificate and its key do not go together")
}

/// A certificate that an operator keeps in two PEM files and replaces there.
#[derive(Debug)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Certificate>,
    /// What the files looked like when they were read last.
    seen: Mutex<[Option<Seen>; 2]>,
}

/// Device, inode, length, time of the last change.
type Seen = (u64, u64, u64, i64, i64);

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when a file cannot be read or the two do not belong together.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self> {
        let seen = [certificate, key].map(seen);
        let (chain, private) = read(certificate, key)?;
        let pair = format!("{} and {} cannot be used", certificate.display(), key.display());
        let current = Certificate::new(chain, private).context(Kind::Invalid, pair)?;
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), current, seen: Mutex::new(seen) })
    }

    /// What is in use.
    #[must_use]
    pub fn current(&self) -> Arc<Certificate> {
        Arc::clone(&self.current)
    }

    /// Reads them again whenever they have changed, until `stop`. What cannot be used is said, and the old certificate stays.
    ///
    /// # Errors
    /// None.
    pub async fn watch(self, stop: CancellationToken) -> Result<()> {
        let this = Arc::new(self);
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let files = Arc::clone(&this);
            match tokio::task::spawn_blocking(move || files.refresh()).await {
                Ok(Ok(false)) | Err(_) => {}
                Ok(Ok(true)) => tracing::info!(file = %this.certificate.display(), "a new certificate is in use"),
                // Also in the moment between the two files of a new pair.
                Ok(Err(error)) => tracing::warn!(%error, "the certificate before stays in use"),
            }
        }
        Ok(())
    }

    /// Whether there is a new one, which is then in use. Blocks.
    fn refresh(&self) -> Result<bool> {
        let now = [self.certificate.as_path(), &self.key].map(seen);
        let mut before = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *before == now {
            return Ok(false);
        }
        *before = now;
        let (chain, key) = read(&self.certificate, &self.key)?;
        self.current.replace(chain, key)?;
        Ok(true)
    }
}

fn seen(path: &Path) -> Option<Seen> {
    let about = fs::metadata(path).ok()?;
    Some((about.dev(), about.ino(), about.len(), about.mtime(), about.mtime_nsec()))
}

fn read(certificate: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let unreadable = |path: &Path| format!("cannot read {}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .context(Kind::Invalid, unreadable(certificate))?;
    if chain.is_empty() {
        return Err(Error::new(Kind::Invalid, format!("{} holds no certificate", certificate.display())));
    }
    let private = PrivateKeyDer::from_pem_file(key).context(Kind::Invalid, unreadable(key))?;
    Ok((chain, private))
}
