//! Who connects: what the certificate that TLS has verified ([`enrol::Verifier`](crate::enrol::Verifier)) makes known of the recorder.

use std::sync::Arc;

use aigaq_proto::signature::PublicKey;
use aigaq_proto::{Digest, Micros, SignatureBytes};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::enrol::{NoEntry, Registry};
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::records::RecorderRecord;

/// How many keys of a recorder, the newest, a link may be signed with beside that of the connection: links that were made before a
/// renewal with a new key may come after it, and a connection goes on after one.
const OLDER_KEYS_MAX: usize = 3;

/// What a revoked recorder is told.
pub(super) const REVOKED: &str = "this recorder was revoked";

/// The certificates that the other end has shown, leaf first.
pub(super) fn chain(connection: &quinn::Connection) -> Option<Vec<CertificateDer<'static>>> {
    connection.peer_identity()?.downcast().ok().map(|chain| *chain)
}

/// An authenticated recorder.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) record: Arc<RecorderRecord>,
    /// The keys that its links are signed with: that of its certificate, then older ones, newest first.
    keys: Vec<PublicKey>,
    /// When its certificate ends.
    pub(super) not_after: Micros,
}

impl Identity {
    /// The recorder at the other end of an established connection.
    pub(super) fn of(connection: &quinn::Connection, registry: &Registry) -> Result<Self> {
        let unknown = || Error::new(Kind::Unauthorised, "no enrolled identity");
        let chain = chain(connection).ok_or_else(unknown)?;
        let leaf = chain.first().ok_or_else(unknown)?;
        let (_, parsed) = X509Certificate::from_der(leaf).context(Kind::Unauthorised, "unreadable certificate")?;
        let spki = parsed.public_key().raw;
        let key = PublicKey::from_spki(spki).context(Kind::Unauthorised, "key type not allowed")?;
        let record = registry.entry(spki).map_err(|why| match why {
            NoEntry::Revoked => Error::new(Kind::Unauthorised, REVOKED),
            NoEntry::Unknown | NoEntry::Ended => unknown(),
        })?;
        let older = record.keys.iter().rev().filter(|key| key.spki != spki).take(OLDER_KEYS_MAX);
        let keys = std::iter::once(key).chain(older.filter_map(|key| PublicKey::from_spki(&key.spki).ok())).collect();
        let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self { record, keys, not_after: seconds.saturating_mul(1_000_000) })
    }

    /// Whether the recorder signed this, with a key of the connection or with one that it has been given since.
    pub(super) fn has_signed(&self, registry: &Registry, digest: &Digest, signature: &SignatureBytes) -> bool {
        let by = |key: &PublicKey| key.verify(digest, signature).is_ok();
        if self.keys.iter().any(by) {
            return true;
        }
        let Some(record) = registry.by_id(self.record.id) else { return false };
        let newest = record.keys.iter().rev().take(OLDER_KEYS_MAX);
        let mut since = newest.filter(|key| self.record.key(&key.spki).is_none());
        since.any(|key| PublicKey::from_spki(&key.spki).is_ok_and(|key| by(&key)))
    }
}
