//! What was shown when footage came in and is needed to judge it later: certificates and revocation lists, as their very bytes.

use aigaq_proto::Micros;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// The certificates that a recorder showed in a handshake which was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRecord {
    /// Server clock when the leaf was shown for the first time.
    pub first_at: Micros,
    /// DER, the leaf first; never empty.
    pub chain: Vec<ByteBuf>,
}

/// A revocation list of an existing CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationListRecord {
    /// Server clock when it was first loaded.
    pub first_at: Micros,
    /// DER.
    #[serde(with = "serde_bytes")]
    pub der: Vec<u8>,
}
