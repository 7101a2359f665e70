//! Chain vectors: links in the order of their arrival, what each is, and what is known at the end.

use aigaq_proto::Digest;
use aigaq_proto::chain::{Chain, Joint, Step};
use serde_json::{Value, json};

/// The digest of a made-up link.
pub fn named(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// The link `sequence` of an honest chain.
pub fn honest(sequence: u64) -> Joint {
    let previous = sequence.checked_sub(1).map_or(Digest::ZERO, |before| named(&format!("link {before}")));
    Joint { sequence, previous, digest: named(&format!("link {sequence}")) }
}

/// A link that names a predecessor which is not there.
pub fn stranger(sequence: u64) -> Joint {
    Joint { previous: named("nowhere"), ..honest(sequence) }
}

fn scenarios() -> Vec<(&'static str, Vec<Joint>)> {
    let honest_all = |sequences: &[u64]| sequences.iter().map(|sequence| honest(*sequence)).collect::<Vec<_>>();
    let twice = Joint { digest: named("another link 1"), ..honest(1) };
    vec![
        ("in order", honest_all(&[0, 1, 2, 3])),
        ("backwards", honest_all(&[3, 2, 1, 0])),
        ("a gap", honest_all(&[0, 1, 4, 5])),
        ("the beginning is missing", honest_all(&[7, 8])),
        ("a gap that fills from both sides", honest_all(&[0, 5, 1, 4, 3, 2])),
        ("three islands", honest_all(&[9, 3, 6, 4])),
        ("a repeat", honest_all(&[0, 1, 1, 0])),
        ("a fork", vec![honest(0), honest(1), twice, honest(2)]),
        ("a break", vec![honest(0), honest(1), stranger(2), honest(3)]),
        ("a break found when the gap fills", vec![honest(0), stranger(2), honest(1)]),
        ("a gap and a break", vec![honest(0), honest(3), stranger(4), honest(6)]),
        ("too far ahead", vec![honest(0), honest(1_000_001), honest(1_000_000), honest(2_000_001)]),
    ]
}

/// Runs one scenario: what each arrival was, and the chain.
pub fn run(arrivals: &[Joint]) -> (Vec<Value>, Chain) {
    let mut chain = Chain::default();
    let steps = arrivals
        .iter()
        .map(|joint| match chain.admit(joint) {
            Step::New => {
                chain.insert(*joint);
                json!("new")
            }
            Step::Known => json!("known"),
            Step::TooFar { resend_from } => json!({ "too_far": { "resend_from": resend_from } }),
        })
        .collect();
    (steps, chain)
}

/// The content of `chains.json`.
pub fn vectors() -> Value {
    let scenarios: Vec<Value> = scenarios()
        .into_iter()
        .map(|(name, arrivals)| {
            let (steps, chain) = run(&arrivals);
            let arrivals: Vec<Value> = arrivals
                .iter()
                .zip(steps)
                .map(|(joint, step)| {
                    json!({
                        "sequence": joint.sequence,
                        "previous": joint.previous.to_string(),
                        "digest": joint.digest.to_string(),
                        "is": step,
                    })
                })
                .collect();
            let breaks: Vec<Value> = chain
                .breaks()
                .iter()
                .map(|b| {
                    json!({
                        "sequence": b.sequence,
                        "expected": b.expected.to_string(),
                        "found": b.found.to_string(),
                    })
                })
                .collect();
            json!({
                "name": name,
                "arrivals": arrivals,
                "head": chain.head().map(|end| end.sequence),
                "runs": chain.runs().iter().map(|run| json!([run.first, run.last])).collect::<Vec<_>>(),
                "known": chain.known().iter().map(|range| json!([range.first, range.last])).collect::<Vec<_>>(),
                "gaps": chain.gaps().iter().map(|range| json!([range.first, range.last])).collect::<Vec<_>>(),
                "breaks": breaks,
            })
        })
        .collect();
    let about = "SPEC.md section 4.3. Ranges are [first, last]. A link is known if its sequence is taken: by the very link, which \
                 is a duplicate, or by another digest, which makes it a fork.";
    json!({ "about": about, "scenarios": scenarios })
}

/// The scenarios with sequences below 128 as the fuzz target for chains reads them: two bytes an arrival.
pub fn small() -> Vec<Vec<u8>> {
    let bytes = |joint: &Joint| {
        Some([u8::try_from(joint.sequence).ok()?, if *joint == honest(joint.sequence) { 0 } else { 2 }])
    };
    scenarios().into_iter().map(|(_, arrivals)| arrivals.iter().filter_map(bytes).flatten().collect()).collect()
}
