//! How bytes and identifiers stand in JSON: base64 (RFC 4648 section 4, with padding) and lower-case hexadecimal.

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

/// Hashes of an inclusion proof, each as base64.
pub mod hashes {
    use aigaq_proto::Digest;
    use data_encoding::BASE64;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(missing_docs, reason = "serde asks for these two")]
    pub fn serialize<S: Serializer>(hashes: &[Digest], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(hashes.iter().map(|hash| BASE64.encode(&hash.0)))
    }

    #[expect(missing_docs, reason = "serde asks for these two")]
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Digest>, D::Error> {
        let read = |text: String| {
            let bytes = BASE64.decode(text.as_bytes()).ok()?;
            bytes.try_into().ok().map(Digest)
        };
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.into_iter().map(|text| read(text).ok_or_else(|| D::Error::custom("no hash"))).collect()
    }
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
