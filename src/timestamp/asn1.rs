//! The types of RFC 3161: the question, the answer around a token and what a token says. DER, read with the crate `der`.

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Encode as _, Reader as _, Sequence, SliceReader, Tag, TagNumber, Tagged as _};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// SHA-256 (RFC 5754).
pub(super) const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// A digest algorithm. Parameters are NULL or absent.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub(super) struct Algorithm<'a> {
    pub(super) oid: ObjectIdentifier,
    #[asn1(optional = "true")]
    pub(super) parameters: Option<AnyRef<'a>>,
}

/// What is stamped, as its digest.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
struct Imprint<'a> {
    algorithm: Algorithm<'a>,
    digest: OctetStringRef<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
struct Request<'a> {
    version: u8,
    imprint: Imprint<'a>,
    nonce: u64,
    certificates: bool,
}

/// A `TimeStampReq` that asks for the certificate.
pub(super) fn request(sha256: &[u8; 32], nonce: u64) -> der::Result<Vec<u8>> {
    let imprint = Imprint {
        algorithm: Algorithm { oid: SHA256, parameters: Some(AnyRef::NULL) },
        digest: OctetStringRef::new(sha256)?,
    };
    Request { version: 1, imprint, nonce, certificates: true }.to_der()
}

/// Status and token (DER `ContentInfo`) of a `TimeStampResp`.
pub(super) fn response(der: &[u8]) -> der::Result<(u8, Option<Vec<u8>>)> {
    let mut reader = SliceReader::new(der)?;
    let read = reader.sequence(|response| {
        // The texts that may follow the status are for people and come from nobody yet.
        let status = response.sequence(|info| {
            let status: u8 = info.decode()?;
            while !info.is_finished() {
                info.decode::<AnyRef<'_>>()?;
            }
            Ok(status)
        })?;
        let token: Option<AnyRef<'_>> = response.decode()?;
        Ok((status, token.map(|token| token.to_der()).transpose()?))
    })?;
    reader.finish(read)
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    /// The digest of what is stamped, with its algorithm.
    pub(super) algorithm: ObjectIdentifier,
    pub(super) imprint: Vec<u8>,
    /// When, microseconds since the Unix epoch.
    pub(super) at: u64,
    /// The content of the INTEGER.
    pub(super) nonce: Option<Vec<u8>>,
}

impl Info {
    /// Reads a `TSTInfo`.
    ///
    /// # Errors
    /// If it is none, or has an extension that must be understood.
    pub(super) fn from_der(der: &[u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let info = reader.sequence(|info| {
            let _version: u8 = info.decode()?;
            let _policy: ObjectIdentifier = info.decode()?;
            let imprint: Imprint<'_> = info.decode()?;
            let _serial = tagged(info.decode()?, Tag::Integer)?;
            let time = tagged(info.decode()?, Tag::GeneralizedTime)?;
            let mut nonce = None;
            while !info.is_finished() {
                let member: AnyRef<'_> = info.decode()?;
                match member.tag() {
                    Tag::Integer => nonce = Some(member.value().to_vec()),
                    // Accuracy, order, and who the authority says that it is: nothing rests on them.
                    Tag::Sequence | Tag::Boolean => {}
                    Tag::ContextSpecific { number: TagNumber::N0, .. } => {}
                    Tag::ContextSpecific { number: TagNumber::N1, .. } => none_critical(member.value())?,
                    other => return Err(other.value_error()),
                }
            }
            Ok(Self {
                algorithm: imprint.algorithm.oid,
                imprint: imprint.digest.as_bytes().to_vec(),
                at: time_of(time.value()).ok_or_else(|| Tag::GeneralizedTime.value_error())?,
                nonce,
            })
        })?;
        reader.finish(info)
    }
}

fn tagged(any: AnyRef<'_>, tag: Tag) -> der::Result<AnyRef<'_>> {
    if any.tag() == tag { Ok(any) } else { Err(any.tag().unexpected_error(Some(tag))) }
}

#[derive(Sequence)]
struct Extension<'a> {
    id: ObjectIdentifier,
    #[asn1(default = "Default::default")]
    critical: bool,
    value: OctetStringRef<'a>,
}

fn none_critical(extensions: &[u8]) -> der::Result<()> {
    let mut reader = SliceReader::new(extensions)?;
    while !reader.is_finished() {
        let extension: Extension<'_> = reader.decode()?;
        if extension.critical {
            return Err(Tag::Sequence.value_error());
        }
    }
    Ok(())
}

/// `YYYYMMDDhhmmss[.f…]Z`, as RFC 3161 has it, to microseconds since the Unix epoch.
fn time_of(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || fraction.is_empty() || fraction.len() > 9 || !digits(fraction) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| whole.get(range)?.parse::<i8>().ok();
    let year = whole.get(0..4)?.parse::<i16>().ok()?;
    let nanoseconds = format!("{fraction:0<9}").parse::<i32>().ok()?;
    let (hour, minute, second) = (part(8..10)?, part(10..12)?, part(12..14)?);
    let time = DateTime::new(year, part(4..6)?, part(6..8)?, hour, minute, second, nanoseconds).ok()?;
    u64::try_from(TimeZone::UTC.to_timestamp(time).ok()?.as_microsecond()).ok()
}

/// The digests of the signer's certificate in a `SigningCertificateV2` (RFC 5035) or, with SHA-1, a `SigningCertificate` (RFC 2634):
/// algorithm and digest of the first, which is the signer's.
pub(super) fn signing_certificate(der: &[u8], sha1: ObjectIdentifier) -> der::Result<(ObjectIdentifier, Vec<u8>)> {
    let mut reader = SliceReader::new(der)?;
    reader.sequence(|signing| {
        let certificates: AnyRef<'_> = signing.decode()?;
        while !signing.is_finished() {
            signing.decode::<AnyRef<'_>>()?;
        }
        let mut list = SliceReader::new(tagged(certificates, Tag::Sequence)?.value())?;
        list.sequence(|first| {
            let mut algorithm = sha1;
            let mut member: AnyRef<'_> = first.decode()?;
            if member.tag() == Tag::Sequence {
                algorithm = Algorithm::from_der(&member.to_der()?)?.oid;
                member = first.decode()?;
            }
            while !first.is_finished() {
                first.decode::<AnyRef<'_>>()?;
            }
            Ok((algorithm, tagged(member, Tag::OctetString)?.value().to_vec()))
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_have_fractions_and_nothing_else() {
        assert_eq!(time_of(b"20260117091400Z"), Some(1_768_641_240_000_000));
        assert_eq!(time_of(b"20260117091400.5Z"), Some(1_768_641_240_500_000));
        assert_eq!(time_of(b"20260117091400.0005009Z"), Some(1_768_641_240_000_500));
        for text in
            ["", "Z", "20260117091400", "20260117091400.Z", "20261317091400Z", "2026011709140Z", "20260117091400+05"]
        {
            assert_eq!(time_of(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_question_is_the_der_of_rfc_3161() {
        let der = request(&[7; 32], 0x8000_0000_0000_0001).unwrap();
        let begins = [0x30, 0x44, 2, 1, 1, 0x30, 0x31, 0x30, 0x0d, 6, 9];
        assert_eq!(der.get(..begins.len()), Some(&begins[..]));
        let ends = [2, 9, 0, 0x80, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0xff];
        assert_eq!(der.get(der.len() - ends.len()..), Some(&ends[..]));
    }
}
