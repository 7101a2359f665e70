//! Cosignatures: what a witness says of a checkpoint (C2SP tlog-cosignature with Ed25519; SPEC.md section 10.1).

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use data_encoding::BASE64;
use signed_note::{Note, Verifier, VerifierList};

use crate::Error;
use crate::limits::CHECKPOINT_BYTES_MAX;

/// The type of a cosigning Ed25519 key in its `vkey` and key id.
pub const KEY_TYPE: u8 = 0x04;
/// Time (8 bytes, big-endian, seconds) and signature.
const COSIGNATURE_BYTES: usize = 8 + 64;

/// Who a witness is: its cosigning key in the `vkey` encoding of C2SP signed-note, with the key type 0x04.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessKey {
    vkey: String,
    name: String,
    id: u32,
    key: [u8; 32],
}

impl WitnessKey {
    /// The key with this name and these 32 bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a name that a note cannot hold.
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, Error> {
        if !signed_note::is_key_name_valid(name) || name.chars().any(char::is_control) {
            return Err(Error::Malformed("witness name"));
        }
        let typed = [&[KEY_TYPE][..], &key].concat();
        let id = signed_note::key_id(name, &typed);
        let vkey = format!("{name}+{id:08x}+{}", BASE64.encode(&typed));
        Ok(Self { vkey, name: name.to_owned(), id, key })
    }

    /// Reads the `vkey` text, such as `w1.example+1a2b3c4d+BA...`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not the `vkey` of an Ed25519 cosigner, [`Error::NotCanonical`] if it is not spelled as
    /// [`WitnessKey::as_str`] spells it, its key id included.
    pub fn parse(vkey: &str) -> Result<Self, Error> {
        let malformed = || Error::Malformed("witness key");
        let (name, rest) = vkey.split_once('+').ok_or_else(malformed)?;
        let (_, typed) = rest.split_once('+').ok_or_else(malformed)?;
        let typed = BASE64.decode(typed.as_bytes()).map_err(|_| malformed())?;
        let key = typed.strip_prefix(&[KEY_TYPE]).and_then(|key| key.try_into().ok()).ok_or_else(malformed)?;
        let read = Self::new(name, key)?;
        if read.vkey == vkey { Ok(read) } else { Err(Error::NotCanonical("witness key")) }
    }

    /// The text that [`WitnessKey::parse`] reads.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.vkey
    }

    /// The name in its signature lines.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id in its signature lines.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// When this witness cosigned the checkpoint, seconds since 1970; `None` if it did not, or not this one. Says nothing of
    /// the log's own signature.
    #[must_use]
    pub fn cosigned_at(&self, checkpoint: &str) -> Option<u64> {
        if checkpoint.len() > CHECKPOINT_BYTES_MAX {
            return None;
        }
        let note = Note::from_bytes(checkpoint.as_bytes()).ok()?;
        let (verified, _) = note.verify(&VerifierList::new(vec![Box::new(self.clone())])).ok()?;
        time(verified.first()?.signature())
    }
}

impl Verifier for WitnessKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], cosignature: &[u8]) -> bool {
        let Some((time, signature)) = time(cosignature).zip(cosignature.get(8..)) else { return false };
        UnparsedPublicKey::new(&ED25519, &self.key).verify(&message(time, text), signature).is_ok()
    }
}

/// How many of these witnesses cosigned the checkpoint; each counts once.
#[must_use]
pub fn count(witnesses: &[WitnessKey], checkpoint: &str) -> usize {
    let counted = |index: usize, key: &WitnessKey| witnesses.iter().take(index).all(|other| other != key);
    let cosigned = |(index, key): &(usize, &WitnessKey)| counted(*index, key) && key.cosigned_at(checkpoint).is_some();
    witnesses.iter().enumerate().filter(cosigned).count()
}

/// What an Ed25519 cosigner signs: the body of the checkpoint with its last newline, after two lines.
#[must_use]
pub fn message(time: u64, body: &[u8]) -> Vec<u8> {
    [format!("cosignature/v1\ntime {time}\n").as_bytes(), body].concat()
}

fn time(cosignature: &[u8]) -> Option<u64> {
    let (time, _) = cosignature.split_first_chunk::<8>()?;
    let time = u64::from_be_bytes(*time);
    (cosignature.len() == COSIGNATURE_BYTES && time > 0 && i64::try_from(time).is_ok()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosignature_of_the_specification_has_its_key_id_and_others_are_refused() {
        let key = WitnessKey::new("w.example/1", [7; 32]).unwrap();
        assert_eq!(WitnessKey::parse(key.as_str()).unwrap(), key);
        let capital = key.as_str().replace(&format!("{:08x}", key.id()), "00000000");
        assert!(WitnessKey::parse(&capital).is_err(), "another key id");
        for name in ["", "a b", "a+b", "a\nb"] {
            assert!(WitnessKey::new(name, [7; 32]).is_err(), "{name:?}");
        }
        let log = "log.aigaq.example+65e8d1f3+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";
        assert!(WitnessKey::parse(log).is_err(), "the key of a log is not that of a cosigner");
    }
}
