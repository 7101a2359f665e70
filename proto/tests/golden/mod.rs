//! What the golden vectors say, built from the code: the example `vectors` writes it to `proto/vectors/`, the test of the
//! same name compares it with what is there. The same bytes on every run and every machine.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

pub mod chains;
pub mod frames;
pub mod keys;
pub mod links;
pub mod merkle;
pub mod receipts;
pub mod refused;
pub mod succession;

/// The file of each set of vectors, with what belongs in it.
pub fn files() -> Vec<(&'static str, Value)> {
    vec![
        ("keys.json", keys::vectors()),
        ("links.json", links::vectors()),
        ("frames.json", frames::vectors()),
        ("refused.json", refused::vectors()),
        ("chains.json", chains::vectors()),
        ("receipts.json", receipts::vectors()),
        ("succession.json", succession::vectors()),
    ]
}

/// Where the vectors are.
pub fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The bytes of lower-case hexadecimal.
pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd number of digits: {text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
