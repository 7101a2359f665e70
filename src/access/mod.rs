//! Who may see what: who somebody is, which roles they have where, and what a role allows.
//!
//! Promises: what nobody granted is not allowed; a secret is kept as its digest, compared without a hint of where it differs,
//! and never logged. This room decides; that nothing is shown without its decision, the look-ups see to.

mod rights;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use aigaq_proto::Digest;

pub use crate::store::records::{Class, Grant, Role};
pub use rights::{Grants, Verb, ceiling};

use crate::error::{Error, Kind, Result};
use crate::store::records::RecorderRecord;

/// Shortest bearer token, characters.
const TOKEN_CHARS_MIN: usize = 16;

/// Somebody who has shown who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As the audit trail names them.
    pub actor: String,
    /// What they were given.
    pub grants: Grants,
}

/// Who is known here. Cheap to clone.
#[derive(Clone, Default)]
pub struct Access {
    /// By the digest of the bearer token: whoever can choose what is looked up cannot choose its digest.
    admitted: Arc<RwLock<HashMap<Digest, Identity>>>,
}

impl Access {
    /// Lets in whoever shows this token, as long as the process runs.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a token of less than 16 characters or with spaces in it.
    pub fn admit(&self, token: &str, actor: &str, grants: Grants) -> Result<()> {
        if token.len() < TOKEN_CHARS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let text = format!("a token needs at least {TOKEN_CHARS_MIN} printable characters without spaces");
            return Err(Error::new(Kind::Invalid, text));
        }
        let identity = Identity { actor: actor.to_owned(), grants };
        let mut admitted = self.admitted.write().unwrap_or_else(PoisonError::into_inner);
        admitted.insert(Digest::of(token.as_bytes()), identity);
        Ok(())
    }

    /// Who has this token.
    #[must_use]
    pub fn identify(&self, token: &str) -> Option<Identity> {
        let admitted = self.admitted.read().unwrap_or_else(PoisonError::into_inner);
        admitted.get(&Digest::of(token.as_bytes())).cloned()
    }

    /// How much the footage of a recorder is kept from eyes.
    #[must_use]
    pub fn class_of(&self, _recorder: &RecorderRecord) -> Class {
        Class::Open
    }
}
