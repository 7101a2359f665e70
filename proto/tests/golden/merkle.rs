//! RFC 6962 section 2.1 written down as it stands there, with nothing shared with the crate: the other opinion on trees
//! and proofs.

use sha2::{Digest as _, Sha256};

pub type Hash = [u8; 32];

/// Hash of a leaf: SHA-256(0x00 ‖ entry).
pub fn leaf(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// Hash of a node: SHA-256(0x01 ‖ left ‖ right).
pub fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

fn split(leaves: usize) -> usize {
    let mut k = 1;
    while k * 2 < leaves {
        k *= 2;
    }
    k
}

/// Merkle tree hash of the leaves (section 2.1).
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(split(more.len()));
            node(&root(left), &root(right))
        }
    }
}

/// Audit path of the leaf at `index` (section 2.1.1), leaf side first.
pub fn path(leaves: &[Hash], index: usize) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut proof, sibling) =
        if index < k { (path(left, index), root(right)) } else { (path(right, index - k), root(left)) };
    proof.push(sibling);
    proof
}

/// The check of an audit path as RFC 9162 section 2.1.3.2 has it, step by step; SPEC.md section 10 says the same.
pub fn verify(index: u64, size: u64, leaf: Hash, proof: &[Hash], root: Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node_index, mut last_index) = (index, size - 1);
    let mut hash = leaf;
    for sibling in proof {
        if last_index == 0 {
            return false;
        }
        if node_index % 2 == 1 || node_index == last_index {
            hash = node(sibling, &hash);
            while node_index % 2 == 0 && node_index != 0 {
                node_index /= 2;
                last_index /= 2;
            }
        } else {
            hash = node(&hash, sibling);
        }
        node_index /= 2;
        last_index /= 2;
    }
    last_index == 0 && hash == root
}
