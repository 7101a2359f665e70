//! The witness's cosigning key, kept in `DIR/witness.key`: two lines in the form of C2SP signed-note, mode 0600, made once
//! and never replaced. The private half never leaves this file and has no `Debug`.

use std::path::Path;

use aigaq_proto::cosignature::{KEY_TYPE, WitnessKey, message};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use data_encoding::BASE64;
use signed_note::Signature;

use crate::enrol;
use crate::error::{Context as _, Error, Kind, Result};

/// Name of the key file.
const FILE: &str = "witness.key";
const SEED_BYTES: usize = 32;

/// The key that cosigns.
pub struct Key {
    pair: Ed25519KeyPair,
    public: WitnessKey,
}

impl Key {
    /// Reads `dir/witness.key`, or makes it for a witness of this name. `dir` must exist and be used by nobody else.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when there is neither key nor name, the file is no such key or of another name; [`Kind::Internal`] when
    /// it cannot be written.
    pub fn load_or_create(dir: &Path, name: Option<&str>) -> Result<Self> {
        let path = dir.join(FILE);
        let text = match enrol::read(&path)? {
            Some(text) => text,
            None => {
                let name = name.ok_or_else(|| Error::new(Kind::Invalid, "a new witness needs a name"))?;
                let mut seed = [0; SEED_BYTES];
                aws_lc_rs::rand::fill(&mut seed).map_err(|_| Error::new(Kind::Internal, "no random bytes"))?;
                let text = Self::of_seed(name, &seed)?.text(&seed);
                enrol::write(&path, text.as_bytes(), enrol::SECRET)?;
                text
            }
        };
        let wrong = || Error::new(Kind::Invalid, format!("{} does not hold the key of a witness", path.display()));
        let key = Self::parse(&text).ok_or_else(wrong)?;
        match name {
            Some(name) if name != key.public.name() => {
                let text = format!("{} is the key of {}, not of {name}", path.display(), key.public.name());
                Err(Error::new(Kind::Invalid, text))
            }
            _ => Ok(key),
        }
    }

    /// The public half: what those who are witnessed configure.
    #[must_use]
    pub fn public(&self) -> &WitnessKey {
        &self.public
    }

    /// The signature line over the body of a checkpoint at `time`, seconds since 1970.
    pub(super) fn cosign(&self, time: u64, body: &[u8]) -> Result<String> {
        let signature = self.pair.sign(&message(time, body));
        let bytes = [&time.to_be_bytes()[..], signature.as_ref()].concat();
        let line = Signature::new(self.public.name().to_owned(), self.public.id(), bytes);
        let line = line.context(Kind::Internal, "the witness's name is none")?;
        String::from_utf8(line.to_bytes()).context(Kind::Internal, "a signature line is not text")
    }

    fn of_seed(name: &str, seed: &[u8]) -> Result<Self> {
        let unusable = |_| Error::new(Kind::Invalid, "the witness's key cannot be used");
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(unusable)?;
        let public = pair.public_key().as_ref().try_into().context(Kind::Internal, "a public key has 32 bytes")?;
        let public =
            WitnessKey::new(name, public).context(Kind::Invalid, format!("{name:?} is no name for a witness"))?;
        Ok(Self { pair, public })
    }

    fn text(&self, seed: &[u8]) -> String {
        let private = BASE64.encode(&[&[KEY_TYPE], seed].concat());
        let public = &self.public;
        format!("PRIVATE+KEY+{}+{:08x}+{private}\n{}\n", public.name(), public.id(), public.as_str())
    }

    fn parse(text: &str) -> Option<Self> {
        let (private, public) = text.trim_end().split_once('\n')?;
        let public = WitnessKey::parse(public).ok()?;
        let private = private.strip_prefix(&format!("PRIVATE+KEY+{}+{:08x}+", public.name(), public.id()))?;
        let typed = BASE64.decode(private.as_bytes()).ok()?;
        let key = Self::of_seed(public.name(), typed.strip_prefix(&[KEY_TYPE])?).ok()?;
        (key.public == public).then_some(key)
    }
}
