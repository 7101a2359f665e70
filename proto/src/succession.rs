//! How a log ends openly and another one goes on (SPEC.md section 10.3): what the key of the one says, last of all it signs, of the key of
//! the other.
//!
//! A server that was put back to an older copy has lost entries that its log signed; under the same key it would sign another history.
//! So the log ends with the entries that are left, and its successor begins with them. Whoever trusts the key of the one can trust
//! that of the other by this statement alone.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use signed_note::{Note, StandardVerifier, VerifierList};

use crate::limits::SUCCESSION_BYTES_MAX;
use crate::receipt::LogKey;
use crate::{Digest, Error};

/// The first line of a statement: no origin of a log, so that none passes for a checkpoint.
const TITLE: &str = "aigaq succession v1";

/// What the end of a log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Succession {
    /// The key of the log that ends.
    pub old: LogKey,
    /// How many of its entries go on in its successor: its first ones.
    pub size: u64,
    /// The root of the tree of these.
    pub root: Digest,
    /// The key of the successor.
    pub next: LogKey,
    /// When, RFC 3339, for people.
    pub at: String,
    /// Why, in the words of whoever ended it: one line.
    pub reason: String,
}

impl Succession {
    /// What the key of the log that ends signs. Line breaks of the reason become blanks.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { old, size, root, next, at, reason } = self;
        let reason: Vec<&str> = reason.split_whitespace().collect();
        let (old, next, reason) = (old.as_str(), next.as_str(), reason.join(" "));
        format!("{TITLE}\nends {old}\nentries {size}\nroot {root}\nnext {next}\nat {at}\nreason {reason}\n")
    }

    /// Reads a statement that the log which it names has signed. Whether that log is trusted is for the caller to know.
    ///
    /// # Errors
    /// [`Error::OverLimit`] if it is too long, [`Error::Malformed`] if it is none, [`Error::BadSignature`] if the log that ends did not
    /// sign it.
    pub fn open(note: &str) -> Result<Self, Error> {
        within(note)?;
        let malformed = || Error::Malformed("succession");
        let note = Note::from_bytes(note.as_bytes()).map_err(|_| malformed())?;
        let text = core::str::from_utf8(note.text()).map_err(|_| malformed())?;
        let mut lines = text.lines();
        let mut line = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name)).ok_or_else(malformed)?;
            if name == TITLE { Ok(line) } else { line.strip_prefix(' ').ok_or_else(malformed) }
        };
        if !line(TITLE)?.is_empty() {
            return Err(malformed());
        }
        let statement = Self {
            old: LogKey::parse(line("ends")?)?,
            size: line("entries")?.parse().map_err(|_| malformed())?,
            root: line("root")?.parse()?,
            next: LogKey::parse(line("next")?)?,
            at: line("at")?.to_owned(),
            reason: line("reason")?.to_owned(),
        };
        if statement.text() != text {
            return Err(Error::NotCanonical("succession"));
        }
        let verifier = StandardVerifier::new(statement.old.as_str()).map_err(|_| malformed())?;
        note.verify(&VerifierList::new(vec![Box::new(verifier)])).map_err(|_| Error::BadSignature)?;
        Ok(statement)
    }
}

/// Reads the statements of all ends of a log, oldest first: each ends what the one before began.
///
/// # Errors
/// [`Error::OverLimit`] if they are too long, [`Error::Mismatch`] if one does not follow from the one before, and those of
/// [`Succession::open`].
pub fn read(notes: &str) -> Result<Vec<Succession>, Error> {
    within(notes)?;
    let mut all: Vec<Succession> = Vec::new();
    for note in split(notes) {
        let statement = Succession::open(note)?;
        if let Some(before) = all.last()
            && (before.next != statement.old || before.size > statement.size)
        {
            return Err(Error::Mismatch("log key and succession"));
        }
        all.push(statement);
    }
    Ok(all)
}

/// Where a log leads of which one knows the key `from`: to its newest successor, or to itself where nothing says that it ended.
///
/// # Errors
/// As [`read`].
pub fn follow(notes: &str, from: &LogKey) -> Result<LogKey, Error> {
    let all = read(notes)?;
    let is_known = all.iter().any(|statement| statement.old == *from);
    Ok(all.into_iter().next_back().filter(|_| is_known).map_or_else(|| from.clone(), |newest| newest.next))
}

/// The statements, each from its title on.
fn split(notes: &str) -> Vec<&str> {
    let title = format!("{TITLE}\n");
    let mut parts = Vec::new();
    let mut rest = notes;
    while !rest.is_empty() {
        // A title begins a line; no other line of a statement can be one.
        let next = rest.get(1..).and_then(|after| after.find(&format!("\n{title}")));
        let end = next.map_or(rest.len(), |at| at.saturating_add(2));
        let (part, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        parts.push(part);
        rest = after;
    }
    parts
}

fn within(notes: &str) -> Result<(), Error> {
    if notes.len() <= SUCCESSION_BYTES_MAX {
        return Ok(());
    }
    Err(Error::OverLimit { field: "succession", limit: SUCCESSION_BYTES_MAX as u64, actual: notes.len() as u64 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use signed_note::{Signer as _, StandardSigner};

    fn key(origin: &str, seed: u8) -> (StandardSigner, LogKey) {
        let signing = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = aws_lc_rs::signature::KeyPair::public_key(&signing);
        let id = Digest::of(&[origin.as_bytes(), &[0x0a, 0x01], public.as_ref()].concat());
        let id: String = id.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(&[&[1][..], bytes].concat());
        let private = StandardSigner::new(&format!("PRIVATE+KEY+{origin}+{id}+{}", base64(&[seed; 32]))).unwrap();
        (private, LogKey::parse(&format!("{origin}+{id}+{}", base64(public.as_ref()))).unwrap())
    }

    fn note(statement: &Succession, by: &StandardSigner) -> String {
        let mut note = Note::new(statement.text().as_bytes(), &[]).unwrap();
        note.add_sigs(&[by]).unwrap();
        assert_eq!(by.name(), statement.old.origin());
        String::from_utf8(note.to_bytes()).unwrap()
    }

    fn statement(old: &LogKey, size: u64, next: &LogKey) -> Succession {
        let (old, next) = (old.clone(), next.clone());
        let (at, reason) = ("2026-01-17T09:14:02Z".to_owned(), "the disk died\nat night".to_owned());
        Succession { old, size, root: Digest([7; 32]), next, at, reason }
    }

    #[test]
    fn whoever_knows_a_key_is_led_to_the_newest_and_nobody_else() {
        let ((a, key_a), (b, key_b), (_, key_c)) =
            (key("log.example", 1), key("log.example/2", 2), key("log.example/3", 3));
        let (first, second) = (note(&statement(&key_a, 5, &key_b), &a), note(&statement(&key_b, 9, &key_c), &b));
        let both = format!("{first}{second}");
        assert_eq!(read(&both).unwrap().len(), 2);
        assert_eq!(read(&both).unwrap()[0].reason, "the disk died at night");
        for (from, to) in [(&key_a, &key_c), (&key_b, &key_c), (&key_c, &key_c)] {
            assert_eq!(follow(&both, from).unwrap(), *to);
        }
        let (_, stranger) = key("log.example", 9);
        assert_eq!(follow(&both, &stranger).unwrap(), stranger);
        assert_eq!(follow("", &key_a).unwrap(), key_a);
        assert_eq!(read(&format!("{second}{first}")).unwrap_err(), Error::Mismatch("log key and succession"));
        let back = note(&statement(&key_b, 4, &key_c), &b);
        assert_eq!(read(&format!("{first}{back}")).unwrap_err(), Error::Mismatch("log key and succession"));
    }

    #[test]
    fn a_statement_that_another_key_signed_or_that_was_changed_is_none() {
        let ((a, key_a), (b, key_b)) = (key("log.example", 1), key("log.example", 2));
        let good = note(&statement(&key_a, 5, &key_b), &a);
        Succession::open(&good).unwrap();
        let forged = note(&statement(&key_a, 5, &key_b), &b);
        assert_eq!(Succession::open(&forged).unwrap_err(), Error::BadSignature);
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1;
            let Ok(bad) = String::from_utf8(bad) else { continue };
            assert!(Succession::open(&bad).is_err(), "byte {at}");
        }
        assert!(read(&format!("{good}x")).is_err());
        assert!(read(&"x".repeat(SUCCESSION_BYTES_MAX + 1)).is_err());
    }
}
