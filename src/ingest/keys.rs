//! `DIR/quic.keys`: the secrets behind stateless resets and Retry tokens, kept across restarts.
//!
//! With the same reset key a recorder whose server restarted is told so within a round trip (RFC 9000 section 10.3), where
//! otherwise it would wait for its idle time-out: the reset needs connection ids that the restarted server knows for its own, so
//! their key comes from the same secret. With the same token key a Retry that is under way stays good. Two lines of 64
//! hexadecimal digits, mode 0600, made at first start. A file that is damaged is replaced: nothing durable depends on it.

use std::path::Path;
use std::sync::Arc;

use aigaq_proto::Digest;
use aws_lc_rs::{hkdf, hmac, rand};
use quinn::crypto::{HandshakeTokenKey, HmacKey};

use super::connection_id::ConnectionIds;
use crate::enrol;
use crate::error::{Error, Kind, Result};

const FILE: &str = "quic.keys";
/// Sets the key of connection ids apart from the reset key that it is derived from.
const CONNECTION_IDS: &[u8] = b"aigaq connection ids\n";

/// What the two secrets give.
pub(super) struct Keys {
    pub(super) reset: Arc<dyn HmacKey>,
    pub(super) token: Arc<dyn HandshakeTokenKey>,
    pub(super) connection_ids: ConnectionIds,
}

impl Keys {
    /// The keys of the data directory `data`, made if they are not there.
    pub(super) fn load_or_create(data: &Path) -> Result<Self> {
        let path = data.join(FILE);
        if let Some((reset, token)) = enrol::read(&path)?.as_deref().and_then(parse) {
            return Ok(Self::derive(&reset, &token));
        }
        let (reset, token) = (random()?, random()?);
        enrol::write(&path, format!("{reset}\n{token}\n").as_bytes(), enrol::SECRET)?;
        Ok(Self::derive(&reset, &token))
    }

    fn derive(reset: &Digest, token: &Digest) -> Self {
        Self {
            connection_ids: ConnectionIds::new(&[CONNECTION_IDS, &reset.0].concat()),
            reset: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset.0)),
            token: Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&token.0)),
        }
    }
}

/// 32 bytes each; a digest is only their shape here.
fn parse(text: &str) -> Option<(Digest, Digest)> {
    let (reset, token) = text.trim_end().split_once('\n')?;
    Some((reset.parse().ok()?, token.parse().ok()?))
}

fn random() -> Result<Digest> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| Error::new(Kind::Internal, "the system gives no random bytes"))?;
    Ok(Digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_directory_gives_the_same_keys() {
        let dir = tempfile::tempdir().unwrap();
        let mut tags = [[0; 32]; 2];
        for tag in &mut tags {
            Keys::load_or_create(dir.path()).unwrap().reset.sign(b"a connection id", tag);
        }
        assert_eq!(tags[0], tags[1]);
        std::fs::write(dir.path().join(FILE), "rubbish").unwrap();
        let mut other = [0; 32];
        Keys::load_or_create(dir.path()).unwrap().reset.sign(b"a connection id", &mut other);
        assert_ne!(other, tags[0], "a damaged file is replaced");
    }
}
