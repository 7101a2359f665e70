//! Key vectors: how a recorder id follows from a key, and signatures of both kinds.

use aigaq_proto::signature::{PublicKey, SigningKey};
use aigaq_proto::{Digest, RecorderId};
use serde_json::{Value, json};

use super::{hex, unhex};

/// The private key of the recorder in all vectors: 0, 1, 2 … 31. PKCS #8 is these 16 bytes, then the seed (RFC 8410).
pub fn pkcs8() -> Vec<u8> {
    let mut der = unhex("302e020100300506032b657004220420");
    der.extend(0..32);
    der
}

/// The recorder of all vectors.
pub fn signing_key() -> SigningKey {
    SigningKey::from_pkcs8(&pkcs8()).unwrap()
}

/// Its identity.
pub fn recorder() -> RecorderId {
    signing_key().public_key().unwrap().recorder_id()
}

/// The P-256 key of RFC 6979 section A.2.5, and its deterministic signature of [`p256_digest`].
const P256_SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d0301070342000460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
const P256_SIGNATURE: &str = "8d05095c123178b6e7e606e46596062aef931db381ae2c49b60e4922fa65b639489934dec54906a6c57dd0b2a5b98236dccf84e310d010ff96f7052cbc5189c7";

/// What the P-256 signature signs: the digest of a link header of five bytes, for the sake of a short vector.
pub fn p256_digest() -> Digest {
    aigaq_proto::link::digest(b"aigaq")
}

/// The P-256 key and signature.
pub fn p256() -> (PublicKey, [u8; 64]) {
    (PublicKey::from_spki(&unhex(P256_SPKI)).unwrap(), unhex(P256_SIGNATURE).try_into().unwrap())
}

/// The content of `keys.json`.
pub fn vectors() -> Value {
    let key = signing_key();
    let public = key.public_key().unwrap();
    let digest = p256_digest();
    let (p256, p256_signature) = p256();
    json!({
        "about": "SPEC.md sections 3 and 4.2. The digest is the link digest of header_bytes.",
        "header_bytes": hex(b"aigaq"),
        "digest": digest.to_string(),
        "ed25519": {
            "seed": hex(&pkcs8()[16..]),
            "pkcs8": hex(&pkcs8()),
            "spki": hex(&public.to_spki()),
            "recorder": public.recorder_id().to_string(),
            "signature": hex(&key.sign(&digest).unwrap()),
        },
        "p256": {
            "spki": hex(&p256.to_spki()),
            "recorder": p256.recorder_id().to_string(),
            "signature": hex(&p256_signature),
        },
    })
}
