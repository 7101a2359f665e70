//! Chain steps: any arrivals leave a chain whose runs are in order and apart, whose known and missing sequences fill the
//! line, and which is what the same links give in the order of their sequences.
#![no_main]

use aigaq_proto::Digest;
use aigaq_proto::chain::{Chain, Joint, Step};
use libfuzzer_sys::fuzz_target;

/// Two bytes an arrival: a sequence below 128 or, with the top bit, far away; whether it agrees with its neighbours.
fn joint(sequence: u8, name: u8) -> Joint {
    let far = |n: u8| if n < 128 { u64::from(n) } else { u64::MAX - u64::from(255 - n) * 99_991 };
    let digest = |n: u64, name: u8| Digest::of(&[&n.to_be_bytes()[..], &[name & 1]].concat());
    let sequence = far(sequence);
    let previous = sequence.checked_sub(1).map_or(Digest::ZERO, |before| digest(before, name >> 1));
    Joint { sequence, previous, digest: digest(sequence, name) }
}

fuzz_target!(|bytes: &[u8]| {
    let mut chain = Chain::default();
    let mut taken = Vec::new();
    for [sequence, name] in bytes.as_chunks::<2>().0 {
        let joint = joint(*sequence, *name);
        if chain.admit(&joint) == Step::New {
            assert_eq!(chain.step(joint.sequence), Step::New);
            chain.insert(joint);
            taken.push(joint);
        }
        let _ = chain.step(joint.sequence);
    }
    taken.sort_by_key(|joint| joint.sequence);
    let mut again = Chain::default();
    taken.iter().for_each(|joint| again.insert(*joint));
    assert_eq!(chain, again);
    let mut next = 0;
    let (known, gaps) = (chain.known(), chain.gaps());
    let mut parts: Vec<_> = known.iter().chain(&gaps).collect();
    parts.sort_by_key(|range| range.first);
    for range in parts {
        assert_eq!(range.first, next);
        assert!(range.first <= range.last);
        next = range.last + 1;
    }
    assert_eq!(chain.newest().map(|end| end.sequence + 1).unwrap_or(0), next);
    assert!(chain.breaks().len() < chain.runs().len().max(1));
});
