//! Log keys and checkpoints: any text ends in an answer. The first line of the input is read as a key, the rest as a checkpoint
//! of the log of the vectors.
#![no_main]

use aigaq_proto::receipt::LogKey;
use libfuzzer_sys::fuzz_target;

const LOG_KEY: &str = "log.aigaq.example+65e8d1f3+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";

fuzz_target!(|text: &str| {
    let (first, rest) = text.split_once('\n').unwrap_or((text, text));
    if let Ok(key) = LogKey::parse(first) {
        assert_eq!(LogKey::parse(key.as_str()).as_ref(), Ok(&key));
        assert!(!key.origin().is_empty());
        let _ = key.open(rest);
    }
    let log = LogKey::parse(LOG_KEY).expect("the key of the vectors");
    let _ = log.open(rest);
    let _ = log.open(text);
});
