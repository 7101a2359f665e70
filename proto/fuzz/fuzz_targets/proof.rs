//! Inclusion proofs for trees of any size: the check ends in an answer, and agrees with RFC 9162 section 2.1.3.2 written down
//! a second time. The first 16 bytes are index and tree size, the rest are hashes.
#![no_main]

use aigaq_proto::Digest;
use aigaq_proto::receipt::{ENTRY_BYTES, verify_inclusion};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((head, hashes)) = bytes.split_first_chunk::<16>() else { return };
    let (index, size) = head.split_at(8);
    let index = u64::from_be_bytes(index.try_into().expect("8 bytes"));
    let size = u64::from_be_bytes(size.try_into().expect("8 bytes"));
    let proof: Vec<Digest> = hashes.as_chunks::<32>().0.iter().copied().map(Digest).collect();
    let entry = [7; ENTRY_BYTES];
    let root = run(index, size, &proof);
    assert!(verify_inclusion(&entry, index, &proof, size, &Digest::ZERO).is_err());
    if let Some(root) = root.filter(|_| proof.len() <= 64) {
        assert_eq!(verify_inclusion(&entry, index, &proof, size, &root), Ok(()));
    } else {
        assert!(verify_inclusion(&entry, index, &proof, size, &Digest::of(b"root")).is_err());
    }
});

/// The root that the proof leads to, if it has the right length.
fn run(index: u64, size: u64, proof: &[Digest]) -> Option<Digest> {
    let node = |left: &Digest, right: &Digest| Digest::of(&[&[1], &left.0[..], &right.0[..]].concat());
    let (mut place, mut last) = (index, size.checked_sub(1).filter(|last| index <= *last)?);
    let mut hash = Digest::of(&[&[0], &[7; ENTRY_BYTES][..]].concat());
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if place % 2 == 1 || place == last {
            hash = node(sibling, &hash);
            while place % 2 == 0 && place != 0 {
                place /= 2;
                last /= 2;
            }
        } else {
            hash = node(&hash, sibling);
        }
        place /= 2;
        last /= 2;
    }
    (last == 0).then_some(hash)
}
