//! Link headers: any bytes end in an answer, and what decodes is the one encoding of what was read.
#![no_main]

use aigaq_proto::LinkHeader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = LinkHeader::decode(bytes) {
        assert_eq!(header.encode().as_deref(), Ok(bytes));
    }
});
