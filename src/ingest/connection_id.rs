//! Connection ids: eight bytes, of which five are chance and three prove that this server made them.
//!
//! The proof is keyed with a secret that survives restarts, so that a restarted server knows the ids of its former self and can
//! reset such connections at once (RFC 9000 section 10.3), and answers nothing to ids that are not its own. quinn's own keyed
//! generator has three bytes of chance; the id that a Retry gives away is drawn without a look at those in use, so that
//! among the 50,000 ids of 10,000 recorders every three-hundredth connection would meet one and hang.

use aws_lc_rs::{hmac, rand};
use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

/// Length of an id, bytes.
const LENGTH: usize = 8;
/// Of these, the ones that are chance.
const CHANCE: usize = 5;

/// Makes ids and recognises them.
#[derive(Debug, Clone)]
pub(super) struct ConnectionIds {
    key: hmac::Key,
}

impl ConnectionIds {
    /// A generator whose ids every other with the same key recognises.
    pub(super) fn new(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The id that begins like `id`.
    fn complete(&self, mut id: [u8; LENGTH]) -> [u8; LENGTH] {
        let (chance, proof) = id.split_at_mut(CHANCE);
        let tag = hmac::sign(&self.key, chance);
        proof.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        id
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; LENGTH];
        // Without random bytes ids repeat, and connections fail to come about: visible, and never unsafe.
        let _ = rand::fill(&mut id);
        ConnectionId::new(&self.complete(id))
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let id: [u8; LENGTH] = (**id).try_into().map_err(|_| InvalidCid)?;
        if self.complete(id) == id { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_known_to_whoever_has_the_key() {
        let id = ConnectionIds::new(b"one").generate_cid();
        assert!(ConnectionIds::new(b"one").validate(&id).is_ok());
        assert!(ConnectionIds::new(b"another").validate(&id).is_err());
        assert!(ConnectionIds::new(b"one").validate(&ConnectionId::new(&id[..7])).is_err());
    }

    #[test]
    fn ids_do_not_meet_among_as_many_as_ten_thousand_recorders_use() {
        let mut ids = ConnectionIds::new(b"one");
        let drawn: HashSet<ConnectionId> = (0..50_000).map(|_| ids.generate_cid()).collect();
        assert_eq!(drawn.len(), 50_000);
    }
}
