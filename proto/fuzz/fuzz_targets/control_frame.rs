//! Control frames and the prefix of link streams: any bytes end in an answer, and a frame that decodes encodes to the same
//! bytes, unless it is of a type that is skipped.
#![no_main]

use aigaq_proto::frame::{Control, decode_link_prefix};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(prefix) = bytes.first_chunk() {
        let _ = decode_link_prefix(*prefix);
    }
    let mut rest = bytes;
    while let Ok(Some((frame, length))) = Control::decode(rest) {
        let (taken, after) = rest.split_at(length);
        if !matches!(frame, Control::Ignorable(_)) {
            assert_eq!(frame.encode().as_deref(), Ok(taken));
        }
        rest = after;
    }
});
