//! Writes the golden vectors as seeds for the fuzz targets, to `proto/fuzz/corpus/`:
//! `cargo run --release -p aigaq-proto --example seeds`.

#[path = "../tests/golden/mod.rs"]
mod golden;

use std::path::{Path, PathBuf};

use aigaq_proto::frame::Control;
use golden::{chains, frames, keys, links, receipts, refused};

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (_, header, _) in links::links() {
        seeds.push(("link_header", header.encode().unwrap_or_default()));
    }
    for (_, frame) in frames::frames() {
        seeds.push(("control_frame", frame.encode().unwrap_or_default()));
    }
    let believable = receipts::receipts().into_iter();
    for receipt in believable.chain(receipts::unbelievable().into_iter().map(|(_, receipt)| receipt)) {
        seeds.push(("checkpoint", format!("{}\n{}", receipts::log_key().as_str(), receipt.checkpoint).into_bytes()));
        let mut proof = [receipt.log_index.to_be_bytes(), 5u64.to_be_bytes()].concat();
        proof.extend(receipt.proof.iter().flat_map(|hash| hash.0));
        seeds.push(("proof", proof));
        seeds.push(("receipt", Control::Receipt(receipt).encode().unwrap_or_default().split_off(5)));
    }
    for arrivals in chains::small() {
        seeds.push(("chain", arrivals));
    }
    if let Ok(key) = keys::signing_key().public_key() {
        seeds.push(("spki", key.to_spki()));
    }
    seeds.push(("spki", keys::p256().0.to_spki()));
    seeds.push(("spki", keys::pkcs8()));
    for (decoder, _, bytes) in refused::cases() {
        match decoder {
            "link header" => seeds.push(("link_header", bytes)),
            "control frame" | "link prefix" => seeds.push(("control_frame", bytes)),
            "spki" => seeds.push(("spki", bytes)),
            _ => seeds.push(("checkpoint", bytes)),
        }
    }
    seeds
}

fn main() -> std::io::Result<()> {
    let corpus: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join("corpus");
    for (number, (target, bytes)) in seeds().into_iter().enumerate() {
        let dir = corpus.join(target);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(format!("seed-{number:03}")), bytes)?;
    }
    println!("{}", corpus.display());
    Ok(())
}
