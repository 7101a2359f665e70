//! `aigaq enrol`: an identity for one recorder.

use std::path::PathBuf;

use super::output;
use crate::clock::Clock;
use crate::enrol::{self, EnrolRequest};
use crate::error::{Error, Kind, Result};
use crate::store::records::RecorderKind;

/// Make the identity of a recorder: a key, and a certificate of the server's own
/// authority.
///
/// Writes cert.pem, key.pem (readable by its owner alone), ca.pem and recorder.toml into
/// the directory given by --out, and prints the recorder's id. Works before the server is
/// first started, while it runs, and after; a running server knows the recorder as soon
/// as it connects.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  aigaq enrol --data ./aigaq-data --kind vehicle --department Astana --label \"Car 7\" --out ./car-7\n  \
                        aigaq record --identity ./car-7 footage.mp4"
)]
pub(super) struct Args {
    /// The server's data directory; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What carries the recorder.
    #[arg(long)]
    kind: RecorderKind,
    /// The police department that owns the recorder, such as "Almaty city".
    #[arg(long, value_name = "NAME")]
    department: String,
    /// What people call it, such as a plate or a post.
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
    /// Where the recorder will find the server; goes into recorder.toml.
    #[arg(long, value_name = "HOST:PORT", default_value = enrol::SERVER_ADDRESS)]
    server: String,
    /// Where the identity is written; must be empty or not there yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When the identity could not be made.
pub(super) fn run(args: Args) -> Result<()> {
    let department = named("--department", &args.department)?;
    let label = if args.label.is_empty() { String::new() } else { named("--label", &args.label)? };
    let request = EnrolRequest { kind: args.kind, department, label, server: Some(args.server) };
    let id = enrol::enrol(&args.data, request, &args.out, &Clock::system())?;
    output::line(&id.to_string())
}

/// A name without surrounding blanks: 1 to 100 characters, none of them a control character.
fn named(option: &str, text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 100 || text.chars().any(char::is_control) {
        return Err(Error::new(Kind::Invalid, format!("{option} wants 1 to 100 characters on one line")));
    }
    Ok(text.to_owned())
}
