//! Which certificates lead anywhere: those that this server issued, and those of an existing CA where one is configured.
//!
//! A certificate of this server needs no revocation list: whom it revoked the [`Registry`](super::Registry) knows. One of an existing
//! CA is checked against the CA's list if there is one, at every depth: unknown is an error, and so is a list that has expired. The
//! list's file is read again when it changes; one that does not read leaves the old one, which ends by itself. Where lists are kept
//! ([`Trust::keep_lists`]), one counts only when it is durable in the store. Whoever watches
//! [`Trust::changes`] closes the connections of those on the new list ([`Trust::is_listed`]).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aigaq_proto::Micros;
use prometheus::IntGauge;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, DistinguishedName, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::watch;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::{Authority, Settings};
use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::Store;

/// Judges chains. Shared by every listener.
pub struct Trust {
    own: Arc<dyn ClientCertVerifier>,
    existing: Option<Existing>,
    hints: Vec<DistinguishedName>,
    changes: watch::Sender<u64>,
}

/// The CA that is there already.
struct Existing {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    verifier: RwLock<Arc<dyn ClientCertVerifier>>,
    list: Option<ListFile>,
    kept: Option<(Store, Clock)>,
}

/// The file of its revocation lists, and what it was when it was read.
struct ListFile {
    path: PathBuf,
    seen: Mutex<Option<(SystemTime, u64)>>,
    next_update: IntGauge,
}

impl Trust {
    /// Trust in what `authority` issues and nothing else.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a CA that cannot be one.
    pub fn own(authority: &Authority) -> Result<Self> {
        let unread = IntGauge::new("unread", "Without a list.").context(Kind::Internal, "cannot make a gauge")?;
        Self::load(authority, &Settings::default(), unread)
    }

    /// Trust in what `authority` issues and, as `settings` say, in an existing CA. `next_update` is told when its list ends.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for files that do not read.
    pub fn load(authority: &Authority, settings: &Settings, next_update: IntGauge) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).context(Kind::Invalid, "the CA's certificate cannot be used")?;
        let own = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .context(Kind::Internal, "cannot check certificates")?;
        let mut hints = own.root_hint_subjects().to_vec();
        let existing = match &settings.trust_anchors {
            Some(path) => Some(Existing::load(path, settings.crl.as_deref(), provider, next_update)?),
            None => None,
        };
        if let Some(existing) = &existing {
            hints.extend(existing.roots.subjects());
        }
        Ok(Self { own, existing, hints, changes: watch::Sender::new(0) })
    }

    /// The same that keeps every revocation list in `store` before it counts, those in use now included. Blocks.
    ///
    /// # Errors
    /// Those of the store, and [`Kind::Invalid`] for lists that do not read any more.
    pub fn keep_lists(mut self, store: Store, clock: Clock) -> Result<Self> {
        if let Some(existing) = &mut self.existing {
            existing.kept = Some((store, clock));
            if let Some(list) = &existing.list {
                list.forget();
            }
            existing.refresh()?;
        }
        Ok(self)
    }

    /// Reads the revocation list again if its file has changed. Blocks.
    pub(super) fn refresh(&self) {
        let Some(existing) = &self.existing else { return };
        match existing.refresh() {
            Ok(false) => {}
            Ok(true) => self.changes.send_modify(|count| *count = count.wrapping_add(1)),
            Err(error) => {
                tracing::error!(%error, "the revocation list cannot be read again; the old one is used until it ends");
            }
        }
    }

    /// Changes with every new revocation list.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether a revocation list names a certificate of this chain, leaf first: the question about those who were let in before the
    /// list came. That the list has ended meanwhile costs nobody the connection that it has.
    #[must_use]
    pub fn is_listed(&self, chain: &[CertificateDer<'_>], now: Micros) -> bool {
        let has_list = self.existing.as_ref().is_some_and(|existing| existing.list.is_some());
        let Some((leaf, others)) = chain.split_first().filter(|_| has_list) else { return false };
        let judged = self.judge(leaf, others, UnixTime::since_unix_epoch(Duration::from_micros(now)));
        matches!(judged, Err(rustls::Error::InvalidCertificate(CertificateError::Revoked)))
    }

    pub(super) fn hints(&self) -> &[DistinguishedName] {
        &self.hints
    }

    /// Whose signatures in handshakes are checked how.
    pub(super) fn signatures(&self) -> &dyn ClientCertVerifier {
        &*self.own
    }

    /// Whether the chain leads to a trusted CA, is good at `now`, is for clients, and was not revoked by an existing CA.
    pub(super) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let own = self.own.verify_client_cert(leaf, others, now).map(|_| ());
        match (&own, &self.existing) {
            (
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                )),
                Some(existing),
            ) => existing.verifier().verify_client_cert(leaf, others, now).map(|_| ()),
            _ => own,
        }
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

/// What the server trusts: the end of its own chain, and the anchors of an existing CA.
///
/// # Errors
/// [`Kind::Invalid`] for a file that does not read.
pub fn anchors(authority: &Authority, settings: &Settings) -> Result<Vec<CertificateDer<'static>>> {
    let mut all = vec![authority.anchor().clone()];
    if let Some(path) = &settings.trust_anchors {
        all.extend(read_anchors(path)?);
    }
    Ok(all)
}

fn read_anchors(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = || format!("cannot read the trust anchors in {}", path.display());
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).context(Kind::Invalid, unreadable())
}

impl Existing {
    fn load(anchors: &Path, list: Option<&Path>, provider: Arc<CryptoProvider>, next_update: IntGauge) -> Result<Self> {
        let unreadable = || format!("cannot read the trust anchors in {}", anchors.display());
        let mut roots = RootCertStore::empty();
        for certificate in read_anchors(anchors)? {
            roots.add(certificate).context(Kind::Invalid, unreadable())?;
        }
        if roots.is_empty() {
            return Err(Error::new(Kind::Invalid, format!("{} holds no certificate", anchors.display())));
        }
        let roots = Arc::new(roots);
        let list = list.map(|path| ListFile { path: path.to_owned(), seen: Mutex::new(None), next_update });
        let verifier = RwLock::new(verifier(&roots, &provider, None)?);
        let existing = Self { roots, provider, verifier, list, kept: None };
        existing.refresh()?;
        Ok(existing)
    }

    /// Whether there was a new list.
    fn refresh(&self) -> Result<bool> {
        let Some(list) = &self.list else { return Ok(false) };
        let Some(lists) = list.read_if_changed()? else { return Ok(false) };
        let fresh = verifier(&self.roots, &self.provider, Some(lists.clone()))?;
        if let Some((store, clock)) = &self.kept {
            let mut all = lists.iter();
            all.try_for_each(|one| store.keep_revocation_list(one, clock.now())).inspect_err(|_| list.forget())?;
        }
        *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(true)
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn verifier(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    lists: Option<Vec<CertificateRevocationListDer<'static>>>,
) -> Result<Arc<dyn ClientCertVerifier>> {
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    if let Some(lists) = lists {
        // Unknown is an error and all depths are checked by default; that a list has expired is not.
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    builder.build().context(Kind::Invalid, "the revocation list or the trust anchors cannot be used")
}

impl ListFile {
    /// Has the file read again whether it has changed or not.
    fn forget(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The lists in the file; `None` if it is the one that was read last.
    fn read_if_changed(&self) -> Result<Option<Vec<CertificateRevocationListDer<'static>>>> {
        let context = || format!("cannot read the revocation list {}", self.path.display());
        let about = std::fs::metadata(&self.path).context(Kind::Invalid, context())?;
        let stamp = (about.modified().context(Kind::Invalid, context())?, about.len());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == Some(stamp) {
            return Ok(None);
        }
        let bytes = std::fs::read(&self.path).context(Kind::Invalid, context())?;
        let lists: Vec<CertificateRevocationListDer<'static>> = if bytes.starts_with(b"-----") {
            CertificateRevocationListDer::pem_slice_iter(&bytes)
                .collect::<Result<_, _>>()
                .map_err(|error: rustls_pki_types::pem::Error| Error::new(Kind::Invalid, context()).because(error))?
        } else {
            vec![CertificateRevocationListDer::from(bytes)]
        };
        if lists.is_empty() {
            return Err(Error::new(Kind::Invalid, format!("{} holds no revocation list", self.path.display())));
        }
        let mut ends = Vec::new();
        for list in &lists {
            let (_, parsed) = CertificateRevocationList::from_der(list).context(Kind::Invalid, context())?;
            let end = parsed.next_update().map(|time| time.timestamp());
            ends.push(end.ok_or_else(|| Error::new(Kind::Invalid, "a revocation list does not say when it ends"))?);
        }
        self.next_update.set(ends.into_iter().min().unwrap_or_default());
        *seen = Some(stamp);
        Ok(Some(lists))
    }
}
