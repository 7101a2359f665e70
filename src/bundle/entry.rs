//! An entry of the audit trail as its bytes say it, so that whoever checks a bundle reads what the log has and not what stands beside
//! it. The form is that of BUNDLE.md, section "Entries of the audit trail".
//!
//! Bytes of strangers: whatever they are, reading them allocates no more than they have.

use aigaq_proto::{Digest, Micros};

/// The version byte of an entry.
const VERSION: u8 = 1;

/// What kinds of entries are called, by their numbers.
pub const EVENTS: [&str; 21] = [
    "look-up",
    "view",
    "request",
    "export",
    "denial",
    "hold",
    "release",
    "deletion",
    "key-destruction",
    "revocation",
    "configuration",
    "account",
    "backup",
    "restore",
    "sign-in",
    "sign-out",
    "class",
    "mark",
    "incident",
    "figures",
    "check",
];

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the trail, from 1 without gaps.
    pub number: u64,
    /// When, clock of the server.
    pub at: Micros,
    /// What kind of thing; none for a kind that came later than this program.
    pub event: Option<&'static str>,
    /// Who.
    pub actor: String,
    /// From where.
    pub source: String,
    /// To what.
    pub object: String,
    /// What.
    pub action: String,
    /// Why.
    pub reason: String,
    /// SHA-256 of what it speaks of, where that is a whole.
    pub content: Option<Digest>,
    /// What came of it.
    pub outcome: String,
}

impl Entry {
    /// Reads exactly one entry; none for anything else.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        if rest.byte()? != VERSION {
            return None;
        }
        let (number, at, event) = (rest.number()?, rest.number()?, rest.number()?);
        let event = usize::try_from(event).ok().and_then(|event| EVENTS.get(event).copied());
        let [actor, source, object] = [rest.text()?, rest.text()?, rest.text()?];
        let [action, reason] = [rest.text()?, rest.text()?];
        let content = match rest.byte()? {
            0 => None,
            1 => Some(Digest(rest.take(32)?.try_into().ok()?)),
            _ => return None,
        };
        let outcome = rest.text()?;
        let entry = Self { number, at, event, actor, source, object, action, reason, content, outcome };
        rest.0.is_empty().then_some(entry)
    }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// A varint: 7 bits a byte, least significant first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_from_its_bytes_and_from_no_others() {
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        let words = ["account:anna", "::1", "it", "GET /", "court"].map(text).concat();
        let bytes = [&[1, 3, 0xac, 2, 1][..], &words, &[0], &text("granted")].concat();
        let entry = Entry::read(&bytes).unwrap();
        assert_eq!((entry.number, entry.at, entry.event), (3, 300, Some("view")));
        assert_eq!((&*entry.actor, &*entry.reason, &*entry.outcome), ("account:anna", "court", "granted"));
        for length in 0..bytes.len() {
            assert_eq!(Entry::read(&bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(Entry::read(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(Entry::read(&[&[2], &bytes[1..]].concat()), None, "another version");
        assert_eq!(
            Entry::read(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            None,
            "too large a number"
        );
    }
}
