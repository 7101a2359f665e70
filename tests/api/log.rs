//! The transparency log as a stranger sees it: without a token, recomputed from RFC 6962 alone.

use sha2::{Digest as _, Sha256};

use crate::rig::Rig;

type Hash = [u8; 32];

fn leaf(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The Merkle tree hash of RFC 6962 section 2.1.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node(&root(left), &root(right))
        }
    }
}

async fn public(rig: &Rig, path: &str) -> Vec<u8> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(format!("http://{}{path}", rig.address)).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.bytes().await.unwrap().to_vec()
}

/// The name of a tile and how many units it has.
fn tiles(units: usize) -> impl Iterator<Item = (String, usize)> {
    (0..units.div_ceil(256)).map(move |number| match (units - number * 256).min(256) {
        256 => (format!("{number:03}"), 256),
        width => (format!("{number:03}.p/{width}"), width),
    })
}

#[tokio::test]
async fn tiles_and_entries_lead_to_the_root_of_the_checkpoint() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    for _ in 0..3 {
        rig.record(&mut device, 173).await;
    }
    let text = String::from_utf8(public(&rig, "/v1/log/checkpoint").await).unwrap();
    let key = String::from_utf8(public(&rig, "/v1/log/key").await).unwrap();
    assert_eq!(key.trim_end(), rig.log.as_str());
    let lines: Vec<&str> = text.lines().collect();
    let size: usize = lines[1].parse().unwrap();
    assert_eq!((lines[0], size), (rig.log.origin(), 3 * 175));
    let (signed_size, signed_root) = rig.log.open(&text).unwrap();
    assert_eq!(signed_size, size as u64);

    let mut leaves = Vec::new();
    for (name, width) in tiles(size) {
        let mut bundle = &public(&rig, &format!("/v1/log/tile/entries/{name}")).await[..];
        let before = leaves.len();
        while let [high, low, rest @ ..] = bundle {
            let (entry, after) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            leaves.push(leaf(entry));
            bundle = after;
        }
        assert_eq!(leaves.len() - before, width);
    }
    assert_eq!(root(&leaves), signed_root.0);

    for (name, _) in tiles(size) {
        let number: usize = name[..3].parse().unwrap();
        let expected: Vec<u8> = leaves.iter().skip(number * 256).take(256).flatten().copied().collect();
        assert_eq!(public(&rig, &format!("/v1/log/tile/0/{name}")).await, expected);
    }
    let above: Vec<u8> = leaves.chunks_exact(256).flat_map(root).collect();
    assert_eq!(public(&rig, "/v1/log/tile/1/000.p/2").await, above);
}

#[tokio::test]
async fn an_empty_log_has_a_checkpoint() {
    let rig = Rig::start().await;
    let text = String::from_utf8(public(&rig, "/v1/log/checkpoint").await).unwrap();
    assert_eq!(rig.log.open(&text).unwrap(), (0, aigaq_proto::Digest::of(b"")));
}

#[tokio::test]
async fn the_log_leaves_no_audit_entry_and_shows_full_tiles_for_ever() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 1).await;
    let response = rig.get("/v1/log/tile/0/000.p/3").await;
    assert!(response.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(rig.get("/v1/log/checkpoint").await.headers()["cache-control"], "no-cache");
    assert!(rig.audit().is_empty());
}

#[tokio::test]
async fn the_proof_of_a_link_leads_to_the_root_without_a_token() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 5).await;
    let text = String::from_utf8(public(&rig, &format!("/v1/log/proof/{}/3", device.id)).await).unwrap();
    let (proof, checkpoint) = text.split_once("\n\n").unwrap();
    let mut lines = proof.lines();
    assert_eq!(lines.next(), Some("c2sp.org/tlog-proof@v1"));
    let index: u64 = lines.next().unwrap().strip_prefix("index ").unwrap().parse().unwrap();
    let hashes: Vec<_> = lines.map(|line| tlog_tiles::Hash::parse_hash(line).unwrap()).collect();
    let (size, root) = rig.log.open(checkpoint).unwrap();
    let entries = public(&rig, &format!("/v1/log/tile/entries/000.p/{size}")).await;
    let entry = &entries[index as usize * 42 + 2..(index as usize + 1) * 42];
    let leaf = tlog_tiles::record_hash(entry);
    tlog_tiles::check_record(&hashes, size, tlog_tiles::Hash(root.0), index, leaf).unwrap();
}
