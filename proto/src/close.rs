//! Application error codes of QUIC: why a connection was closed or a stream stopped (SPEC.md section 8).

/// An application error code with its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// All is done; nothing is wrong.
    Done,
    /// The peer broke the protocol; connecting again with the same software will not help.
    Protocol,
    /// The identity is unknown, revoked or expired: enrol again.
    Identity,
    /// The same recorder connected again; the newer connection stays.
    Replaced,
    /// The server is going down or moving: connect again after the delay in `Drain`.
    Draining,
    /// The server has no room now: connect again later.
    Busy,
    /// The server failed inside: connect again later.
    Internal,
    /// A link was refused; the reason is in a `Refusal` on the control stream. For streams only.
    Refused,
}

impl Code {
    /// Every code, in the order of its value.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Protocol,
        Self::Identity,
        Self::Replaced,
        Self::Draining,
        Self::Busy,
        Self::Internal,
        Self::Refused,
    ];

    /// The value on the wire.
    #[must_use]
    pub const fn value(self) -> u32 {
        match self {
            Self::Done => 0x00,
            Self::Protocol => 0x01,
            Self::Identity => 0x02,
            Self::Replaced => 0x03,
            Self::Draining => 0x04,
            Self::Busy => 0x05,
            Self::Internal => 0x06,
            Self::Refused => 0x10,
        }
    }

    /// The code with this value on the wire, if it is one.
    #[must_use]
    pub fn from_value(value: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|code| u64::from(code.value()) == value)
    }
}
