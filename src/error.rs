//! The one error of the server: what the other side should do, where it happened, and what brought it about.
//!
//! A kind is defined by what its reader does next, never by where it came from. [`Kind`]'s methods are the one table
//! from a kind to the QUIC close code, the HTTP status, the log level and the metric label. An error is logged once,
//! where it is consumed.

use std::fmt;

use aigaq_proto::close;

/// What the one who gets the error should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Mend the request or the configuration; the same again will fail again.
    Invalid,
    /// Show other credentials.
    Unauthorised,
    /// Ask for something else: it is not there, or not for you.
    NotFound,
    /// The stored bytes are not what was received: do not use them; a person must look.
    Damaged,
    /// Try again later; nothing is wrong with the request.
    Busy,
    /// No more room on disk: try again when there is.
    StorageFull,
    /// The store can no longer be trusted to keep anything: stop acknowledging and exit.
    Fatal,
    /// A bug or a failure of the environment here: report it.
    Internal,
}

impl Kind {
    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthorised => "unauthorised",
            Self::NotFound => "not_found",
            Self::Damaged => "damaged",
            Self::Busy => "busy",
            Self::StorageFull => "storage_full",
            Self::Fatal => "fatal",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthorised => 401,
            Self::NotFound => 404,
            Self::Damaged => 409,
            Self::Busy | Self::StorageFull | Self::Fatal => 503,
            Self::Internal => 500,
        }
    }

    /// The QUIC application close code.
    #[must_use]
    pub const fn close_code(self) -> close::Code {
        match self {
            Self::Invalid | Self::NotFound => close::Code::Protocol,
            Self::Unauthorised => close::Code::Identity,
            Self::Busy | Self::StorageFull => close::Code::Busy,
            Self::Damaged | Self::Fatal | Self::Internal => close::Code::Internal,
        }
    }

    /// The level at which it is logged: `ERROR` means that a person acts.
    #[must_use]
    pub const fn level(self) -> tracing::Level {
        match self {
            Self::Invalid | Self::Unauthorised | Self::NotFound => tracing::Level::DEBUG,
            Self::Busy => tracing::Level::INFO,
            Self::StorageFull => tracing::Level::WARN,
            Self::Damaged | Self::Fatal | Self::Internal => tracing::Level::ERROR,
        }
    }
}

/// An error with its kind, one line of context and its source.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    context: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything that can fail in the server.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a source. `context` is one line that says what could not be done.
    pub fn new(kind: Kind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// The same with what brought it about.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the other side should do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The one line of context, without the source: fit for a peer.
    #[must_use]
    pub fn context(&self) -> &str {
        &self.context
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Adds a kind and a line of context to the error of a library.
pub trait Context<T> {
    /// Turns the error into one of `kind` with this line.
    ///
    /// # Errors
    /// The error of `self`, wrapped.
    fn context(self, kind: Kind, context: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for Result<T, E> {
    fn context(self, kind: Kind, context: impl Into<String>) -> Result<T> {
        self.map_err(|error| Error::new(kind, context).because(error))
    }
}
