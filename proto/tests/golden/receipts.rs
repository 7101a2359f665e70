//! Receipt vectors: a log of five links with its checkpoint and a receipt for each, and receipts that prove nothing.

use aigaq_proto::link::digest;
use aigaq_proto::message::Receipt;
use aigaq_proto::receipt::{LogKey, entry};
use aigaq_proto::{Digest, Micros};
use serde_json::{Value, json};
use signed_note::{Note, StandardSigner, key_id};

use super::{hex, links, merkle};

/// The origin of the log.
pub const ORIGIN: &str = "log.aigaq.example";
/// The private key of the log: 32 bytes of 7.
pub const LOG_SEED: [u8; 32] = [7; 32];

/// Base64 of RFC 4648 section 4, with padding.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().chain([0; 3].iter()).take(3).fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        for place in 0..4 {
            let digit = char::from(DIGITS[(word >> (18 - 6 * place)) as usize & 63]);
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

fn public(seed: &[u8; 32]) -> [u8; 32] {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    Ed25519KeyPair::from_seed_unchecked(seed).unwrap().public_key().as_ref().try_into().unwrap()
}

fn tagged(key: &[u8]) -> Vec<u8> {
    [&[1], key].concat()
}

/// The public key of a log with this origin and private key.
pub fn key_of(origin: &str, seed: &[u8; 32]) -> LogKey {
    let key = tagged(&public(seed));
    LogKey::parse(&format!("{origin}+{:08x}+{}", key_id(origin, &key), base64(&key))).unwrap()
}

/// The log's public key.
pub fn log_key() -> LogKey {
    key_of(ORIGIN, &LOG_SEED)
}

/// A text that a log with this origin and private key has signed.
pub fn signed(origin: &str, seed: [u8; 32], text: &str) -> String {
    let id = key_id(origin, &tagged(&public(&seed)));
    let skey = format!("PRIVATE+KEY+{origin}+{id:08x}+{}", base64(&tagged(&seed)));
    let mut note = Note::new(text.as_bytes(), &[]).unwrap();
    note.add_sigs(&[&StandardSigner::new(&skey).unwrap()]).unwrap();
    String::from_utf8(note.to_bytes()).unwrap()
}

/// The root of the log.
pub fn root() -> merkle::Hash {
    merkle::root(&entries().iter().map(|(digest, at)| merkle::leaf(&entry(digest, *at))).collect::<Vec<_>>())
}

/// A signed checkpoint of this log.
pub fn checkpoint(size: usize, root: &merkle::Hash) -> String {
    checkpoint_of_size(size as u64, root)
}

/// A signed checkpoint of this log, with a tree of any size.
pub fn checkpoint_of_size(size: u64, root: &merkle::Hash) -> String {
    signed(ORIGIN, LOG_SEED, &format!("{ORIGIN}\n{size}\n{}\n", base64(root)))
}

/// Receipts of a log with these entries, all for its newest checkpoint.
pub fn receipts_of(entries: &[(Digest, Micros)]) -> Vec<Receipt> {
    let leaves: Vec<merkle::Hash> = entries.iter().map(|(digest, at)| merkle::leaf(&entry(digest, *at))).collect();
    let checkpoint = checkpoint(leaves.len(), &merkle::root(&leaves));
    (0u64..)
        .zip(entries)
        .map(|(index, (digest, received_at))| Receipt {
            sequence: index,
            digest: *digest,
            received_at: *received_at,
            log_index: index,
            proof: merkle::path(&leaves, index as usize).into_iter().map(Digest).collect(),
            checkpoint: checkpoint.clone(),
        })
        .collect()
}

fn entries() -> Vec<(Digest, Micros)> {
    links::links()
        .into_iter()
        .take(5)
        .map(|(_, header, _)| (digest(&header.encode().unwrap()), header.captured_at + 2_500_000))
        .collect()
}

/// The receipts of the vectors.
pub fn receipts() -> Vec<Receipt> {
    receipts_of(&entries())
}

/// A receipt with its hashes in hexadecimal.
pub fn receipt_json(receipt: &Receipt) -> Value {
    json!({
        "sequence": receipt.sequence,
        "digest": receipt.digest.to_string(),
        "received_at": receipt.received_at,
        "log_index": receipt.log_index,
        "proof": receipt.proof.iter().map(Digest::to_string).collect::<Vec<_>>(),
        "checkpoint": receipt.checkpoint,
    })
}

/// Receipts that must not be believed, with the reason.
pub fn unbelievable() -> Vec<(&'static str, Receipt)> {
    let good = || receipts().swap_remove(1);
    let of_another_log = {
        let other = checkpoint(5, &merkle::root(&[]));
        Receipt { checkpoint: other, ..good() }
    };
    let mut longer = good();
    longer.proof.push(Digest::ZERO);
    let mut shorter = good();
    shorter.proof.pop();
    vec![
        ("the index is another's", Receipt { log_index: 2, ..good() }),
        ("the index is beyond the tree", Receipt { log_index: 5, ..good() }),
        ("the time is another", Receipt { received_at: good().received_at + 1, ..good() }),
        ("the proof has a hash too many", longer),
        ("the proof has a hash too few", shorter),
        ("the root is another's", of_another_log),
        ("the checkpoint is not signed", Receipt { checkpoint: good().checkpoint.replace("— ", ""), ..good() }),
        ("the tree size was changed", Receipt { checkpoint: good().checkpoint.replace("\n5\n", "\n6\n"), ..good() }),
    ]
}

/// The content of `receipts.json`.
pub fn vectors() -> Value {
    let leaves: Vec<merkle::Hash> = entries().iter().map(|(digest, at)| merkle::leaf(&entry(digest, *at))).collect();
    let entries: Vec<Value> = entries()
        .iter()
        .zip(&leaves)
        .map(|((digest, at), leaf)| {
            json!({
                "digest": digest.to_string(),
                "received_at": at,
                "entry": hex(&entry(digest, *at)),
                "leaf_hash": hex(leaf),
            })
        })
        .collect();
    let unbelievable: Vec<Value> = unbelievable()
        .iter()
        .map(|(name, receipt)| json!({ "name": name, "receipt": receipt_json(receipt) }))
        .collect();
    json!({
        "about": "SPEC.md section 10. The log of the first five links in links.json.",
        "log_seed": hex(&LOG_SEED),
        "log_key": log_key().as_str(),
        "entries": entries,
        "root": hex(&merkle::root(&leaves)),
        "receipts": receipts().iter().map(receipt_json).collect::<Vec<_>>(),
        "unbelievable": unbelievable,
    })
}
