//! Receipts as they come over the wire: decoded, then verified under a key that did not make them. None is believed but for
//! those of the corpus, which this log signed.
#![no_main]

use aigaq_proto::frame::Control;
use aigaq_proto::receipt::{LogKey, verify};
use libfuzzer_sys::fuzz_target;

const LOG_KEY: &str = "log.aigaq.example+65e8d1f3+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";

fuzz_target!(|body: &[u8]| {
    let log = LogKey::parse(LOG_KEY).expect("the key of the vectors");
    let Ok(length) = u32::try_from(body.len()) else { return };
    let frame = [&[0x12], &length.to_be_bytes()[..], body].concat();
    if let Ok(Some((Control::Receipt(receipt), _))) = Control::decode(&frame) {
        let _ = verify(&receipt, &receipt.digest, &log);
    }
});
