//! The keys of rows in the ledger: families and the places of bodies share one ordered space.
//!
//! ```text
//! name of the family · 0x00 · key of the row
//! ```
//!
//! No name has a zero byte, so no family's rows lie among those of another; a family that comes or goes changes no other.

use std::ops::Range;

use crate::store::engine::Family;
use crate::store::keys;
use crate::store::records::FootageKey;

/// Where bodies lie; no [`Family`] is called that.
const FOOTAGE: &str = "footage";

/// The row of `key` in a family.
pub(super) fn of(family: Family, key: &[u8]) -> Vec<u8> {
    named(family.name(), key)
}

/// The row that says where a body lies.
pub(super) fn footage(key: FootageKey) -> Vec<u8> {
    named(FOOTAGE, &keys::footage(key))
}

/// The rows of the bodies from this one on.
pub(super) fn footage_from(key: FootageKey) -> Range<Vec<u8>> {
    footage(key)..every_body().end
}

/// The rows of all bodies.
pub(super) fn every_body() -> Range<Vec<u8>> {
    let all = keys::everything();
    named(FOOTAGE, &all.start)..named(FOOTAGE, &all.end)
}

/// The key within its family.
pub(super) fn without_name(row: &[u8]) -> &[u8] {
    let end = row.iter().position(|byte| *byte == 0).map_or(row.len(), |at| at + 1);
    row.get(end..).unwrap_or_default()
}

fn named(name: &str, key: &[u8]) -> Vec<u8> {
    [name.as_bytes(), &[0], key].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_of_a_family_lies_among_those_of_another() {
        let names = || Family::ALL.iter().map(|family| family.name()).chain([FOOTAGE]);
        for (at, one) in names().enumerate() {
            let all = named(one, &[])..named(one, &[u8::MAX; 64]);
            assert!(!one.as_bytes().contains(&0));
            for (_, other) in names().enumerate().filter(|(of, _)| *of != at) {
                assert_ne!(one, other);
                assert!(!all.contains(&named(other, &[])) && !all.contains(&named(other, b"key")), "{one} {other}");
            }
        }
        assert_eq!(without_name(&of(Family::Links, &[0, 1, 0])), [0, 1, 0]);
    }
}
