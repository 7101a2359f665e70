//! Makes a bundle of made-up footage and its ZIP beside it, to measure the verifier with or to begin a fuzzer from:
//! `cargo run --release --example bundle -- DIR [SEGMENTS [BYTES_OF_A_SEGMENT [SEGMENTS_OF_A_RECORDING]]]`.

#[path = "../tests/support/bundle.rs"]
mod bundle;

use std::path::Path;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(dir) = arguments.next() else {
        eprintln!("which directory?");
        std::process::exit(2);
    };
    let mut number = |otherwise: u64| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (segments, segment_bytes, recording) = (number(2), number(64), number(1_800));
    let segment_bytes = usize::try_from(segment_bytes).unwrap_or(64);
    let made = bundle::make(Path::new(&dir), &bundle::Wanted { segments, segment_bytes, recording });
    println!("{}", made.zip().display());
}
