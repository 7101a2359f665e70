//! What the commands print: results on standard output, complaints as one line on standard error.
//!
//! A reader that goes away (`aigaq … | head`) is no error and never a panic.

use std::io::Write;

use crate::error::{Context, Kind, Result};
#[cfg(feature = "server")]
use crate::server::Server;

/// Prints one result line.
///
/// # Errors
/// When standard output cannot be written for another reason than that its reader has gone.
pub(super) fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context(Kind::Internal, "cannot write to standard output"),
    }
}

#[cfg(feature = "server")]
/// Prints where a server is, one address a line, each after its name.
///
/// # Errors
/// Those of [`line`].
pub(super) fn addresses(server: &Server) -> Result<()> {
    let scheme = if server.api_tls { "https" } else { "http" };
    line(&format!("quic        {}", server.quic_addr))?;
    line(&format!("api         {scheme}://{}", server.api_addr))?;
    line(&format!("operations  http://{}", server.ops_addr))?;
    line(&format!("enrolment   https://{}", server.enrol_addr))
}

/// Prints one line on standard error; line breaks within `text` become blanks.
pub(super) fn complain(text: &str) {
    let text: Vec<&str> = text.split_whitespace().collect();
    let _ = writeln!(std::io::stderr().lock(), "aigaq: {}", text.join(" "));
}
