//! How bytes and identifiers stand in JSON: base64 (RFC 4648 section 4, with padding) and lower-case hexadecimal.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Bytes as base64.
pub mod base64 {
    use data_encoding::BASE64;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(missing_docs, reason = "serde asks for these two")]
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    #[expect(missing_docs, reason = "serde asks for these two")]
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(|_| D::Error::custom("no base64"))
    }
}

/// The same where there may be none.
pub mod base64_option {
    use serde::{Deserialize, Deserializer};

    #[derive(Deserialize)]
    struct Bytes(#[serde(with = "super::base64")] Vec<u8>);

    #[expect(missing_docs, reason = "serde asks for this one")]
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Bytes>::deserialize(deserializer)?.map(|Bytes(bytes)| bytes))
    }
}

/// Hashes of an inclusion proof, each as base64.
pub mod hashes {
    use aigaq_proto::Digest;
    use aigaq_proto::limits::PROOF_HASHES_MAX;
    use data_encoding::BASE64;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(missing_docs, reason = "serde asks for these two")]
    pub fn serialize<S: Serializer>(hashes: &[Digest], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(hashes.iter().map(|hash| BASE64.encode(&hash.0)))
    }

    /// One of them.
    struct Hash(Digest);

    impl<'de> Deserialize<'de> for Hash {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
            let bytes = BASE64.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
            bytes.map(|bytes| Self(Digest(bytes))).ok_or_else(|| D::Error::custom("no hash"))
        }
    }

    #[expect(missing_docs, reason = "serde asks for these two")]
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Digest>, D::Error> {
        let hashes: Vec<Hash> = super::at_most::<PROOF_HASHES_MAX, _, _>(deserializer)?;
        Ok(hashes.into_iter().map(|Hash(digest)| digest).collect())
    }
}

/// An array of at most `MAX` values, so that a short text never becomes much memory.
///
/// # Errors
/// For more, and for what is no such value.
pub fn at_most<'de, const MAX: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Values<const MAX: usize, T>(PhantomData<T>);
    impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for Values<MAX, T> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "at most {MAX} values")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = seq.next_element()? {
                if values.len() >= MAX {
                    return Err(A::Error::invalid_length(MAX.saturating_add(1), &self));
                }
                values.push(value);
            }
            Ok(values)
        }
    }
    deserializer.deserialize_seq(Values::<MAX, T>(PhantomData))
}

/// What is written by `Display` and read by `FromStr`: digests and identifiers.
pub mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(missing_docs, reason = "serde asks for these two")]
    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    #[expect(missing_docs, reason = "serde asks for these two")]
    pub fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom("not what belongs here"))
    }
}

/// The same where there may be none.
pub mod text_option {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(missing_docs, reason = "serde asks for these two")]
    pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    #[expect(missing_docs, reason = "serde asks for these two")]
    pub fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let read = |text: String| text.parse().map_err(|_| D::Error::custom("not what belongs here"));
        text.map(read).transpose()
    }
}
