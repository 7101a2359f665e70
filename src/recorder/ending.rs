//! What the end of a connection means for the recorder: the tables of SPEC.md section 8.

use std::time::Duration;

use quinn::ConnectionError;

use aigaq_proto::close::Code;

use super::trust::Validity;
use crate::error::{Error, Kind};

/// How long a recorder stays away where trying again sooner would not help.
pub(super) const AWAY: Duration = Duration::from_secs(60);

/// TLS alerts (RFC 8446 section 6) for which the recorder does something else than come back after a while.
mod alert {
    pub(super) const BAD_CERTIFICATE: u64 = 42;
    pub(super) const UNSUPPORTED_CERTIFICATE: u64 = 43;
    pub(super) const CERTIFICATE_EXPIRED: u64 = 45;
    pub(super) const UNKNOWN_CA: u64 = 48;
    pub(super) const ACCESS_DENIED: u64 = 49;
    pub(super) const CERTIFICATE_REQUIRED: u64 = 116;
}

/// What a connection ended with.
#[derive(Debug)]
pub(super) enum End {
    /// Every link has its receipt.
    Done,
    /// Connect again after this delay, as the server said.
    After(Duration),
    /// The connection broke: connect again.
    Broken(String),
    /// Connect again, but no sooner than after a minute: a person is told.
    Away(String),
    /// It cannot go on.
    Fatal(Error),
}

/// What the end of a connection to `server` means for a recorder whose certificate is as `own` says, by its own clock.
pub(super) fn of(error: &ConnectionError, server: &str, own: Validity) -> End {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let why: String =
                String::from_utf8_lossy(&close.reason).chars().filter(|c| !c.is_control()).take(200).collect();
            match Code::from_value(close.error_code.into_inner()) {
                Some(Code::Identity) => fatal(format!("{server} refuses this identity ({why}): enrol again")),
                Some(Code::Protocol) => {
                    End::Away(format!("{server} says that this recorder broke the protocol ({why})"))
                }
                Some(Code::Replaced) => End::Away(format!("another recorder with this identity connected to {server}")),
                _ => End::Broken(format!("{server} closed the connection ({why})")),
            }
        }
        ConnectionError::ConnectionClosed(close) => match alert_of(close.error_code) {
            Some(alert) => alerted(alert, server, own, error),
            None => End::Broken(format!("{server} closed the connection: {error}")),
        },
        // Another machine may answer at the address of the server, for a while.
        ConnectionError::TransportError(inner) if alert_of(inner.code).is_some() => {
            End::Away(format!("{server} is not the server that this recorder was enrolled with: {error}"))
        }
        _ => End::Broken(format!("no connection to {server}: {error}")),
    }
}

fn alerted(alert: u64, server: &str, own: Validity, error: &ConnectionError) -> End {
    let refused = format!("{server} refuses the certificate: {error}");
    match alert {
        alert::BAD_CERTIFICATE | alert::UNSUPPORTED_CERTIFICATE | alert::UNKNOWN_CA | alert::ACCESS_DENIED => {
            fatal(format!("{refused}: enrol again"))
        }
        alert::CERTIFICATE_REQUIRED => fatal(refused),
        alert::CERTIFICATE_EXPIRED if own == Validity::Ended => fatal(format!("{refused}: enrol again")),
        alert::CERTIFICATE_EXPIRED => End::Away(format!("{refused}; one of the clocks is wrong")),
        _ => End::Away(refused),
    }
}

fn fatal(text: String) -> End {
    End::Fatal(Error::new(Kind::Unauthorised, text))
}

/// The alert of TLS that a transport error carries (RFC 9001 section 4.8).
fn alert_of(code: quinn::TransportErrorCode) -> Option<u64> {
    u64::from(code).checked_sub(0x100).filter(|alert| *alert < 0x100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quinn::{ApplicationClose, ConnectionClose, TransportErrorCode, VarInt};

    fn closed(code: u32) -> ConnectionError {
        let close = ApplicationClose { error_code: VarInt::from_u32(code), reason: Bytes::from_static(b"why\x1b[2J") };
        ConnectionError::ApplicationClosed(close)
    }

    fn refused(alert: u8, own: Validity) -> End {
        let error_code = TransportErrorCode::crypto(alert);
        let close = ConnectionClose { error_code, frame_type: None, reason: Bytes::new() };
        of(&ConnectionError::ConnectionClosed(close), "a:1", own)
    }

    #[test]
    fn close_codes_mean_what_the_specification_says() {
        let end = |code: Code| of(&closed(code.value()), "a:1", Validity::Valid);
        assert!(matches!(end(Code::Identity), End::Fatal(_)));
        assert!(matches!(end(Code::Protocol), End::Away(_)) && matches!(end(Code::Replaced), End::Away(_)));
        for later in [Code::Done, Code::Draining, Code::Busy, Code::Internal] {
            assert!(matches!(end(later), End::Broken(why) if !why.contains('\x1b')), "{later:?}");
        }
        assert!(matches!(of(&closed(0x77), "a:1", Validity::Valid), End::Broken(_)), "a code that nobody knows");
        assert!(matches!(of(&ConnectionError::TimedOut, "a:1", Validity::Valid), End::Broken(_)));
    }

    #[test]
    fn alerts_mean_what_the_specification_says() {
        for enrol in [42, 43, 48, 49, 116] {
            assert!(matches!(refused(enrol, Validity::Valid), End::Fatal(_)), "{enrol}");
        }
        for away in [44, 120, 40, 80] {
            assert!(matches!(refused(away, Validity::Ended), End::Away(_)), "{away}");
        }
        assert!(matches!(refused(45, Validity::Ended), End::Fatal(_)), "its own dates say so too");
        assert!(matches!(refused(45, Validity::Valid), End::Away(_)), "one of the clocks is wrong");
        assert!(matches!(refused(45, Validity::NotYet), End::Away(_)));
    }
}
