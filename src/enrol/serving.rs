//! The server's own certificate while it serves: renewed under the same key when a third of its life is left, without a restart, for
//! every listener that shows it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aigaq_proto::Micros;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::authority::SERVER_LEFT_MIN;
use super::{Authority, ServerIdentity};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::http::Certificate;

/// When it is tried again if it cannot be renewed.
const AGAIN: Micros = 3_600_000_000;

/// A certificate and when it is to be renewed.
pub struct Serving {
    data: PathBuf,
    names: Vec<String>,
    certificate: Arc<Certificate>,
    due: Mutex<Micros>,
}

impl Serving {
    /// The certificate of the server of the data directory `data`, made or renewed if need be. Blocks.
    ///
    /// # Errors
    /// Those of [`Authority::server_identity`].
    pub fn open(authority: &Authority, data: &Path, names: &[String], clock: &Clock) -> Result<Self> {
        let identity = authority.server_identity(data, names, clock)?;
        let due = Mutex::new(due(&identity)?);
        let certificate = Certificate::new(identity.chain, identity.key)?;
        Ok(Self { data: data.to_owned(), names: names.to_vec(), certificate, due })
    }

    /// What listeners show.
    #[must_use]
    pub fn certificate(&self) -> Arc<Certificate> {
        Arc::clone(&self.certificate)
    }

    /// Renews it if it is time. Blocks then, and is free otherwise.
    pub(super) fn renew(&self, authority: &Authority, clock: &Clock) {
        let now = clock.now();
        if now < *self.due.lock().unwrap_or_else(PoisonError::into_inner) {
            return;
        }
        let next = self.try_renew(authority, clock).unwrap_or_else(|error| {
            tracing::error!(%error, "the certificate of the server cannot be renewed");
            now.saturating_add(AGAIN)
        });
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn try_renew(&self, authority: &Authority, clock: &Clock) -> Result<Micros> {
        let identity = authority.server_identity(&self.data, &self.names, clock)?;
        let due = due(&identity)?;
        self.certificate.replace(identity.chain, identity.key)?;
        tracing::info!("the certificate of the server is renewed");
        Ok(due)
    }
}

/// When a third of its life is left.
fn due(identity: &ServerIdentity) -> Result<Micros> {
    let leaf = identity.chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let end = leaf.and_then(|(_, leaf)| u64::try_from(leaf.validity().not_after.timestamp()).ok());
    let end = end.ok_or_else(|| Error::new(Kind::Internal, "the certificate of the server does not read"))?;
    Ok(end.saturating_sub(SERVER_LEFT_MIN.as_secs()).saturating_mul(1_000_000))
}
