//! The draw of who is checked: nobody chose it, and anybody who may see it can do it again.
//!
//! Whoever draws commits to a roster and to the digest of a seed; the log takes the commitment in, and only then is the seed shown. What is
//! drawn depends on seed, roster and the root of the first tree of the log that has the commitment: whoever knows the seed does not know
//! the root when they commit, and cannot change either afterwards. A commitment whose seed is never shown stays, as one that was not.
//!
//! ```text
//! roster digest = SHA-256(name LF name LF …), sorted by their UTF-8 bytes, each once
//! key           = SHA-256("aigaq/draw/1" LF | seed 32 | roster digest 32 | root 32)
//! block(n)      = first 8 bytes of SHA-256(key | n 8, big-endian), as a big-endian number; n = 0, 1, …
//! below(m)      = the next block that is less than the greatest multiple of m up to 2^64, modulo m
//! draw          = for i = 0 … count - 1: swap the names in places i and i + below(size - i); the first `count` names
//! ```

use aigaq_proto::Digest;

use crate::error::{Error, Kind, Result};

/// The name of what is written above.
pub const ALGORITHM: &str = "aigaq/draw/1";
/// Most people who can be drawn from.
const ROSTER_MAX: usize = 2_000;
/// Longest name, bytes.
const NAME_BYTES_MAX: usize = 100;

/// A roster, as it is committed to: sorted, each name once.
///
/// # Errors
/// [`Kind::Invalid`] for no names, too many, and names that are empty, too long or have characters that control how a text is shown.
pub fn roster(names: Vec<String>) -> Result<Vec<String>> {
    let is_name = |name: &String| {
        let controls = |c: char| {
            c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.trim() == name && !name.contains(controls)
    };
    if !(1..=ROSTER_MAX).contains(&names.len()) || !names.iter().all(is_name) {
        let text = format!("a roster has 1 to {ROSTER_MAX} names of 1 to {NAME_BYTES_MAX} bytes");
        return Err(Error::new(Kind::Invalid, text));
    }
    let mut sorted = names;
    sorted.sort_unstable();
    let count = sorted.len();
    sorted.dedup();
    if sorted.len() < count {
        return Err(Error::new(Kind::Invalid, "a name is on the roster twice"));
    }
    Ok(sorted)
}

/// The digest of a roster.
#[must_use]
pub fn roster_digest(roster: &[String]) -> Digest {
    let lines: String = roster.iter().flat_map(|name| [name.as_str(), "\n"]).collect();
    Digest::of(lines.as_bytes())
}

/// Numbers that follow from a key.
struct Numbers {
    key: Digest,
    next: u64,
}

impl Numbers {
    /// A number below `most`, each as likely as any other.
    fn below(&mut self, most: u64) -> u64 {
        let all = u128::from(u64::MAX) + 1;
        let fair = all - all % u128::from(most);
        loop {
            let digest = Digest::of(&[&self.key.0[..], &self.next.to_be_bytes()].concat());
            self.next += 1;
            let block = digest.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
            if u128::from(block) < fair {
                return block % most;
            }
        }
    }
}

/// Who is drawn: places in the roster, in the order of the draw; at most everybody.
#[must_use]
pub fn draw(seed: Digest, roster: &[String], root: Digest, count: u32) -> Vec<u32> {
    let said = [format!("{ALGORITHM}\n").as_bytes(), &seed.0, &roster_digest(roster).0, &root.0].concat();
    let mut numbers = Numbers { key: Digest::of(&said), next: 0 };
    let mut places: Vec<u32> = (0..).take(roster.len()).collect();
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(places.len());
    for first in 0..count {
        let other = numbers.below((places.len() - first) as u64);
        places.swap(first, first + usize::try_from(other).unwrap_or(0));
    }
    places.truncate(count);
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: u32) -> Vec<String> {
        roster((0..count).rev().map(|number| format!("badge {number:04}")).collect()).unwrap()
    }

    #[test]
    fn the_same_seed_roster_and_root_draw_the_same_people_and_any_other_others() {
        let roster = names(100);
        let drawn = draw(Digest([1; 32]), &roster, Digest([2; 32]), 10);
        assert_eq!(drawn, draw(Digest([1; 32]), &roster, Digest([2; 32]), 10));
        assert_ne!(drawn, draw(Digest([3; 32]), &roster, Digest([2; 32]), 10));
        assert_ne!(drawn, draw(Digest([1; 32]), &roster, Digest([3; 32]), 10));
        assert_ne!(drawn, draw(Digest([1; 32]), &names(99), Digest([2; 32]), 10));
        let mut all = draw(Digest([1; 32]), &roster, Digest([2; 32]), 1_000);
        assert_eq!(all[..10], drawn, "who is drawn first does not depend on how many are");
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>(), "nobody twice");
    }

    #[test]
    fn the_example_of_the_document_comes_out() {
        let document = include_str!("../../proto/DRAW.md");
        let roster: Vec<String> = (1..=5).map(|number| format!("badge {number}")).collect();
        assert!(document.contains(&roster_digest(&roster).to_string()));
        let drawn = draw(Digest([0; 32]), &roster, Digest([1; 32]), 3);
        let drawn: Vec<String> = drawn.iter().map(|place| format!("`{}`", roster[*place as usize])).collect();
        assert!(document.ends_with(&format!("| drawn | {} |\n", drawn.join(", "))), "{drawn:?}");
    }

    #[test]
    fn everybody_is_drawn_as_often_as_anybody_else() {
        let roster = names(7);
        let mut counts = [0_u32; 7];
        for seed in 0..7_000_u32 {
            let seed = Digest::of(&seed.to_be_bytes());
            for place in draw(seed, &roster, Digest::ZERO, 2) {
                counts[place as usize] += 1;
            }
        }
        // 2,000 expected, standard deviation 38.
        assert!(counts.iter().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_roster_is_the_same_in_whatever_order_it_came() {
        let one = roster(vec!["b".to_owned(), "a".to_owned()]).unwrap();
        let other = roster(vec!["a".to_owned(), "b".to_owned()]).unwrap();
        assert_eq!((&one, roster_digest(&one)), (&other, Digest::of(b"a\nb\n")));
        for wrong in [vec![], vec![""], vec!["a", "a"], vec![" a"], vec!["a\n"]] {
            assert!(roster(wrong.iter().map(|&name| name.to_owned()).collect()).is_err(), "{wrong:?}");
        }
    }
}
