//! Public keys: any bytes end in an answer, what is a key is written as it was read, and a signature of zeros is never good.
#![no_main]

use aigaq_proto::signature::{PublicKey, SigningKey};
use aigaq_proto::{Digest, RecorderId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    let _ = SigningKey::from_pkcs8(der);
    if let Ok(key) = PublicKey::from_spki(der) {
        assert_eq!(key.to_spki(), der);
        assert_eq!(key.recorder_id(), RecorderId::of_spki(der));
        let _ = key.verify(&Digest::of(der), &[1; 64]);
    }
});
