//! Succession vectors: the log of the receipts ends, another one goes on, and statements that are none.

use aigaq_proto::Digest;
use aigaq_proto::receipt::LogKey;
use aigaq_proto::succession::Succession;
use serde_json::{Value, json};

use super::receipts;

/// The origin of the successor.
pub const ORIGIN: &str = "log.aigaq.example/after-5-00c0ffee";
/// Its private key: 32 bytes of 8.
const SEED: [u8; 32] = [8; 32];

/// The key of the successor.
pub fn next_key() -> LogKey {
    receipts::key_of(ORIGIN, &SEED)
}

/// The statement of the vectors: the log of the receipts ends with the five entries that it has.
pub fn statement() -> Succession {
    let at = "2026-01-18T02:00:00.000000Z".to_owned();
    let (size, root) = (5, Digest(receipts::root()));
    Succession { old: receipts::log_key(), size, root, next: next_key(), at, reason: "the disk died".to_owned() }
}

/// The signed statement.
pub fn notes() -> String {
    receipts::signed(receipts::ORIGIN, receipts::LOG_SEED, &statement().text())
}

/// What is no statement of that log.
pub fn refused() -> Vec<(&'static str, String)> {
    let notes = notes();
    let unsigned = receipts::signed(receipts::ORIGIN, SEED, &statement().text());
    let stranger = receipts::key_of(ORIGIN, &[9; 32]);
    vec![
        ("another key signed it", unsigned),
        ("another size", notes.replace("entries 5", "entries 4")),
        ("another successor", notes.replace(next_key().as_str(), stranger.as_str())),
        ("the same end twice", format!("{notes}{notes}")),
        ("a size that is spelled otherwise", {
            let text = statement().text().replace("entries 5", "entries 05");
            receipts::signed(receipts::ORIGIN, receipts::LOG_SEED, &text)
        }),
    ]
}

/// The file.
pub fn vectors() -> Value {
    let Succession { old, size, root, next, at, reason } = statement();
    let refused = refused().into_iter().map(|(name, notes)| json!({ "name": name, "notes": notes }));
    json!({
        "about": "The log of receipts.json ends with its five entries, and another one goes on (section 10.3). None of `refused` is a statement.",
        "ends": old.as_str(), "entries": size, "root": root.to_string(), "next": next.as_str(), "at": at, "reason": reason,
        "notes": notes(),
        "refused": refused.collect::<Vec<_>>(),
    })
}
