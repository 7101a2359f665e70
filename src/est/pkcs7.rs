//! "Certs-only" of PKCS #7: certificates and nothing else in the clothes of a signed message (RFC 5652 section 5, RFC 7030 section
//! 4.1.3). Certificates go in and come out as the bytes that they are.

use rustls_pki_types::CertificateDer;
use yasna::models::ObjectIdentifier;
use yasna::{ASN1Error, ASN1ErrorKind, Tag};

use crate::error::{Context as _, Kind, Result};

const DATA: [u64; 7] = [1, 2, 840, 113_549, 1, 7, 1];
const SIGNED_DATA: [u64; 7] = [1, 2, 840, 113_549, 1, 7, 2];
const ZERO: Tag = Tag { tag_class: yasna::TagClass::ContextSpecific, tag_number: 0 };
const ONE: Tag = Tag { tag_class: yasna::TagClass::ContextSpecific, tag_number: 1 };

/// The message with these certificates, DER.
#[must_use]
pub fn encode(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|message| {
            message.next().write_oid(&ObjectIdentifier::from_slice(&SIGNED_DATA));
            message.next().write_tagged(ZERO, |content| {
                content.write_sequence(|signed| {
                    signed.next().write_u8(1);
                    signed.next().write_set(|_| {});
                    signed
                        .next()
                        .write_sequence(|content| content.next().write_oid(&ObjectIdentifier::from_slice(&DATA)));
                    signed.next().write_tagged_implicit(ZERO, |set| {
                        set.write_set_of(|set| {
                            certificates.iter().for_each(|certificate| set.next().write_der(certificate));
                        });
                    });
                    signed.next().write_set(|_| {});
                });
            });
        });
    })
}

/// The certificates of such a message.
///
/// # Errors
/// [`Kind::Invalid`] for anything else.
pub fn decode(message: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let read = yasna::parse_ber(message, |reader| {
        reader.read_sequence(|message| {
            if message.next().read_oid()? != ObjectIdentifier::from_slice(&SIGNED_DATA) {
                return Err(ASN1Error::new(ASN1ErrorKind::Invalid));
            }
            message.next().read_tagged(ZERO, |content| {
                content.read_sequence(|signed| {
                    signed.next().read_u8()?;
                    signed.next().read_der()?;
                    signed.next().read_der()?;
                    let mut certificates = Vec::new();
                    signed.read_optional(|certificates_field| {
                        certificates_field.read_tagged_implicit(ZERO, |set| {
                            set.read_set_of(|certificate| {
                                certificates.push(CertificateDer::from(certificate.read_der()?));
                                Ok(())
                            })
                        })
                    })?;
                    signed.read_optional(|crls| {
                        crls.read_tagged_implicit(ONE, |set| set.read_set_of(|crl| crl.read_der().map(|_| ())))
                    })?;
                    signed.next().read_der()?;
                    Ok(certificates)
                })
            })
        })
    });
    read.context(Kind::Invalid, "not certificates in PKCS #7")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificates(count: usize) -> Vec<CertificateDer<'static>> {
        let make = |index: usize| rcgen::generate_simple_self_signed([format!("{index}.example")]).unwrap();
        (0..count).map(|index| make(index).cert.der().clone()).collect()
    }

    #[test]
    fn certificates_come_out_as_they_went_in() {
        for count in 0..4 {
            let put = certificates(count);
            let message = encode(&put);
            let got = decode(&message).unwrap();
            assert!(got.len() == count && put.iter().all(|certificate| got.contains(certificate)));
            for cut in 0..message.len() {
                assert!(decode(&message[..cut]).is_err(), "cut at {cut}");
            }
        }
        assert!(decode(&[&encode(&certificates(1))[..], &[0]].concat()).is_err());
    }
}
