//! A walk over a family that goes on behind what cannot be read.
//!
//! A damaged block ends a scan of the engine. Here the first key behind it that reads again is looked for, by seeking: first in
//! steps that double, then in steps that halve. The keys that were passed over are a [`Hole`]; nothing is passed over in silence.

use crate::error::Error;
use crate::store::engine::{Direction, Engine, Entry, Family};
use crate::store::keys;

/// Bytes of a key that are varied where none was read yet; as long as the longest that begins with a recorder and a time.
const KEY_BYTES: usize = 32;
/// More damage than this in one family, and the rest of it is taken for lost.
const HOLES_MAX: usize = 1_000;

/// Keys that could not be read.
#[derive(Debug)]
pub(super) struct Hole {
    /// Of this family.
    pub(super) family: Family,
    /// Behind this key; empty for the beginning.
    pub(super) after: Vec<u8>,
    /// Before this key; none for the end.
    pub(super) before: Option<Vec<u8>>,
}

impl Hole {
    /// Whether keys that begin with `prefix` may lie in it.
    pub(super) fn touches(&self, prefix: &[u8]) -> bool {
        let start = |key: &[u8]| key.get(..prefix.len()).unwrap_or(key).to_vec();
        start(&self.after).as_slice() <= prefix
            && self.before.as_ref().is_none_or(|before| prefix <= start(before).as_slice())
    }
}

/// The entries of a family in order, and its holes with the error that each began with.
pub(super) struct Walk<'a> {
    engine: &'a dyn Engine,
    family: Family,
    entries: Option<Box<dyn Iterator<Item = crate::error::Result<Entry>> + 'a>>,
    last: Vec<u8>,
    holes: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(engine: &'a dyn Engine, family: Family) -> Self {
        let entries = Some(engine.scan(family, keys::everything(), Direction::Forward));
        Self { engine, family, entries, last: Vec::new(), holes: 0 }
    }

    /// Goes on behind the hole that begins behind the last key.
    fn pass(&mut self) -> Hole {
        self.holes += 1;
        let resumed = if self.holes <= HOLES_MAX { self.first_readable() } else { None };
        let mut hole = Hole { family: self.family, after: self.last.clone(), before: None };
        self.entries = resumed.map(|from| {
            hole.before = self.key_from(from.clone());
            self.behind(from)
        });
        hole
    }

    fn behind(&self, from: Vec<u8>) -> Box<dyn Iterator<Item = crate::error::Result<Entry>> + 'a> {
        self.engine.scan(self.family, from..keys::everything().end, Direction::Forward)
    }

    fn key_from(&self, from: Vec<u8>) -> Option<Vec<u8>> {
        self.behind(from).next()?.ok().map(|(key, _)| key.into())
    }

    fn is_readable(&self, from: &[u8]) -> bool {
        self.behind(from.to_vec()).next().is_none_or(|entry| entry.is_ok())
    }

    /// The lowest place behind the last key from which the scan reads again.
    fn first_readable(&self) -> Option<Vec<u8>> {
        let mut unreadable = self.last.clone();
        if unreadable.is_empty() {
            unreadable.resize(KEY_BYTES, 0);
        }
        let bits = unreadable.len() * 8;
        let mut found = None;
        for bit in 0..bits {
            let next = plus(&unreadable, bit)?;
            if self.is_readable(&next) {
                found = Some((next, bit));
                break;
            }
            unreadable = next;
        }
        let (mut readable, bit) = found?;
        for bit in (0..bit).rev() {
            let Some(next) = plus(&unreadable, bit) else { continue };
            if next >= readable {
                continue;
            }
            if self.is_readable(&next) {
                readable = next;
            } else {
                unreadable = next;
            }
        }
        Some(readable)
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry, (Hole, Error)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.entries.as_mut()?.next()? {
            Ok(entry) => {
                self.last = entry.0.to_vec();
                Some(Ok(entry))
            }
            Err(error) => Some(Err((self.pass(), error))),
        }
    }
}

/// The key, taken for a number, plus 2 to the power of `bit`; none beyond the greatest of its length.
fn plus(key: &[u8], bit: usize) -> Option<Vec<u8>> {
    let mut sum = key.to_vec();
    let mut carry = 1_u8 << (bit % 8);
    for byte in sum.iter_mut().rev().skip(bit / 8) {
        let (value, over) = byte.overflowing_add(carry);
        *byte = value;
        if !over {
            return Some(sum);
        }
        carry = 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbers_of_their_length() {
        assert_eq!(plus(&[0, 255], 0), Some(vec![1, 0]));
        assert_eq!(plus(&[0, 1], 9), Some(vec![2, 1]));
        assert_eq!(plus(&[255, 255], 3), None);
    }

    #[test]
    fn a_hole_touches_what_lies_between_its_ends() {
        let hole = Hole { family: Family::Links, after: vec![2, 9], before: Some(vec![4, 0]) };
        assert_eq!([1, 2, 3, 4, 5].map(|prefix| hole.touches(&[prefix])), [false, true, true, true, false]);
        let all = Hole { family: Family::Links, after: Vec::new(), before: None };
        assert!(all.touches(&[0]) && all.touches(&[255]));
    }
}
